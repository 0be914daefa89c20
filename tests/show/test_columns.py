"""Widths of columns where there is too little room."""

from __future__ import annotations

import random

from clipmk_tui.show.columns import Step, fit_columns


def test_columns_shrink_in_the_order_of_the_steps_and_no_more_than_needed() -> None:
    wanted = {"a": 10, "b": 8, "empty": 0, "c": 5}
    steps = [Step("a", 4), Step("b"), Step("a", 2)]
    assert fit_columns(wanted, steps, 27) == wanted
    assert fit_columns(wanted, steps, 25) == {"a": 8, "b": 8, "empty": 0, "c": 5}
    assert fit_columns(wanted, steps, 21) == {"a": 4, "b": 8, "empty": 0, "c": 5}
    assert fit_columns(wanted, steps, 20) == {"a": 10, "b": 0, "empty": 0, "c": 5}, "what b leaves goes back to a"
    assert fit_columns(wanted, steps, 11) == {"a": 3, "b": 0, "empty": 0, "c": 5}
    assert fit_columns(wanted, steps, 1) == {"a": 2, "b": 0, "empty": 0, "c": 5}
    assert fit_columns(wanted, steps, 19, gap=3, edges=0) == {"a": 10, "b": 0, "empty": 0, "c": 5}


def test_a_dropped_column_returns_if_a_later_step_makes_room() -> None:
    wanted = {"name": 40, "source": 6, "family": 8, "px": 3, "data": 40}
    steps = [Step("data", 30), Step("px"), Step("family"), Step("data"), Step("source")]
    squeezed_to = fit_columns(wanted, steps, 76, gap=2, edges=0)
    assert squeezed_to == {"name": 40, "source": 6, "family": 8, "px": 3, "data": 0}


def test_no_column_is_dropped_or_shrunk_while_there_is_room() -> None:
    """Of random tables in every width: what is left over is less than any column that is gone or smaller takes."""
    draw = random.Random(0)  # noqa: S311 - no secret
    for _ in range(300):
        wanted = {name: draw.randint(1, 12) for name in "abcde"} | {"empty": 0}
        floor = draw.randint(1, 12)
        steps = [Step("b", floor), *(Step(name) for name in draw.sample(["b", "c", "d", "empty"], 4))]
        smallest = wanted | {"b": min(floor, wanted["b"])}
        gap, edges = draw.randint(0, 3), draw.randint(0, 2)
        for room in range(sum(wanted.values()) + 4 * gap + edges + 2):
            widths = fit_columns(wanted, steps, room, gap=gap, edges=edges)
            shown = [width for width in widths.values() if width]
            left = room - edges - sum(shown) - gap * (len(shown) - 1)
            gone = [name for name in "abcde" if not widths[name]]
            assert set(gone) <= set("bcd")
            assert left >= 0 or gone == ["b", "c", "d"]
            assert all(left < smallest[name] + gap for name in gone)
            assert left <= 0 or all(widths[name] == wanted[name] for name in "abcde" if name not in gone)
            assert not widths["b"] or smallest["b"] <= widths["b"] <= wanted["b"]
