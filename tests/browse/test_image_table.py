"""The table of images: filters, sorts and counts against plain loops over its rows."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from browse_tables import PlainTable, Said, Shown
from clipmk.browse.filters import FilterError, quote
from clipmk.browse.image_table import SORTS, ConceptCount
from clipmk.browse.notes import Notes
from clipmk.errors import UsageError

CLASSES = ("boat", "Cat", 'a "$5" note')
CONCEPTS = ("a red sail", "a mast", "round Eyes")
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip

numbers = st.none() | st.sampled_from([0.0, 0.04, 0.5, 1.0])
said = st.one_of(
    st.just(Said()),
    st.just(Said(error="image 'x' is truncated")),
    st.builds(
        Said,
        predicted=st.sampled_from(CLASSES),
        p=numbers,
        prob=numbers,
        m=st.integers(0, 3),
        mi=numbers,
        auc=numbers,
        concepts=st.lists(
            st.tuples(st.sampled_from(CONCEPTS), st.booleans()), max_size=3, unique_by=lambda one: one[0]
        ).map(tuple),
    ),
)


@st.composite
def tables(draw: st.DrawFn, models: int | None = None) -> list[Shown]:
    count = draw(st.integers(1, 3)) if models is None else models
    names = draw(st.lists(st.text(max_size=5), min_size=1, max_size=8, unique=True))
    labels = st.none() | st.sampled_from(CLASSES)
    return [Shown(name, draw(labels), tuple(draw(said) for _ in range(count))) for name in names]


def right(row: Shown, model: int) -> bool | None:
    predicted = row.models[model].predicted if model < len(row.models) else None
    return None if predicted is None or row.truth is None else predicted == row.truth


def predicted(row: Shown, model: int) -> str | None:
    return row.models[model].predicted


@dataclass(frozen=True)
class PlainTerm:
    """A term about two models, as a plain loop answers it."""

    kind: str
    model: int
    name: str
    sign: str
    value: float
    negated: bool

    def text(self, prefix: str, *, percent: bool) -> str:
        term = {
            "flag": f"{prefix}{self.name}",
            "number": f"{prefix}{self.name} {self.sign} {f'{100 * self.value}%' if percent else self.value}",
            "class": f"class:{quote(self.name.upper())}",
            "same": f"a{self.sign}b",
            "only": f"only {'ab'[self.model]}",
            "name": quote(self.name),
        }.get(self.kind, f"{prefix}{self.kind}:{quote(self.name)}")
        return f"not {term}" if self.negated else term

    def accepts(self, row: Shown) -> bool:
        own, both = row.models[self.model], [predicted(row, model) for model in (0, 1)]
        if self.kind == "flag":
            found = own.error is not None if self.name == "failed" else right(row, self.model) is (self.name == "right")
        elif self.kind == "number":
            value = getattr(own, self.name)
            found = value is not None and COMPARE[self.sign](value, self.value)
        elif self.kind in {"class", "predicted"}:
            found = (row.truth if self.kind == "class" else own.predicted) == self.name
        elif self.kind in {"concept", "seen"}:
            found = any(text == self.name and (mutual or self.kind == "seen") for text, mutual in own.concepts)
        elif self.kind == "same":
            found = None not in both and (both[0] == both[1]) is (self.sign == "==")
        elif self.kind == "only":
            found = right(row, self.model) is True and right(row, 1 - self.model) is False
        else:
            found = self.name.lower() in row.name.lower()
        return found != self.negated


NAMES = {
    "flag": ("wrong", "right", "failed"),
    "number": ("p", "prob", "m", "mi", "auc"),
    "class": CLASSES,
    "predicted": CLASSES,
    "concept": CONCEPTS,
    "seen": CONCEPTS,
    "same": ("",),
    "only": ("",),
    "name": ("a", "b.", "X1", ".X", '"'),
}


@st.composite
def terms(draw: st.DrawFn) -> tuple[str, PlainTerm]:
    kind, model = draw(st.sampled_from([*NAMES])), draw(st.integers(0, 1))
    sign = draw(st.sampled_from(["==", "!="] if kind == "same" else [*COMPARE]))
    value = draw(st.sampled_from([0.0, 0.04, 0.5, 1.0, 2.0]))
    term = PlainTerm(kind, model, draw(st.sampled_from(NAMES[kind])), sign, value, draw(st.booleans()))
    return term.text("b." if model else draw(st.sampled_from(["a.", ""])), percent=draw(st.booleans())), term


@given(tables(models=2), st.lists(terms(), max_size=4))
def test_a_filter_accepts_what_a_plain_loop_accepts(rows: list[Shown], wanted: list[tuple[str, PlainTerm]]) -> None:
    table = PlainTable(rows)
    table.complete = False
    text = " ".join(term for term, _ in wanted)
    expected = [place for place, row in enumerate(rows) if all(term.accepts(row) for _, term in wanted)]
    if not table.has_labels and any(
        term.kind in {"only", "class"} or term.name in {"wrong", "right"} for _, term in wanted
    ):
        with pytest.raises(FilterError, match="there are no labels"):
            table.choose(text)
    else:
        assert table.choose(text).tolist() == expected


@given(tables(models=2), st.sampled_from(SORTS), st.sampled_from(["", "a.", "b."]), st.booleans())
def test_rows_are_sorted_with_unknown_values_last_and_equal_ones_in_order(
    rows: list[Shown], sort: str, side: str, descending: bool
) -> None:
    table = PlainTable(rows)
    model = int(side == "b.")
    keys: dict[str, Callable[[int], Any]] = {
        "image": lambda place: place,
        "truth": lambda place: rows[place].truth,
        "predicted": lambda place: predicted(rows[place], model),
        "agree": lambda place: table.row(place).agreement,
        "differs": lambda place: len(table.row(place).differs_in),
        "note": lambda _: 0,
    }
    key = keys.get(sort, lambda place: getattr(rows[place].models[model], sort))
    known = [place for place in range(len(rows)) if key(place) is not None]
    if descending:  # stable: equal ones stay in the dataset's order
        values = sorted({key(place) for place in known}, reverse=True)
        known = [place for value in values for place in known if key(place) == value]
    else:
        known = sorted(known, key=key)
    unknown = [place for place in range(len(rows)) if key(place) is None]
    assert table.choose("", f"{side}{sort}", descending=descending).tolist() == known + unknown


@given(tables())
def test_a_row_says_what_the_models_say(rows: list[Shown]) -> None:
    table = PlainTable(rows)
    for place, row in enumerate(rows):
        found = table.row(place)
        assert (found.key, found.label, found.marked, found.note) == (row.name, row.truth, False, "")
        assert len(found.results) == min(2, len(row.models))
        for model, result in enumerate(found.results):
            own = row.models[model]
            assert result[1:] == (own.predicted, own.error, own.p, own.prob, own.m, own.mi, own.auc)
            assert result.correct is right(row, model)
        times = Counter(one.predicted for one in row.models if one.predicted is not None)
        assert found.agreement == (max(times.values()) / times.total() if times else None)
        if len(row.models) > 1:
            mutual = [[text for text, both in one.concepts if both] for one in row.models[:2]]
            assert sorted(found.differs_in) == sorted({*mutual[0]} ^ {*mutual[1]})
            assert [text for text in found.differs_in if text in mutual[0]] == [
                t for t in mutual[0] if t not in mutual[1]
            ]
        else:
            assert found.differs_in == ()


@given(tables(), st.data())
def test_classes_and_concepts_are_counted_over_the_chosen_images(rows: list[Shown], data: st.DataObject) -> None:
    table, places = PlainTable(rows), data.draw(st.sets(st.integers(0, len(rows) - 1)).map(sorted))
    chosen, array = [rows[place] for place in places], np.array(places, np.int64)
    two = len(rows[0].models) > 1
    labelled = any(row.truth is not None for row in rows)
    classes = {row.truth if labelled else predicted(row, 0) for row in chosen if predicted(row, 0)} - {None}
    counts = table.class_counts(array)
    assert {one.name for one in counts} == classes
    for one in counts:
        own = [
            row for row in chosen if predicted(row, 0) and one.name == (row.truth if labelled else predicted(row, 0))
        ]
        assert one.images == len(own)
        wrong = [predicted(row, 0) for row in own if right(row, 0) is False]
        assert one.wrong_a == (len(wrong) if labelled else None)
        if two and labelled and all(row.models[1].predicted for row in own):
            assert one.wrong_b == sum(right(row, 1) is False for row in own)
        most = max(Counter(wrong).values(), default=0)
        assert one.confused_with == min((name for name, times in Counter(wrong).items() if times == most), default=None)
    expected = []
    for text in CONCEPTS:
        mutual = [[(text, True) in one.concepts for one in row.models[:2]] + [False] for row in chosen]
        both = [two and None not in (predicted(row, 0), predicted(row, 1)) for row in chosen]
        expected.append(
            ConceptCount(
                text=text,
                mutual_a=sum(a for a, *_ in mutual),
                mutual_b=sum(b for _, b, *_ in mutual),
                only_a=sum(a and not b and known for (a, b, *_), known in zip(mutual, both, strict=True)),
                only_b=sum(b and not a and known for (a, b, *_), known in zip(mutual, both, strict=True)),
                wrong_a=sum(a and right(row, 0) is False for (a, *_), row in zip(mutual, chosen, strict=True)),
            )
        )
    found = table.concept_counts(array)
    assert sorted(found) == sorted(one for one in expected if one.mutual_a or one.mutual_b)
    assert [one.mutual_a for one in found] == sorted((one.mutual_a for one in found), reverse=True)
    assert table.wrong(array) == (sum(right(row, 0) is False for row in chosen) if labelled else None)
    explained = [(predicted(row, 0) is not None, two and predicted(row, 1) is not None) for row in chosen]
    assert table.explained(array) == (
        sum(a for a, _ in explained),
        sum(b for _, b in explained),
        explained.count((True, True)),
    )


def test_marks_and_notes_are_filtered_and_sorted(tmp_path: Path) -> None:
    table = PlainTable([Shown(name) for name in "wxyz"], Notes(tmp_path / "notes.csv"))
    assert table.choose("not marked not noted").tolist() == [0, 1, 2, 3]
    table.notes.mark("y", marked=True)
    table.notes.write("x", "look again")
    table.notes.mark("x", marked=True)
    table.notes.write("z", "?")
    assert table.choose("marked").tolist() == [1, 2]
    assert table.choose("noted").tolist() == [1, 3]
    assert table.choose("", "note", descending=True).tolist() == [1, 2, 3, 0]
    assert (table.row(1).marked, table.row(1).note) == (True, "look again")
    table.notes.mark("x", marked=False)
    assert table.choose("marked").tolist() == [2]


@pytest.mark.parametrize("text", ["a != b", "only a", "b.p < 1", "b.wrong", "b.concept:x"])
def test_a_filter_about_a_second_model_needs_one(text: str) -> None:
    table = PlainTable([Shown("x", "boat", (Said("boat"),)), Shown("y", "boat", (Said("boat"),))])
    with pytest.raises(FilterError, match="the table shows one model; choose another to compare") as error:
        table.choose(f"not failed {text}")
    assert error.value.position == len("not failed ")


def test_an_unknown_class_or_concept_is_an_error_that_names_close_ones() -> None:
    told = Said("boat", concepts=(("a red sail", True), ("a mast", False)))
    table = PlainTable([Shown("x", "boat", (told,)), Shown("y", "catamaran", (told,))])
    for text, reason in {
        "class:bota": "no image has the class 'bota'; close: 'boat'",
        "class:cat": "no image has the class 'cat'; close: 'catamaran'|known: catamaran",
        "predicted:catamaran": "no image has the class 'catamaran'; known: boat",
        "wrong concept:sail": "no image has the concept 'sail'; .* a red sail|close: 'a red sail'",
    }.items():
        with pytest.raises(FilterError, match=reason) as error:
            table.choose(text)
        assert error.value.position == text.rindex(" ") + 1 if " " in text else not error.value.position
    assert table.choose("seen:'a'".replace("'a'", '"A MAST"')).tolist() == [0, 1]
    assert table.choose('concept:"a mast"').tolist() == []


def test_models_are_chosen_by_name() -> None:
    table = PlainTable([Shown("x", "boat", (Said("boat"), Said("cat"), Said("boat", p=0.5)))])
    assert (table.a, table.b) == ("model 0", "model 1")
    table.use("model 2", "model 1")
    assert table.choose("only a p == .5").tolist() == [0]
    table.use("model 1", "model 1")
    assert (table.b, table.row(0).results[0].correct) == (None, False)
    with pytest.raises(UsageError, match="model 'modell 1' is not in the table; close: 'model 1'"):
        table.use("modell 1")


@pytest.mark.parametrize("sort", ["wrong", "c.p", "p ", "correct", ""])
def test_an_unknown_column_is_an_error(sort: str) -> None:
    with pytest.raises(UsageError, match="there is no column"):
        PlainTable([Shown("x")]).choose("", sort)
