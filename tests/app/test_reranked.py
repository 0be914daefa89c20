"""The predictions with concepts left out: every class with the rank and the probability it has now."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import samples
from app_harness import FakeEngine, press, running
from clipmk.records import Prediction
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk_tui.app.engine.worker import OnPartial
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.widgets.predictions import line_text
from clipmk_tui.app.widgets.predictions import lines as class_lines

BEFORE = samples.explanation().predictions
"""fox 71.2 %, cat 14.9 %, wolf 6 %."""


def ranked(*shares: tuple[int, str, float]) -> tuple[Prediction, ...]:
    return tuple(
        dataclasses.replace(BEFORE[0], rank=rank, class_name=name, probability=share) for rank, name, share in shares
    )


HIGHEST = ranked((1, "cat", 0.9), (2, "wolf", 0.05), (3, "owl", 0.03))


class Reranking(FakeEngine):
    """Answers every what-if with the same classes."""

    def __init__(self, after: tuple[Prediction, ...]) -> None:
        super().__init__()
        self.after = after

    def _answer(self, request: protocol.Request, tell: OnPartial) -> protocol.Final:
        if isinstance(request, protocol.WhatIf):
            return protocol.Reranked(id=1, left_out=request.left_out, predictions=self.after)
        return super()._answer(request, tell)


def test_as_many_classes_are_shown_as_have_room_and_the_true_and_the_asked_one_wherever_they_are() -> None:
    many = ranked(*((rank, f"class {rank}", 1 / 2**rank) for rank in range(1, 31)))
    shown = class_lines(many, label="class 17", target="class 30", most=12)
    assert [line.rank for line in shown] == [*range(1, 13), 17, 30]
    assert all(line.before is not None for line in shown)
    after = ranked((1, "class 14", 0.9), *((rank, f"class {rank}", 0.0) for rank in range(2, 13)), (25, "class 1", 0.0))
    now = class_lines(many, after=after, most=12)
    assert [line.class_name for line in now] == [line.class_name for line in class_lines(after, most=25)]


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    path = tmp_path / "a.png"
    samples.picture().save(path)
    return path


def shown(screen: MainScreen) -> list[str]:
    """The lines of the pane, spaces and bars taken out of them."""
    prompts = [str(option.prompt) for option in screen.panes.predictions.options]
    return [" ".join("".join(c for c in prompt if c.isascii() or c in "→▴▾·–").split()) for prompt in prompts]


@pytest.mark.parametrize(("size", "numbers"), [((80, 24), "71.2 → 0.4 % ▾70.8"), ((120, 40), "0.4 % ▾70.8")])
async def test_a_class_that_fell_below_the_listed_ones_has_its_new_rank_and_probability(
    image: Path, size: tuple[int, int], numbers: str
) -> None:
    after = (*HIGHEST, *ranked((17, "fox", 0.004)))
    async with running(Reranking(after), image, size=size) as (pilot, screen):
        await press(pilot, "x")
        found = shown(screen)
    assert [line.split()[:2] for line in found] == [["1", "cat"], ["2", "wolf"], ["3", "owl"], ["17", "fox"]]
    assert found[3] == f"17 fox {numbers}"


@pytest.mark.parametrize(("size", "numbers"), [((80, 24), "71.2 → < 3.0 %"), ((120, 40), "< 3.0 %")])
async def test_a_class_of_which_the_new_ranking_says_nothing_has_no_rank_and_only_a_bound(
    image: Path, size: tuple[int, int], numbers: str
) -> None:
    async with running(Reranking(HIGHEST), image, size=size) as (pilot, screen):
        await press(pilot, "x")
        assert shown(screen)[3] == f"· fox {numbers}"
        await press(pilot, "r")
        assert shown(screen)[0] == "1 fox 71.2 %"


def test_the_bound_is_that_of_the_classes_ranked_without_a_gap() -> None:
    (fox,) = [
        line for line in class_lines(BEFORE, after=(*HIGHEST, *ranked((17, "emu", 0.004)))) if line.class_name == "fox"
    ]
    assert line_text(fox, 28, longest=4).plain.split()[-3:] == ["<", "3.0", "%"]


async def test_until_the_classes_are_ranked_again_the_old_ranking_is_shown(image: Path) -> None:
    engine = Reranking(HIGHEST)
    async with running(engine, image) as (pilot, screen):
        engine.failures[protocol.WhatIf] = RequestError("usage", "no")
        await press(pilot, "x")
        assert [line.split()[:2] for line in shown(screen)] == [["1", "fox"], ["2", "cat"], ["3", "wolf"]]


def test_asked_and_true_class_that_were_never_ranked_are_there_without_a_number() -> None:
    found = class_lines(BEFORE, after=HIGHEST, label="dog", target="bear")
    assert [(line.rank, line.class_name) for line in found[-2:]] == [(0, "dog"), (0, "bear")]
    for line in found[-2:]:
        assert line_text(line, 40, longest=4).plain.rstrip().endswith("–")


def test_a_bound_has_no_bar() -> None:
    (fox,) = [line for line in class_lines(BEFORE, after=HIGHEST) if line.class_name == "fox"]
    assert set(line_text(fox, 60, longest=4).plain) <= set("· fox71.2 → < 3.0 %")


@pytest.mark.parametrize(("before", "after", "moved"), [(0.99954, 0.99946, "▾ 0.1"), (0.5001, 0.5104, "▴ 1.0")])
def test_the_change_is_that_of_the_numbers_that_stand_there(before: float, after: float, moved: str) -> None:
    (line,) = class_lines(
        [Prediction(rank=1, class_name="fox", probability=before, cosine=0.3, independent=None)],
        after=[Prediction(rank=1, class_name="fox", probability=after, cosine=0.3, independent=None)],
    )
    text = line_text(line, 60, longest=4).plain
    assert f"{100 * before:.1f} → {100 * after:.1f} %" in " ".join(text.split())
    assert " ".join(text.split()).endswith(moved)


@pytest.mark.parametrize("room", [28, 60])
def test_a_class_that_does_not_change_has_its_probability_once(room: int) -> None:
    (line,) = class_lines(ranked((1, "fox", 0.5001)), after=ranked((1, "fox", 0.5004)))
    assert line_text(line, room, longest=4).plain.split()[-3:] == ["50.0", "%", "·"]
    assert "→" not in line_text(line, room, longest=4).plain
