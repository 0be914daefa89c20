"""One row per image: what two models say of every image, in columns of numbers; chosen, sorted and counted.

Images are known by their place, 0-based in the dataset's order; classes and concepts by codes. 100,000 images take
megabytes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmk.browse.filters import NUMBERS, Filter, FilterError, Term, parse_filter
from clipmk.browse.notes import Notes
from clipmk.errors import UsageError, suggest
from clipmk.system.text import printable, quoted

Codes = NDArray[np.int32]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Results = NDArray[np.void]
"""The numbers of one model on every image, by `RESULTS`; NaN where there are none."""

UNKNOWN: Final = -1
"""Code where there is no class."""
_NUMBERS: Final = NUMBERS[:-1]
RESULTS: Final = np.dtype([(name, np.float64) for name in _NUMBERS])
"""p of the class swap, probability, number of mutual concepts, MI, AUC."""
SORTS: Final = ("image", "truth", "predicted", *NUMBERS, "differs", "note")
"""What rows are sorted by; with `b.` before it, by what the second model says."""
DIFFERENCES: Final = 15
"""Concepts in a `Difference`."""

_COMPARE: Final[dict[str, Callable[[Floats, float], Mask]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": lambda values, number: (values < number) | (values > number),  # NaN is neither
}


class Concepts(NamedTuple):
    """The vision concepts of one model on all images, flattened, sorted by place; of an image the best first."""

    places: Places
    codes: Codes
    mutual: Mask


class ImageResult(NamedTuple):
    """What one model says of one image; None where it says nothing."""

    predicted: str | None
    correct: bool | None
    probability: float | None
    mi: float | None
    auc: float | None
    p: float | None
    m: int | None
    error: str | None


class ImageRow(NamedTuple):
    """One image as the table shows it."""

    place: int
    key: str
    path: str | None
    """None where it is rendered."""
    label: str | None
    results: tuple[ImageResult, ...]
    """Of `ImageTable.a`, and of `b` if there is one."""
    agreement: float | None
    """Share of the models' predictions that are the most frequent one."""
    differs_in: tuple[str, ...]
    """Concepts that are mutual in one of the two models, the most important first."""
    marked: bool
    note: str


class ClassCount(NamedTuple):
    """The images of one true class; of one class predicted by the first model where there are no labels."""

    name: str
    images: int
    """That the first model explained."""
    wrong_a: int | None
    """None: there are no labels."""
    wrong_b: int | None
    auc_a: float
    m_a: float
    confused_with: str | None
    """The most frequent wrong prediction of the first model."""


class ConceptCount(NamedTuple):
    """In how many images a concept is mutual."""

    text: str
    mutual_a: int
    mutual_b: int
    only_a: int
    """Mutual in the first model only, of images that both explained."""
    only_b: int
    wrong_a: int
    """Mutual in the first model, which predicts wrong."""


class Difference(NamedTuple):
    """Two models on the images that both explained."""

    images: int
    same: int
    """Predictions that are the same."""
    only_a: int
    """Images that only the first gets right; 0 without labels, as the next three."""
    only_b: int
    both_right: int
    both_wrong: int
    concepts: tuple[ConceptCount, ...]
    """That are mutual in one model only, the most frequent of these first; at most `DIFFERENCES`."""


class Names(list[str]):
    """Texts by their codes, in order of appearance."""

    def __init__(self) -> None:
        super().__init__()
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The code of a text, which is added if it is new."""
        code = self._codes.setdefault(text, len(self))
        self += [text] if code == len(self) else []
        return code

    def codes(self, column: pa.ChunkedArray) -> Codes:
        """The codes of a column of texts, `UNKNOWN` for null."""
        found = [np.empty(0, np.int32)]
        for chunk in column.chunks:
            encoded = chunk.dictionary_encode()
            own = np.array([*map(self.code, encoded.dictionary.to_pylist()), UNKNOWN], np.int32)
            found.append(own[encoded.indices.fill_null(len(own) - 1).to_numpy()])
        return np.concatenate(found)


class ImageTable:
    """Images, and what models say of them; subclasses provide the latter.

    `keys` are the images' names, `labels` their true classes (null: not known), `models` ids, at least one.
    """

    complete = True
    """Whether a class or concept that no image has is an error in a filter."""

    def __init__(self, keys: pa.Array, labels: pa.ChunkedArray, models: Sequence[str], notes: Notes) -> None:
        self.class_names, self.concept_names = Names(), Names()
        self.keys, self.labels, self.notes = keys, self.class_names.codes(labels), notes
        self.models = tuple(models)
        self.predicted = np.full((len(models), len(keys)), UNKNOWN, np.int32)
        """Codes of the predicted classes, (models, images)."""
        self.warnings: list[str] = []
        """What is missing, damaged or older than it could be."""
        self.a, self.b = models[0], models[1] if len(models) > 1 else None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_labels(self) -> bool:
        """Whether the true class of any image is known."""
        return bool((self.labels != UNKNOWN).any())

    def path(self, place: int) -> str | None:
        """The file that holds an image."""
        raise NotImplementedError

    def results(self, model: str) -> Results:
        """The numbers of a model."""
        raise NotImplementedError

    def errors(self, model: str) -> dict[int, str]:
        """Why a model failed, by place."""
        raise NotImplementedError

    def concepts(self, model: str) -> Concepts:
        """The vision concepts of a model."""
        raise NotImplementedError

    def use(self, a: str, b: str | None = None) -> None:
        """Choose the first and the second model; UsageError if the table does not have it."""
        for model in filter(None, (a, b)):
            if model not in self.models:
                raise UsageError(f"model {quoted(model)} is not in the table; {suggest(model, self.models)}")
        self.a, self.b = a, None if b == a else b

    def choose(self, wanted: Filter | str = "", sort: str = "image", *, descending: bool = False) -> Places:
        """Places of the images that a filter accepts, sorted by one of `SORTS`; what has no value comes last.

        FilterError if the filter cannot be parsed or answered, UsageError if there is no such column.
        """
        parsed = parse_filter(wanted) if isinstance(wanted, str) else wanted
        accepted = np.ones(len(self), np.bool_)
        for term in parsed.terms:
            accepted &= self._mask(term, parsed.text) ^ term.negated
        chosen, values = np.flatnonzero(accepted), self._values(sort)
        return chosen[np.argsort(-values[chosen] if descending else values[chosen], kind="stable")]

    def row(self, place: int) -> ImageRow:
        """What the table shows of one image."""
        key = self.keys[place].as_py()
        note = self.notes[key]
        return ImageRow(
            place=place,
            key=key,
            path=self.path(place),
            label=self._class(self.labels[place]),
            results=tuple(self._result(model, place) for model in (self.a, self.b) if model),
            agreement=_number(agreement(self.predicted[:, [place]])[0]),
            differs_in=self._differs_in(place),
            marked=note.marked,
            note=note.text,
        )

    def wrong(self, places: Places) -> int | None:
        """How many images the first model predicts wrong; None where there are no labels."""
        return int((self._correct("a")[places] == 0).sum()) if self.has_labels else None

    def class_counts(self, places: Places) -> list[ClassCount]:
        """Images by true class, those with most wrong predictions first."""
        groups = self.labels if self.has_labels else self._predicted("a")
        places = places[(groups[places] != UNKNOWN) & (self._predicted("a")[places] != UNKNOWN)]
        groups, predicted, size = groups[places], self._predicted("a")[places], len(self.class_names)
        a, b, numbers = self._correct("a")[places], self._correct("b")[places], self.results(self.a)[places]
        images, wrong_a, wrong_b = (np.bincount(groups[mask], minlength=size) for mask in (a < 2, a == 0, b == 0))
        auc, m = (np.bincount(groups, numbers[name], size) / np.maximum(images, 1) for name in ("auc", "m"))
        pairs, times = np.unique(groups[a == 0].astype(np.int64) * size + predicted[a == 0], return_counts=True)
        confused = {pair // size: self.class_names[pair % size] for pair in pairs[np.argsort(times)].tolist()}
        found = [
            ClassCount(
                self.class_names[code],
                int(images[code]),
                int(wrong_a[code]) if self.has_labels else None,
                int(wrong_b[code]) if self.has_labels and self.b else None,
                float(auc[code]),
                float(m[code]),
                confused.get(code),
            )
            for code in np.flatnonzero(images).tolist()
        ]
        return sorted(found, key=lambda one: (-(one.wrong_a or 0), -one.images, one.name))

    def concept_counts(self, places: Places) -> list[ConceptCount]:
        """Concepts that are mutual in either model, the most frequent in the first one first."""
        a, b = self._mutual("a", places), self._mutual("b", places)
        size, both = len(self.concept_names), (self._predicted("a") != UNKNOWN) & (self._predicted("b") != UNKNOWN)
        only_a, only_b = (np.setdiff1d(*pair, assume_unique=True) for pair in ((a, b), (b, a)))
        kinds = (a, b, only_a[both[only_a >> 32]], only_b[both[only_b >> 32]], a[self._correct("a")[a >> 32] == 0])
        counts = np.stack([np.bincount(pairs & 0xFFFFFFFF, minlength=size) for pairs in kinds], axis=1)
        found = [ConceptCount(self.concept_names[row], *counts[row].tolist()) for row in np.flatnonzero(counts.any(1))]
        return sorted(found, key=lambda one: (-one.mutual_a, -one.mutual_b, one.text))

    def difference(self, places: Places) -> Difference:
        """What separates the two models over some images; UsageError if there is one model."""
        if self.b is None:
            raise UsageError("the table shows one model; choose a second one to see what separates them")
        predicted = np.stack([self._predicted(side)[places] for side in "ab"])
        a, b = predicted[:, (predicted != UNKNOWN).all(axis=0)]
        right_a, right_b = (self._correct(side)[places] for side in "ab")
        concepts = [one for one in self.concept_counts(places) if one.only_a or one.only_b]
        concepts.sort(key=lambda one: -(one.only_a + one.only_b))
        only_a, only_b, both, none = (
            int(((right_a == one) & (right_b == other)).sum()) for one, other in ((1, 0), (0, 1), (1, 1), (0, 0))
        )
        same = int((a == b).sum())
        return Difference(len(a), same, only_a, only_b, both, none, tuple(concepts[:DIFFERENCES]))

    def _predicted(self, side: str) -> Codes:
        """Of the first or the second model; `UNKNOWN` everywhere if there is none."""
        if side == "b" and self.b is None:
            return np.full(len(self), UNKNOWN, np.int32)
        predicted: Codes = self.predicted[self.models.index(self._model(side))]
        return predicted

    def _correct(self, side: str) -> NDArray[np.int8]:
        """1 or 0 for each image, `UNKNOWN` without a label or a prediction."""
        known = (self.labels != UNKNOWN) & (self._predicted(side) != UNKNOWN)
        return np.where(known, self._predicted(side) == self.labels, UNKNOWN).astype(np.int8)

    def _mutual(self, side: str, places: Places) -> Places:
        """Place * 2 ** 32 + code, for each mutual concept of some images."""
        if side == "b" and self.b is None:
            return np.empty(0, np.int64)
        found, chosen = self.concepts(self._model(side)), np.zeros(len(self), np.bool_)
        chosen[places] = True
        kept = found.mutual & chosen[found.places]
        return (found.places[kept] << 32) + found.codes[kept]

    def _mask(self, term: Term, text: str) -> Any:
        """Which images a term accepts, before it is negated."""
        if self.b is None and (term.side == "b" or term.kind in {"same", "only"}):
            raise FilterError(text, term.position, "the table shows one model; choose a second one to compare")
        if not self.has_labels and (term.kind == "only" or term.name in {"wrong", "right", "class"}):
            raise FilterError(text, term.position, "there are no labels: no true class is known")
        a, b = self._predicted("a"), self._predicted("b")
        match term.kind:
            case "number":
                number = float(term.value.rstrip("%")) / (100 if term.value.endswith("%") else 1)
                return _COMPARE[term.operator](self._values(f"{term.side}.{term.name}"), number)
            case "same":
                return (a != UNKNOWN) & (b != UNKNOWN) & ((a == b) == (term.operator == "=="))
            case "only":
                other = "a" if term.side == "b" else "b"
                return (self._correct(term.side) == 1) & (self._correct(other) == 0)
            case "name":
                return _numpy(pc.match_substring(self.keys, term.value, ignore_case=True))
            case "flag":
                return self._flagged(term.name, term.side)
        return self._holding(term, text)

    def _flagged(self, flag: str, side: str = "a") -> Any:
        """Images with one of `filters.FLAGS`."""
        if flag in {"marked", "noted"}:
            return _numpy(pc.is_in(self.keys, pa.array(self.notes.keys(marked=flag == "marked"), pa.string())))
        if flag == "failed":
            return np.isin(np.arange(len(self)), list(self.errors(self._model(side))))
        return self._correct(side) == (flag == "right")

    def _holding(self, term: Term, text: str) -> Any:
        """Images of a class, or with a concept."""
        is_class = term.name in {"class", "predicted"}
        found = None if is_class else self.concepts(self._model(term.side))  # first: it adds names
        names = self.class_names if is_class else self.concept_names
        wanted = term.value.casefold()
        code = next((code for code, name in enumerate(names) if name.casefold() == wanted), None)
        if code is None and self.complete:
            near = suggest(term.value, [name for name in names if wanted in name.casefold()] or names)
            noun = "class" if is_class else "concept"
            raise FilterError(text, term.position, f"no image has the {noun} {quoted(term.value)}; {printable(near)}")
        if found is None:
            return (self.labels if term.name == "class" else self._predicted(term.side)) == code
        mask = np.zeros(len(self), np.bool_)
        mask[found.places[(found.codes == code) & (found.mutual | (term.name == "seen"))]] = True
        return mask

    def _values(self, sort: str) -> Any:
        """A number for each image to sort by, NaN where there is none."""
        side, _, name = sort.rpartition(".")
        if name not in SORTS or side not in {"", "a", "b"}:
            raise UsageError(f"there is no column {quoted(sort)} to sort by; {suggest(sort, SORTS)}")
        match name:
            case "image":
                return np.arange(len(self), dtype=np.float64)
            case "truth" | "predicted":
                ranks = np.append(np.argsort(np.argsort(self.class_names)), np.nan)  # `UNKNOWN` is the last one
                return ranks[self.labels if name == "truth" else self._predicted(side)]
            case "agree":
                return agreement(self.predicted)
            case "note":
                return 2.0 * self._flagged("marked") + self._flagged("noted")
            case "differs":
                places = np.arange(len(self))
                pairs = np.setxor1d(self._mutual("a", places), self._mutual("b", places), assume_unique=True)
                return np.bincount(pairs >> 32, minlength=len(self)).astype(np.float64)
        return self.results(self._model(side))[name]

    def _model(self, side: str) -> str:
        """The id of the first or the second model."""
        return self.b or self.a if side == "b" else self.a

    def _class(self, code: int) -> str | None:
        return None if code == UNKNOWN else self.class_names[code]

    def _result(self, model: str, place: int) -> ImageResult:
        code, label = self.predicted[self.models.index(model), place], self.labels[place]
        found = {name: _number(value) for name, value in zip(_NUMBERS, self.results(model)[place], strict=True)}
        return ImageResult(
            predicted=self._class(code),
            correct=None if UNKNOWN in {code, label} else bool(code == label),
            probability=found["prob"],
            mi=found["mi"],
            auc=found["auc"],
            p=found["p"],
            m=None if found["m"] is None else int(found["m"]),
            error=self.errors(model).get(place),
        )

    def _differs_in(self, place: int) -> tuple[str, ...]:
        if self.b is None:
            return ()
        own, other = (self._mutual_at(model, place) for model in (self.a, self.b))
        ranked = [
            *((rank, text) for rank, text in enumerate(own) if text not in other),
            *((rank, text) for rank, text in enumerate(other) if text not in own),
        ]
        return tuple(text for _, text in sorted(ranked, key=itemgetter(0)))

    def _mutual_at(self, model: str, place: int) -> list[str]:
        """The mutual concepts of an image, the most important first."""
        found = self.concepts(model)
        inside = slice(*np.searchsorted(found.places, (place, place + 1)))
        return [self.concept_names[code] for code in found.codes[inside][found.mutual[inside]]]


def flattened(pieces: Iterable[Concepts]) -> Concepts:
    """Concepts in pieces as one, sorted by place."""
    nothing = Concepts(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_))
    places, codes, mutual = map(np.concatenate, zip(nothing, *pieces, strict=True))
    order = np.argsort(places, kind="stable")
    return Concepts(places[order], codes[order], mutual[order])


def agreement(predicted: Codes) -> Floats:
    """Of each image, the share of predictions that are the most frequent one; `predicted` is (models, images)."""
    ordered = np.sort(predicted, axis=0)
    times = (ordered != UNKNOWN).astype(np.float64)
    count = times.sum(axis=0)
    for number in range(1, len(ordered)):  # of equal ones, count how many came before
        times[number] += np.where(ordered[number] == ordered[number - 1], times[number - 1], 0)
    most: Floats = np.where(count, times.max(axis=0), np.nan) / np.maximum(count, 1)
    return most


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _numpy(found: pa.Array) -> Mask:
    mask: Mask = found.to_numpy(zero_copy_only=False)
    return mask
