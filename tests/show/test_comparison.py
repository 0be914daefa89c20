"""The table of a comparison, and the words of its cells."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from clipmk.pipeline.comparison import compare
from clipmk.records import Comparison
from clipmk_tui.show.comparison import BEST, ROWS_SHOWN, dynamics, plain_text, report, short_names
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
    for index in range(count):
        assert f"model-{index}" in text


def test_three_models_fit_side_by_side_in_80_columns() -> None:
    text = _printed(_many(3), 80)
    (line,) = [line for line in text.splitlines() if line.startswith("top-1")]
    assert line.count("fox 60 %") == 3
    assert text.count("agreed") == 1


def test_columns_that_do_not_fit_follow_in_blocks_below() -> None:
    text = _printed(_many(13), 80)
    lines = [line for line in text.splitlines() if line.startswith("ears")]
    assert len(lines) > 1
    assert sum(line.count("∩ 0.700") for line in lines) == 13
    assert all("13/13" in line for line in lines)


def test_best_auc_is_marked_once_in_each_family_and_the_mark_is_explained() -> None:
    text = _printed(_many(4), 120)
    (line,) = [line for line in text.splitlines() if line.startswith("AUC")]
    assert line.count(BEST) == 2
    assert f"2.00 / 0.55 {BEST}" in line
    assert f"3.00 / 0.55 {BEST}" in line
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
    cells = {line.split("  ")[0]: line for line in _printed(made, 100).splitlines()}
    assert "∩ 0.700" in cells["ears"]
    assert "◐ 0.500" in cells["tail"]
    assert "◑ cos 0.60" in cells["fur"]
    assert all("·" in cells[text] for text in ("ears", "tail", "fur", "eyes"))
    assert "c failed: model 'c' does not exist" in _printed(made, 100)


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
