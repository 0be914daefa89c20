"""Questionable entries of a vocabulary: (near) duplicates, leaked class names, classes too alike, texts too long."""

from __future__ import annotations

import difflib
import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmk.system.locations import assets_dir

if TYPE_CHECKING:
    from clipmk.vocabulary.vocabulary import Vocabulary

SIMILAR = 0.75  # two words in otherwise equal descriptors are similar when difflib's ratio is above this

PREFIX = 3
"""... and when they share this many first letters; this also keeps the number of comparisons small."""

BUCKET_LIMIT = 40  # most descriptors compared pairwise within one group of otherwise equal ones
SHORTEST = 3  # characters; shorter descriptors are odd

LONGEST = 60
"""Characters; a longer descriptor is odd if it is also more than three times as long as the median."""

OWN_DESCRIPTORS = 2
"""Descriptors a class should have that another class lacks: with only one, a model that misjudges it cannot tell the
two classes apart."""

EXAMPLES = 5  # examples per kind in `VocabularyReport.problems`

_ARTICLES = frozenset({"a", "an", "the"})

_SMALL_WORDS = _ARTICLES | {"and", "at", "by", "for", "from", "in", "of", "on", "or", "to", "with"}
"""Words of a class name that do not identify it."""

_PLURAL_ONLY = frozenset({"briefs", "goods", "overalls", "shorts", "tights"})
"""Words whose singular is another word: "a short tail" does not name shorts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyReport:
    """Findings of `check`."""

    duplicates: tuple[tuple[str, ...], ...]
    """Groups of classes or of descriptors that differ only in case and spaces."""
    near_duplicates: tuple[tuple[str, str], ...]
    """Descriptors that differ in articles, plurals, order or one similar word."""
    leaks: tuple[tuple[str, str], ...]
    """(class, descriptor that names it)."""
    own_words: tuple[tuple[str, str], ...]
    """(class, one of its descriptors that contains a word of its name)."""
    outliers: tuple[str, ...]
    """Descriptors of odd length."""
    same_descriptors: tuple[tuple[str, ...], ...]
    """Groups of classes with the same set of descriptors."""
    alike: tuple[tuple[str, str], ...]
    """(class, another class that has almost all of its descriptors)."""
    undescribed: tuple[str, ...]
    """Classes without descriptors, where others have some."""

    @property
    def problems(self) -> list[str]:
        """One line per kind of problem, with a few examples."""
        kinds = (
            ("equal except for case and spaces", [" / ".join(map(repr, group)) for group in self.duplicates]),
            ("nearly equal descriptors", [f"{one!r} / {other!r}" for one, other in self.near_duplicates]),
            ("descriptors that name a class", [f"{text!r} ({name!r})" for name, text in self.leaks]),
            (
                "descriptors with a word of their class's name",
                [f"{text!r} ({name!r})" for name, text in self.own_words],
            ),
            ("descriptors of odd length", list(map(repr, self.outliers))),
            ("classes with the same descriptors", [" / ".join(map(repr, group)) for group in self.same_descriptors]),
            ("classes hard to tell from another", [f"{one!r} / {other!r}" for one, other in self.alike]),
            ("classes without descriptors", list(map(repr, self.undescribed))),
        )
        lines = []
        for kind, found in kinds:
            if found:
                more = f", and {len(found) - EXAMPLES} more" if len(found) > EXAMPLES else ""
                lines.append(f"{len(found)} {kind}: {', '.join(found[:EXAMPLES])}{more}")
        return lines


def check(vocabulary: Vocabulary, *, own: int = OWN_DESCRIPTORS) -> VocabularyReport:
    """Find what weakens explanations: concepts counted twice, descriptors that name a class, classes too alike.

    Every class should have `own` descriptors that another lacks. The cost grows about linearly with the vocabulary.
    """
    classes, descriptors, by_class = vocabulary.classes, vocabulary.descriptors, vocabulary.by_class
    leaks = dict.fromkeys(_leaks(classes, descriptors))
    longest = max(LONGEST, 3 * statistics.median(map(len, descriptors)))
    return VocabularyReport(
        duplicates=tuple(group for texts in (classes, descriptors) for group in _groups((_plain(t), t) for t in texts)),
        near_duplicates=tuple(_near_duplicates(descriptors)),
        leaks=tuple(leaks),
        own_words=tuple(pair for pair in _own_words(by_class) if pair not in leaks),
        outliers=tuple(text for text in descriptors if not SHORTEST <= len(text) <= longest),
        same_descriptors=tuple(_groups((frozenset(texts), name) for name, texts in by_class.items())),
        alike=tuple(_alike(by_class, own)),
        undescribed=tuple(name for name in classes if name not in by_class) if by_class else (),
    )


def context_notes(vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """Notes on texts that are longer than the context of most CLIPs (77 tokens), and of embedded models (24 tokens)."""
    from clipmk.backbones.library import simple_tokenizer_class  # noqa: PLC0415 - loads torch
    from clipmk.backbones.text import cached, cut_texts  # noqa: PLC0415
    from clipmk.vocabulary.embeddings import cut_note, sections_of  # noqa: PLC0415

    own = assets_dir() / "models" / "vit-s8" / "bpe.txt.gz"
    tokenizer = simple_tokenizer_class()
    kinds = (
        ("most models (77 tokens)", cached(tokenizer(context_length=77))),
        ("embedded models (24 tokens)", cached(tokenizer(bpe_path=str(own), context_length=24))),
    )
    sections = sections_of(vocabulary)
    most, embedded = (
        list(filter(None, (cut_note(one, cut_texts(fitting, one.texts()), name) for one in sections)))
        for name, fitting in kinds
    )
    return most, embedded


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _groups(keyed: Iterable[tuple[object, str]]) -> Iterator[tuple[str, ...]]:
    """Texts with the same key, where there are several, in first-seen order."""
    groups: dict[object, list[str]] = defaultdict(list)
    for key, text in keyed:
        groups[key].append(text)
    return (tuple(group) for group in groups.values() if len(group) > 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _forms(word: str) -> set[str]:
    """The word and its possible singulars: foxes -> foxes, foxe, fox."""
    forms = {word}
    if word in _PLURAL_ONLY:
        return forms
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms.add(word[:-1])
    if len(word) > 4 and word.endswith("es"):
        forms.add(word[:-2])
    if len(word) > 4 and word.endswith("ies"):
        forms.add(word[:-3] + "y")
    return forms


def plain_words(text: str) -> tuple[str, ...]:
    """The words in lower case, singular and without articles; all words where nothing else is left."""
    words = _words(text)
    return tuple(min(_forms(word), key=len) for word in words if word not in _ARTICLES) or (*words, text)


def _near_duplicates(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs with equal cores, and pairs whose cores differ in one similar word.

    Descriptors meet in a bucket when they agree in all words but one and those two begin alike: no quadratic search.
    """
    distinct = list({_plain(text): text for text in reversed(texts)}.values())[::-1]
    cores = [(tuple(sorted(plain_words(text))), text) for text in distinct]
    for group in _groups(cores):
        yield from ((group[0], other) for other in group[1:])
    buckets: dict[tuple[tuple[str, ...], str], dict[str, str]] = defaultdict(dict)
    for core, text in cores:
        for index, word in enumerate(core):
            rest = core[:index] + core[index + 1 :]
            buckets[rest, word[:PREFIX]].setdefault(word, text)
    for bucket in buckets.values():
        for one, other in itertools.combinations(list(bucket)[:BUCKET_LIMIT], 2):
            if difflib.SequenceMatcher(None, one, other).ratio() > SIMILAR:
                yield bucket[one], bucket[other]


def _leaks(classes: Sequence[str], descriptors: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Whole-word occurrences of a class name, singular or plural, found by looking up runs of words."""
    names: dict[tuple[str, ...], str] = {}
    for name in classes:
        words = _words(name)
        for form in _forms(words[-1]) if words else ():
            names.setdefault((*words[:-1], form), name)
    longest = max((len(key) for key in names), default=0)
    for text in descriptors:
        found = dict.fromkeys(names[run] for run in _runs(_words(text), longest) if run in names)
        yield from ((name, text) for name in found)


def _runs(words: Sequence[str], longest: int) -> Iterator[tuple[str, ...]]:
    for start in range(len(words)):
        for stop in range(start + 1, min(len(words), start + longest) + 1):
            for form in _forms(words[stop - 1]):
                yield (*words[start : stop - 1], form)


def _own_words(by_class: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Descriptors of a class with a word of its name, singular or plural: half a name gives most of it away."""
    for name, texts in by_class.items():
        given = {form for word in _words(name) if word not in _SMALL_WORDS for form in _forms(word)}
        yield from ((name, text) for text in texts if any(not given.isdisjoint(_forms(word)) for word in _words(text)))


def _alike(by_class: Mapping[str, Sequence[str]], own: int) -> Iterator[tuple[str, str]]:
    """Classes of which another has all descriptors except fewer than `own`; equal sets are reported separately.

    Such a class shares at least one of any `own` descriptors, so only classes that share the rarest ones are compared.
    """
    sets = {name: frozenset(texts) for name, texts in by_class.items()}
    holders: dict[str, list[str]] = defaultdict(list)
    for name, texts in sets.items():
        for text in texts:
            holders[text].append(name)
    for name, texts in sets.items():
        rarest = sorted(texts, key=lambda text: (len(holders[text]), text))[:own]
        for other in dict.fromkeys(other for text in rarest for other in holders[text]):
            if len(texts - sets[other]) < own and texts != sets[other]:
                yield name, other
