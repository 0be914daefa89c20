"""A dataset's labels as classes of the vocabulary: by name in any spelling, by WordNet id, or by index."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from clipmk.errors import InputError
from clipmk.system.locations import json_asset
from clipmk.system.text import counted, listed, noted, one_or_many, quoted
from clipmk.vocabulary.classes import ClassIndex, class_key
from clipmk.vocabulary.vocabulary import Vocabulary, available, load_vocabulary

SHOWN: Final = 5  # most unknown labels in a message
_DESCRIPTORS: Final = "{class: [descriptor, ...]}"

_WORDNET = re.compile(r"(n\d{8})(?:[\s_-].*)?", re.ASCII | re.DOTALL)
_NUMBERED = re.compile(r"(?:n?\d+)[.\s_-]+(.+)", re.ASCII | re.DOTALL)
_COMPLETE = 0.9
"""Share of ImageNet's names that a vocabulary has, from which on it counts as one of the usual lists of all of them."""
_INDEX = re.compile(r"\d{1,9}", re.ASCII)


def resolve_labels(labels: Sequence[str | None], vocabulary: Vocabulary) -> tuple[list[str | None], tuple[str, ...]]:
    """A class of the vocabulary for each label, None where the label is None, and warnings for the user.

    A label is, in this order, a class in any spelling (`clipmk.vocabulary.classes`); a WordNet id of ImageNet-1k
    (`n02123045`, `n02085620-Chihuahua`), whose class is found by its name in the usual lists of them and by its words
    in WordNet; a class behind a number (`001.Name`); an index into the vocabulary's classes, counted from 0. Labels are
    indices only if all of them are: one number among words is a mistake. Raises `InputError` for labels that are no
    classes: it names some, with close classes and how many images have them.
    """
    counts = Counter(label for label in labels if label is not None)
    index = ClassIndex(vocabulary.classes)
    found = {label: name for label in counts if (name := index.find(label)) is not None}
    found |= _by_wordnet([label for label in counts if label not in found], index)
    numbered = {label: match[1] for label in counts.keys() - found.keys() if (match := _NUMBERED.fullmatch(label))}
    numbered = {label: name for label, rest in numbered.items() if (name := index.find(rest)) is not None}
    found |= numbered
    warnings = tuple(
        noted(sorted(numbered), "label is read without its number", "labels are read without their numbers")
    )
    if counts and not found and all(_INDEX.fullmatch(label) for label in counts):
        classes = vocabulary.classes
        found = {label: classes[int(label)] for label in counts if int(label) < len(classes)}
        if found:
            first = min(found, key=int)
            place = f"counted from 0: {first} is {quoted(found[first])}"
            warnings = (f"labels are numbers, used as indices into the vocabulary {quoted(vocabulary.name)}, {place}",)
    unknown = [label for label in counts if label not in found]
    if unknown:
        raise InputError(_refusal(unknown, counts, vocabulary))
    return [None if label is None else found[label] for label in labels], warnings


def missing_vocabulary(labels: Sequence[str | None]) -> str:
    """The message for a missing vocabulary: how to name one, and which shipped ones have the labels of the images."""
    known = list(dict.fromkeys(label for label in labels if label is not None))
    message = "no vocabulary is named; name one with --vocab NAME|FILE"
    if held := _held_by(known):
        return f"{message}; {held}"
    if known:
        some = listed(known, most=SHOWN)
        message += f"; no shipped one has all labels of the dataset: {some}"
    return f"{message}; shipped are {', '.join(available())}; a FILE is an LLM descriptor JSON {_DESCRIPTORS}"


def _held_by(labels: Sequence[str], *, but: str | None = None) -> str:
    """The end of a message: which shipped vocabularies, but one, have all these labels, smallest first, if any."""
    sizes: dict[str, int] = {}
    for name in available().keys() - {but} if labels else ():
        classes = load_vocabulary(name).classes
        index = ClassIndex(classes)
        rest = [label for label in labels if index.find(label) is None]
        if len(_by_wordnet(rest, index)) == len(rest):  # not by index: that would fit any vocabulary
            sizes[name] = len(classes)
    names = sorted(sizes, key=lambda name: (sizes[name], name))
    return f"{' and '.join(names)} {one_or_many(len(names), 'has', 'have')} all labels of the dataset" if names else ""


def _by_wordnet(labels: Iterable[str], index: ClassIndex) -> dict[str, str]:
    """Labels that begin with a WordNet id whose class is in the vocabulary.

    `assets/imagenet_names.json` has the names of each id in the usual lists, ours first, and the words of no other id.
    """
    ids = {label: match[1] for label in labels if (match := _WORDNET.fullmatch(label))}
    if not ids:
        return {}
    table: dict[str, tuple[list[str], list[str]]] = json_asset("imagenet_names.json")
    lists = zip(*(names for names, _ in table.values()), strict=True)
    pairs = [zip(table, each, strict=True) for each in lists]
    known = [{one: found for one, name in each if (found := index.find(name)) is not None} for each in pairs]
    best = max(known, key=len)
    if len(best) < _COMPLETE * len(table):
        best = known[0]
    resolved: dict[str, str] = {}
    for label, one in ids.items():
        _, words = table.get(one, ([], []))
        names = (best.get(one), known[0].get(one), *map(index.find, words))
        name = next((name for name in names if name is not None), None)
        if name is not None:
            resolved[label] = name
    return resolved


def _refusal(unknown: Sequence[str], counts: Mapping[str, int], vocabulary: Vocabulary) -> str:
    """The message about labels that are not classes, most frequent first."""
    images = sum(counts[label] for label in unknown)
    worst = sorted(unknown, key=lambda label: -counts[label])[:SHOWN]
    lines = []
    for label in worst:
        close = ", ".join(map(quoted, difflib.get_close_matches(class_key(label), vocabulary.classes, n=2)))
        lines.append(f"{quoted(label)} ({counted(counts[label], 'image')}{close and f'; close: {close}'})")
    more = ", ..." if len(unknown) > SHOWN else ""
    hint = f"; indices count from 0 to {len(vocabulary.classes) - 1}" if all(map(_INDEX.fullmatch, unknown)) else ""
    held = _held_by(list(counts), but=vocabulary.name)
    return (
        f"{len(unknown):,} of {counted(len(counts), 'label')}, of {counted(images, 'image')}, "
        f"{one_or_many(len(unknown), 'is not a class', 'are not classes')} of the vocabulary "
        f"{quoted(vocabulary.name)}: {', '.join(lines)}{more}{hint}; name the vocabulary with --vocab NAME|FILE"
        + (f"; {held}" if held else "")
    )
