"""One row per image: what models say of it, as an Arrow table; chosen, sorted and counted for two of the models.

Images are known by their place, 0-based in the dataset's order; classes and concepts have codes.
"""

import contextlib
import operator
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmk.browse.filters import NUMBERS, TEXTS, Filter, FilterError, Term, parse_filter
from clipmk.browse.notes import Notes
from clipmk.errors import UsageError, suggest
from clipmk.system.text import printable, quoted

Codes = NDArray[np.int32]
Places = NDArray[np.int64]

UNKNOWN: Final = -1  # code where there is no class
_TYPES: Final = {"predicted": pa.string(), "error": pa.string(), "m": pa.int32()}
MODEL: Final = pa.schema(
    [(name, _TYPES.get(name, pa.float64())) for name in ("predicted", "error", "p", "prob", "m", "mi", "auc")]
)
"""Columns of one model."""
SORTS: Final = ("image", "truth", "predicted", *NUMBERS, "differs", "note")
"""What rows are sorted by; with `b.` before it, by what the second model says."""

_CODE_BITS: Final = 32


class ImageResult(NamedTuple):
    """What one model says of one image; None where it says nothing."""

    correct: bool | None
    predicted: str | None
    error: str | None
    p: float | None
    probability: float | None
    m: int | None
    mi: float | None
    auc: float | None


class ImageRow(NamedTuple):
    """One image; results are those of the first model, and of the second if there is one."""

    place: int
    key: str
    label: str | None
    results: tuple[ImageResult, ...]
    agreement: float | None
    """Share of all models' predictions that are the most frequent one."""
    differs_in: tuple[str, ...]
    """Concepts that are mutual in one of the two models, the most important first."""
    marked: bool
    note: str


class ClassCount(NamedTuple):
    """Explained images of one true class, or predicted class where there are no labels; means are the first model's."""

    name: str
    images: int
    wrong_a: int | None
    wrong_b: int | None
    auc_a: float
    m_a: float
    confused_with: str | None
    """The most frequent wrong prediction."""


class ConceptCount(NamedTuple):
    """Images in which a concept is mutual: in a model, in one only of images that both explained, predicted wrong."""

    text: str
    mutual_a: int
    mutual_b: int
    only_a: int
    only_b: int
    wrong_a: int


class Concepts(NamedTuple):
    """The vision concepts of images, flattened, sorted by place, the best first: of which image, and whether mutual."""

    places: Codes
    codes: Codes
    mutual: NDArray[np.bool_]


class ImageTable:
    """Images, and what models say of them; subclasses say where that comes from.

    `names` are the images' names, `truth` their true classes (null: not known), `models` ids, at least one.
    """

    complete = True
    """Whether a class or concept that no image has is an error in a filter."""

    def __init__(self, names: pa.ChunkedArray, truth: pa.ChunkedArray, models: Sequence[str], notes: Notes) -> None:
        self._images = pa.table({"image": np.arange(len(names)), "name": names, "truth": truth})
        self._made_of: tuple[object, ...] = (None, None, None)  # what `_rows` was made of
        self._data: dict[str, tuple[pa.Table, Concepts]] = {}
        self.notes, self.has_labels = notes, truth.null_count < len(truth)
        self.models, self.a, self.b = tuple(models), models[0], next(iter(models[1:]), None)
        self.classes: dict[str, int] = {}  # predicted class -> code
        self.concepts: dict[str, int] = {}
        self.predicted = np.full((len(models), len(names)), UNKNOWN, np.int32)
        """Codes of the predicted classes, (models, images)."""
        self.warnings: list[str] = []  # what is missing, damaged or older than it could be
        self.closing = contextlib.ExitStack()  # removes copies of images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, model: str) -> tuple[pa.Table, Concepts]:
        """What a model says, the columns `MODEL` with a row per image; null where it says nothing."""
        raise NotImplementedError

    def data(self, model: str) -> tuple[pa.Table, Concepts]:
        """What `read` returned, while the model is shown."""
        if model not in self._data:  # where it cannot be read, what is known stays
            kept = {one: found for one, found in self._data.items() if one in {self.a, self.b}}
            self._data = {**kept, model: self.read(model)}
        return self._data[model]

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
        side, _, column = sort.rpartition(".")
        if column not in SORTS or side not in {"", "a", "b"}:
            raise UsageError(f"there is no column {quoted(sort)} to sort by; {suggest(sort, SORTS)}")
        parsed = parse_filter(wanted) if isinstance(wanted, str) else wanted
        rows = self._rows()
        if column == "differs":
            a, b = (self._mutual(one, np.arange(len(self))) for one in "ab")
            mutual = np.setxor1d(a, b, assume_unique=True)
            rows = rows.append_column(column, [np.bincount(mutual >> _CODE_BITS, minlength=len(self))])
        if parsed.terms:
            rows = rows.filter(self._accepted(parsed))
        key = f"{side or 'a'}.{column}" if column in {"predicted", *MODEL.names} else column
        keys = ["marked", "noted"] if column == "note" else [key]
        order = [*((key, "descending" if descending else "ascending") for key in keys), ("image", "ascending")]
        places: Places = rows["image"].take(pc.sort_indices(rows, sort_keys=order)).to_numpy()
        return places

    def row(self, place: int) -> ImageRow:
        """What the table shows of one image."""
        found = self._rows().slice(place, 1).to_pylist()[0]
        shown = {"a": self.a} | ({"b": self.b} if self.b else {})
        mutual = [self._mutual_at(model, place) for model in shown.values()]
        ranked = [(own.index(text), text) for own in mutual for text in own if sum(text in one for one in mutual) == 1]
        results = [[found[f"{side}.{name}"] for name in ("correct", *MODEL.names)] for side in shown]
        differs = tuple(text for _, text in sorted(ranked, key=lambda one: one[0])) if self.b else ()
        note, values = self.notes[found["name"]], tuple(ImageResult(*one) for one in results)
        return ImageRow(place, found["name"], found["truth"], values, found["agree"], differs, *note)

    def wrong(self, places: Places) -> int | None:
        """How many images the first model predicts wrong; None where there are no labels."""
        return pc.sum(self._rows()["a.wrong"].take(places)).as_py() or 0 if self.has_labels else None

    def explained(self, places: Places) -> tuple[int, int, int]:
        """How many images the first model explains, the second, both."""
        a, b = (self._rows()[f"{side}.predicted"].take(places).is_valid().to_numpy() for side in "ab")
        return int(a.sum()), int(b.sum()), int((a & b).sum())

    def class_counts(self, places: Places) -> list[ClassCount]:
        """Images by class, those with most wrong predictions first."""
        rows = self._rows().take(places)
        rows = rows.append_column("class", rows["truth" if self.has_labels else "a.predicted"])
        rows = rows.filter(pc.field("a.predicted").is_valid() & pc.field("class").is_valid())
        sums = [("image", "count"), ("a.wrong", "sum"), ("b.wrong", "sum"), ("a.auc", "mean"), ("a.m", "mean")]
        counts = rows.group_by("class").aggregate(sums).select(["class", *(f"{name}_{how}" for name, how in sums)])
        wrong = rows.filter(pc.field("a.wrong")).group_by(["class", "a.predicted"]).aggregate([("image", "count")])
        order = [("image_count", "ascending"), ("a.predicted", "descending")]  # of equals the first by name
        confused = {row["class"]: row["a.predicted"] for row in wrong.sort_by(order).to_pylist()}
        found = [ClassCount(*(*row.values(), confused.get(row["class"]))) for row in counts.to_pylist()]
        return sorted(found, key=lambda one: (-(one.wrong_a or 0), -one.images, one.name))

    def concept_counts(self, places: Places) -> list[ConceptCount]:
        """Concepts that are mutual in either model, the most frequent in the first one first."""
        rows, a, b = self._rows(), self._mutual("a", places), self._mutual("b", places)
        wrong = rows["a.wrong"].fill_null(False).to_numpy()
        explained_a, explained_b = (rows[f"{side}.predicted"].is_valid().to_numpy() for side in "ab")
        only_a, only_b = (np.setdiff1d(*pair, assume_unique=True) for pair in ((a, b), (b, a)))
        only_a, only_b = only_a[explained_b[only_a >> _CODE_BITS]], only_b[explained_a[only_b >> _CODE_BITS]]
        kinds, size = (a, b, only_a, only_b, a[wrong[a >> _CODE_BITS]]), len(self.concepts)
        counts = np.stack([np.bincount(one & ~(-1 << _CODE_BITS), minlength=size) for one in kinds], axis=1)
        found = [
            ConceptCount(text, *counts[code].tolist()) for text, code in self.concepts.items() if counts[code].any()
        ]
        return sorted(found, key=lambda one: (-one.mutual_a, -one.mutual_b, one.text))

    def _rows(self) -> pa.Table:
        """All columns: those of the images, and with `a.` or `b.` before them those of the models; by place."""
        found = [self.data(model)[0] if model else None for model in (self.a, self.b)]
        made_of = (*found, self.notes.entries)
        if not all(map(operator.is_, made_of, self._made_of)):
            nothing = pa.table([pa.nulls(len(self), column.type) for column in MODEL], MODEL)
            rows = self._images.append_column("agree", pa.array(agreement(self.predicted), from_pandas=True))
            for side, columns in zip("ab", found, strict=True):
                for name in MODEL.names:
                    rows = rows.append_column(f"{side}.{name}", (nothing if columns is None else columns)[name])
                correct = pc.equal(rows[f"{side}.predicted"], rows["truth"])
                rows = rows.append_column(f"{side}.correct", correct).append_column(f"{side}.wrong", pc.invert(correct))
            for at, kind in enumerate(("marked", "noted")):
                names = pa.array([name for name, note in self.notes.entries.items() if note[at]], pa.string())
                rows = rows.append_column(kind, pc.is_in(rows["name"], names))
            self._made_of, self._made = made_of, rows
        return self._made

    def _accepted(self, wanted: Filter) -> pc.Expression:
        """Which images a filter accepts; FilterError if that cannot be known."""
        accepted = pc.scalar(True)
        for term in wanted.terms:
            if self.b is None and (term.side == "b" or term.name in {"same", "only"}):
                raise FilterError(wanted.text, term.position, "the table shows one model; choose another to compare")
            if not self.has_labels and term.name in {"only", "wrong", "right", "class"}:
                raise FilterError(wanted.text, term.position, "there are no labels: no true class is known")
            accepts = self._holding(term, wanted.text) if term.name in TEXTS else term.accepts
            accepted &= ~pc.coalesce(accepts, False) if term.negated else accepts
        return accepted

    def _holding(self, term: Term, text: str) -> pc.Expression:
        """Which images are of a class or have a concept."""
        column, wanted = "truth" if term.name == "class" else f"{term.side}.{term.name}", term.value.lower()
        if term.name in {"class", "predicted"}:
            noun, known = "class", pc.unique(self._rows()[column]).drop_null().to_pylist()
            accepts = pc.utf8_lower(pc.field(column)) == wanted
        else:
            concepts = self.data((self.b if term.side == "b" else None) or self.a)[1]
            noun, known = "concept", list(self.concepts)
            codes = [code for code, name in enumerate(known) if name.lower() == wanted]
            held = np.isin(concepts.codes, codes) & (concepts.mutual | (term.name == "seen"))
            accepts = pc.field("image").isin(pa.array(np.unique(concepts.places[held])))
        if self.complete and wanted not in map(str.lower, known):
            near = suggest(term.value, [name for name in known if wanted in name.lower()] or known)
            raise FilterError(text, term.position, f"no image has the {noun} {quoted(term.value)}; {printable(near)}")
        return accepts

    def _mutual(self, side: str, places: Places) -> Places:
        """Place and, in the lower bits, code of each mutual concept of some images."""
        model = self.b if side == "b" else self.a
        if model is None:
            return np.empty(0, np.int64)
        found, chosen = self.data(model)[1], np.zeros(len(self), np.bool_)
        chosen[places] = True
        kept = found.mutual & chosen[found.places]
        return (found.places[kept].astype(np.int64) << _CODE_BITS) + found.codes[kept]

    def _mutual_at(self, model: str, place: int) -> list[str]:
        """The mutual concepts of an image, the most important first."""
        found, texts = self.data(model)[1], list(self.concepts)
        inside = slice(*np.searchsorted(found.places, np.array([place, place + 1], np.int32)))
        return [texts[code] for code in found.codes[inside][found.mutual[inside]]]


def agreement(predicted: Codes) -> NDArray[np.float64]:
    """Of each image, the share of predictions that are the most frequent one; `predicted` is (models, images)."""
    ordered = np.sort(predicted, axis=0)
    times = (ordered != UNKNOWN).astype(np.float64)
    count = times.sum(axis=0)
    for number in range(1, len(ordered)):  # add how many equal ones came before
        times[number] += np.where(ordered[number] == ordered[number - 1], times[number - 1], 0)
    shares: NDArray[np.float64] = np.where(count, times.max(axis=0), np.nan) / np.maximum(count, 1)
    return shares
