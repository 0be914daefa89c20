"""A vocabulary from answers of a language model: JSON inside prose, several answers, varying wordings."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from clipmk.errors import VocabularyError, raised_as, suggest
from clipmk.system.files import decoded
from clipmk.system.text import listed, quoted
from clipmk.vocabulary.classes import class_key
from clipmk.vocabulary.lint import plain_words
from clipmk.vocabulary.reader import checked_text, checked_texts, cleaned
from clipmk.vocabulary.vocabulary import IMAGENET_TEMPLATES, Vocabulary

MISSING = 5  # most classes without an answer in a message

_FENCED = re.compile(r"^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_THOUGHT = re.compile(r"</(think|thinking|thought|reasoning)>", re.IGNORECASE)
"""The end of what a model writes before its answer; some leave out the beginning."""
_OBJECT = re.compile(r"\{(?=\s*[\"}])")  # how a JSON object begins, unlike braces in prose
_BULLET = re.compile(r"^([-*•–]|\d+[.)])\s+")
_EMPHASIS = "*_`"  # signs around a word that is set in bold, in italics or as code
_OPENING = re.compile(r"^(it )?(has|have|with) ", re.IGNORECASE)


def from_answers(
    answers: Iterable[tuple[str, bytes | str]],
    *,
    name: str,
    classes: Sequence[str] = (),
    templates: Sequence[str] = IMAGENET_TEMPLATES,
) -> Vocabulary:
    """Join answers of the form `{class: [descriptor, ...]}` and choose one wording for each descriptor.

    Each answer comes with a label for messages. Thoughts before the answer are ignored; full stops, bullets, numbers,
    asterisks, "has" and the capital of a first word are removed. Of wordings that differ only in articles, plurals and
    case, the most frequent one is used. A class that is answered twice keeps all its descriptors. `classes` has all
    classes in order, or none: then they are those that were answered. Raises `VocabularyError` for an answer without
    intact JSON, an unknown class or one without an answer.
    """
    answered = _joined(answers, classes)
    by_class = _with_one_wording({one: answered[one] for one in classes or answered})
    descriptors = tuple(dict.fromkeys(text for texts in by_class.values() for text in texts))
    return Vocabulary(
        name=checked_text(name, "name"),
        classes=tuple(by_class),
        templates=tuple(templates),
        descriptors=descriptors,
        by_class=by_class,
    )


def as_text(vocabulary: Vocabulary) -> str:
    """The full form with one line per class, like the shipped vocabularies."""
    head = {"name": vocabulary.name, "templates": list(vocabulary.templates)}
    lines = [f" {_json(key)}: {_json(value)}," for key, value in head.items()]
    rows = [f"  {_json(one)}: {_json(list(texts))}" for one, texts in vocabulary.by_class.items()]
    return "\n".join(["{", *lines, ' "by_class": {', ",\n".join(rows), " }", "}", ""])


def _joined(answers: Iterable[tuple[str, bytes | str]], classes: Sequence[str]) -> dict[str, list[str]]:
    """The descriptors of each class in all answers; names are spelled as in the list, or as first seen."""
    joined: dict[str, list[str]] = {}
    spelled, known = {class_key(one): one for one in classes}, set(classes)
    for label, data in answers:
        for answered, texts in _answered(decoded(data, label, VocabularyError), label):
            one = answered if answered in known else spelled.setdefault(class_key(answered), answered)
            if classes and one not in known:
                raise VocabularyError(f"{label}: {answered!r} is not a class of the list; {suggest(answered, classes)}")
            joined.setdefault(one, []).extend(texts)
    missing = [one for one in classes if one not in joined]
    if missing:
        some = listed(missing, most=MISSING)
        raise VocabularyError(f"{len(missing)} of {len(classes)} classes have no answer: {some}")
    return joined


class _Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object as its (key, value) pairs, repeated keys included."""

    __slots__ = ()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _answered(text: str, label: str) -> Iterator[tuple[str, list[str]]]:
    """Classes with tidied descriptors, from all JSON objects in an answer."""
    found = False
    for thought in list(_THOUGHT.finditer(text))[-1:]:
        text = "\n" * text.count("\n", 0, thought.end()) + text[thought.end() :]
    fenced = ["\n" * text.count("\n", 0, match.start(1)) + match[1] for match in _FENCED.finditer(text)]
    for part in fenced or [text]:  # on the lines where it stands, for messages
        for pairs in _objects(part, label):
            found = True
            for key, value in pairs:
                if isinstance(value, _Pairs):
                    raise VocabularyError(f"{label}: {key!r} is an object; a list of texts is needed")
                one = checked_text(cleaned(key, []).strip(_EMPHASIS), f"{label}: a class")
                yield one, [_tidy(text) for text in checked_texts(cleaned(value, []), f"{label}: {one!r}")]
    if not found:
        raise VocabularyError(f"{label} holds no JSON object {{class: [descriptor, ...]}}")


def _objects(text: str, label: str) -> Iterator[_Pairs]:
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    stop = 0
    while match := _OBJECT.search(text, stop):
        with raised_as(VocabularyError, f"{label} is truncated or not JSON", ValueError, RecursionError):
            pairs, stop = decoder.raw_decode(text, match.start())
        yield pairs


def _tidy(text: str) -> str:
    """A bare phrase, as the prompt asks; "Pale plumage" loses its capital, "T-shirt" and "USB port" keep theirs."""
    text = _OPENING.sub("", _BULLET.sub("", " ".join(text.split())).strip(_EMPHASIS))
    tidied = text.rstrip(".;, " + _EMPHASIS)
    if not tidied:
        raise VocabularyError(f"nothing is left of the descriptor {quoted(text)}")
    word = tidied.split(" ", 1)[0]
    common = tidied.startswith("A ") or (word[1:2].isalpha() and word[1:].islower())
    return tidied[0].lower() + tidied[1:] if common else tidied


def _with_one_wording(by_class: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Each descriptor in its most frequent wording; the first one of equally frequent ones."""
    wordings: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for texts in by_class.values():
        for text in texts:
            wordings[plain_words(text)][text] += 1
    chosen = {key: max(counted, key=lambda text: counted[text]) for key, counted in wordings.items()}
    return {one: tuple(dict.fromkeys(chosen[plain_words(text)] for text in texts)) for one, texts in by_class.items()}
