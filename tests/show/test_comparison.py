"""The table of a comparison, and the words of its cells."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from clipmk.comparison import Comparison
from clipmk.pipeline.comparison import compare
from clipmk_tui.cli.streams import NARROWEST
from clipmk_tui.show.comparison import BEST, ROWS_SHOWN, answer_sentence, dynamics, plain_text, report, separating
from clipmk_tui.show.comparison_table import Cell, layout, short_names
from compared import by, failed


def _many(count: int, **changes: Any) -> Comparison:
    families = ("vit", "resnet")
    return compare([by(f"org/model-{i}", family=families[i % 2], auc=float(i), **changes) for i in range(count)])


def _printed(made: Comparison, width: int, **options: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, markup=False, highlight=False, emoji=False).print(
        report(made, width=width, **options)
    )
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("count", [1, 2, 3, 13])
def test_no_line_is_wider_than_the_terminal_and_no_model_is_lost(width: int, count: int) -> None:
    text = _printed(_many(count, vision={"a very long descriptor " * 8: 0.5, "猫" * 50: 0.4}), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for index in range(count if width >= NARROWEST else 0):
        assert f"model-{index}" in text[text.index("strength") :]


def test_thirteen_models_stand_side_by_side_with_families_apart() -> None:
    lines = _printed(_many(13), 60).splitlines()
    (line,) = [line for line in lines if line.startswith("ears ")]
    assert line.count("∩") == 13
    (families,) = [line for line in lines if line.startswith("true class")]
    assert families.split()[-2:] == ["ViT", "ResNet"]
    assert line[: families.index("ResNet")].count("∩") == 7


def test_best_auc_is_marked_once_in_each_family_and_the_mark_is_explained() -> None:
    text = _printed(_many(4), 120)
    assert text.count(f" {BEST}") == 2
    assert f"2.00 {BEST}" in text
    assert f"3.00 {BEST}" in text
    assert "AUC is not comparable across families" in text
    assert BEST not in _printed(_many(2), 120)


def test_every_status_has_its_sign() -> None:
    made = compare(
        [
            by("a", vision={"ears": 0.7, "tail": 0.5}, language={"ears": 0.8, "fur": 0.6}),
            by("b", vision={"eyes": 0.3}, language={"eyes": 0.2}),
            failed("c"),
        ]
    )
    text = _printed(made, 100)
    cells = {line.split("  ")[0]: line.split()[1:] for line in text.splitlines()}
    assert cells["ears"] == ["∩", "·", "1/1"]
    assert cells["tail"] == ["◐", "·", "0/1"]
    assert cells["fur"] == ["◑", "·", "0/0"]
    assert cells["eyes"] == ["·", "∩", "1/1"]
    assert cells["fox"] == ["●", "●", "!", "2"]
    assert "c failed: model 'c' does not exist" in text


@pytest.mark.parametrize("width", [80, 120])
def test_table_of_thirteen_models_stays_as_it_was(width: int, golden: Callable[[str, str], None]) -> None:
    golden(f"compare_{width}.txt", "".join(f"{line.rstrip()}\n" for line in _printed(_thirteen(), width).splitlines()))


def _thirteen() -> Comparison:
    """Four of thirteen are right."""
    names = {
        "vit": ("s16", "s8", "xs8", "xs8-48", "xs8-48-b", "xs8-b", "xs8-unprompted"),
        "resnet": ("m", "parts", "s", "xs"),
        "convnext": ("m", "s"),
    }
    short = {"vit": "vit", "resnet": "rn", "convnext": "cnx"}
    answers = itertools.cycle(("castle", "robot", "cat"))
    made = []
    for family, sizes in names.items():
        for size in sizes:
            answer = next(answers)
            seen = {"cat": {"round eyes": 0.8, "a long tail": 0.6}, "castle": {"turrets": 0.7, "a long tail": 0.2}}
            tied = {"cat": {"round eyes": 0.9, "a pink nose": 0.5}, "castle": {"turrets": 0.8}}
            made.append(
                by(
                    f"embedded/{short[family]}-{size}",
                    family=family,
                    predicted=answer,
                    auc=float(len(size)),
                    vision=seen.get(answer, {"a square head": 0.4}),
                    language=tied.get(answer, {"bent arms": 0.4}),
                )
            )
    return compare(made, true_class="cat")


# Sentences.


def test_the_first_sentence_says_who_is_right() -> None:
    assert answer_sentence(_thirteen()) == "4 of 13 say 'cat', the true class; 5 say 'castle', 4 'robot'"
    assert answer_sentence(_many(3)) == "all 3 say 'fox' (the true class is not known)"
    assert answer_sentence(_many(2)) == "both say 'fox' (the true class is not known)"
    assert answer_sentence(compare([by("a"), by("b")], true_class="fox")) == "both say 'fox', the true class"
    none = compare([by("a"), by("b", predicted="owl")], true_class="cat")
    assert answer_sentence(none) == "none says 'cat', the true class; 1 says 'fox', 1 'owl'"
    many = compare([by(name, predicted=name) for name in "abcdef"], true_class="a")
    assert answer_sentence(many) == "1 of 6 says 'a', the true class; 1 says 'b', 1 'c', 1 'd', 2 something else"
    assert answer_sentence(compare([failed("a")])) == "no model has answered"


def test_the_second_sentence_says_what_separates_right_from_wrong() -> None:
    assert separating(_thirteen()) == (
        "seen more often by the right ones: 'round eyes' (4 of 4, else 0 of 9), "
        "by the wrong ones: 'turrets' (5 of 9, else 0 of 4)"
    )
    assert not separating(_many(3))
    pair = compare([by("a", predicted="owl", vision={"wings": 0.5}), by("b", vision={"ears": 0.4, "tail": 0.9})])
    assert separating(pair) == "seen more often by the one that says 'fox': 'ears', by the other: 'wings'"


def test_of_concepts_seen_equally_often_the_tied_one_separates() -> None:
    right = by("a", vision={"tail": 0.9, "ears": 0.1}, language={"ears": 0.3})
    made = compare([right, by("b", predicted="owl", vision={}, language={})], true_class="fox")
    assert separating(made) == "seen more often by the right one: 'ears'"


# Columns.


def test_place_of_every_column_is_found_by_the_mouse() -> None:
    made = _thirteen()
    ids = [column.id for column in made.columns]
    placed = layout(ids, [column.family for column in made.columns], ["cat"], width=80)
    at, found = 0, []
    for text, _, column in placed.line("", [Cell("x")] * 13):
        found += [(at, column)] if column is not None else []
        at += cell_len(text)
    assert [column for _, column in found] == list(placed.order) == list(range(13))
    assert all(placed.column_at(x) == column for x, column in found)
    assert placed.column_at(0) is None
    assert placed.column_at(10_000) is None


def test_names_lose_what_a_family_has_in_common_where_there_is_no_room() -> None:
    ids = ("ViT-B-32:laion2b", "ViT-B-32:openai", "embedded/rn-s")
    families = ("vit", "vit", "resnet")
    wide = layout(ids, families, ["cat"], width=200)
    assert ["".join(name) for name in wide.names] == ["ViT-B-32:laion2b", "ViT-B-32:openai", "rn-s"]
    many = layout(ids * 4, families * 4, ["cat"], width=80)
    assert many.names[:3] == (("lai", "on2", "b"), ("ope", "nai"), ("s",))
    assert [word for word, _ in many.families] == ["ViT", "ResNet"]


def test_first_rows_are_shown_without_verbose() -> None:
    made = _many(2, vision={f"concept {i:02}": 0.5 for i in range(30)}, language={})
    text = _printed(made, 100)
    assert sum(line.startswith("concept ") for line in text.splitlines()) == ROWS_SHOWN
    assert f"and {30 - ROWS_SHOWN} more (--verbose)" in text
    everything = _printed(made, 100, most=None)
    assert "concept 29" in everything
    assert "more (--verbose)" not in everything


def test_text_from_outside_is_never_markup_or_control() -> None:
    evil = "[red]\x1b[31m\u202e[/red]"
    text = _printed(compare([by(evil, predicted=evil, vision={evil: 0.5}), failed(evil)]), 200)
    assert not set(text) & set("\x1b\u202e")
    assert text.count(r"[red]\x1b[31m\u202e[/red]") >= 4


def test_copied_text_holds_the_whole_table() -> None:
    text = plain_text(_many(2, vision={f"concept {i:02}": 0.5 for i in range(30)}, language={}))
    assert "concept 29" in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_long_curve_is_sampled_to_fit() -> None:
    curve = [float(31 - i) for i in range(32)]
    assert dynamics(curve, 32) != dynamics(curve, 16)
    assert len(dynamics(curve, 16)) == 16
    assert dynamics(curve, 16)[0] == "█"
    assert dynamics(curve, 16)[-1] == "▁"
    assert dynamics([1.0, 0.0], 16) == "█▁"


def test_headings_are_short_unless_two_would_be_equal() -> None:
    assert short_names(["embedded/a", "local-dir:/x/b", "B:t"]) == ("a", "b", "B:t")
    assert short_names(["embedded/a", "local-dir:/x/a"]) == ("embedded/a", "local-dir:/x/a")
