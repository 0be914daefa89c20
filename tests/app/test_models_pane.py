"""The models pane: what can be used comes first, the rest says in words why not; weights are downloaded from it."""

from __future__ import annotations

from pathlib import Path

import pytest

import samples
from app_harness import FAMILIES, REMOTE, RN, VIT, VIT_XS, FakeEngine, entry, press, running, seen, settled
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk_tui.app.engine.worker import OnPartial
from clipmk_tui.app.messages import WorkProgress
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.state import View
from clipmk_tui.app.widgets.models_pane import entry_text
from clipmk_tui.app.widgets.predictions import Line, line_text, numbers, truth_text

LAST = ("3", *["down"] * len(FAMILIES))
"""Keys that go to the model that is not here."""


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    for name in ("a", "b"):
        samples.picture().save(tmp_path / f"{name}.png")
    return tmp_path


class Downloading(FakeEngine):
    """Reports half of every download."""

    def _answer(self, request: protocol.Request, tell: OnPartial) -> protocol.Final:
        if isinstance(request, protocol.Pull):
            tell(protocol.Progress(id=1, stage="download", done=302_500_000, total=605_000_000))
        return super()._answer(request, tell)


def rows(screen: MainScreen) -> list[str]:
    return [str(option.prompt) for option in screen.panes.models.list.options]


async def test_another_model_draws_two_lines_again(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, ".", ",")
        await settled(pilot)
        before = [option.prompt for option in screen.panes.models.list.options]
        await press(pilot, ".")
        await settled(pilot)
        after = [option.prompt for option in screen.panes.models.list.options]
        changed = [str(new) for old, new in zip(before, after, strict=True) if new is not old]
        assert len(changed) == 2 < len(after)
        assert sum("▸" in line for line in changed) == 1


async def test_an_absent_model_is_neither_chosen_nor_marked_but_downloaded(album: Path) -> None:
    engine = Downloading()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, *LAST)
        assert "download" in rows(screen)[-1]
        for key in ("enter", "space"):
            await press(pilot, key)
            assert (screen.state.model, screen.state.marked) == (VIT, [])
            assert f"{REMOTE} is not on this machine; d downloads it" in seen(screen)
        await press(pilot, "d")
        assert engine.pulled == {REMOTE}
        assert f"{REMOTE} is on this machine now" in seen(screen)
        assert "cached" in rows(screen)[-1]
        await press(pilot, "space", "enter")
        assert (screen.state.model, screen.state.marked) == (REMOTE, [REMOTE])


async def test_a_download_shows_its_progress_and_is_cancelled(album: Path) -> None:
    engine = Downloading()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        await press(pilot, *LAST)
        await pilot.press("d")
        await pilot.pause()
        screen.post_message(WorkProgress("download", 302_500_000, 605_000_000))
        await pilot.pause()
        assert "downloading 50 % of 0.6 GB" in seen(screen)
        await pilot.press("escape")
        await pilot.pause()
        assert [type(request) for request in engine.cancelled] == [protocol.Pull]
        assert "downloading 50 %" not in seen(screen)
        engine.gate.set()
        await settled(pilot)
        assert engine.pulled == set()
        assert screen.state.explanation is not None


async def test_a_download_that_fails_says_why(album: Path) -> None:
    engine = FakeEngine()
    engine.failures[protocol.Pull] = RequestError("model", "the hub refuses it")
    async with running(engine, album) as (pilot, screen):
        await press(pilot, *LAST, "d")
        assert "the hub refuses it" in seen(screen)
        assert "download" in rows(screen)[-1]


async def test_a_failed_model_goes_to_the_end_in_words_and_is_skipped(album: Path) -> None:
    engine = FakeEngine()
    engine.failures[VIT_XS] = RequestError("model", "its weights are damaged")
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "3", "down", "enter")
        assert screen.state.model == VIT_XS
        assert "its weights are damaged" in seen(screen)
        assert ["failed" in row for row in rows(screen)] == [False] * 3 + [True, False]
        await press(pilot, "space")
        assert screen.state.marked == []
        await press(pilot, "full_stop", "full_stop", "full_stop", "full_stop")
        assert screen.state.model != VIT_XS
        engine.failures.clear()
        screen.state.choose_model(VIT_XS)
        screen.panes.show()
        await settled(pilot)
        assert not any("failed" in row for row in rows(screen))


async def test_an_absent_model_that_was_asked_for_by_name_tells_the_key_that_downloads_it(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.failures[REMOTE] = RequestError("model", "run clipmk models pull, or pass --download")
        screen.state.choose_model(REMOTE)
        screen.panes.show()
        await settled(pilot)
        text = seen(screen)
        assert "d in the models pane" in " ".join(text.replace("│", " ").split())
        assert "--download" not in text


async def test_the_models_speed_is_shown_in_status_and_pane(album: Path) -> None:
    async with running(FakeEngine(), album, size=(200, 40)) as (_, screen):
        assert "vit-s8 · cpu fp32 · 95 ms" in seen(screen)
        assert "95 ms" in rows(screen)[0]
        assert "ms" not in rows(screen)[1]


@pytest.mark.parametrize("width", range(16, 80))
def test_a_line_of_a_model_is_as_wide_as_the_pane(width: int) -> None:
    view = View(model=VIT, marked=(RN,), speed={VIT: 12.3}, failed={RN: "damaged"})
    for model in (VIT, RN, REMOTE):
        text = entry_text(entry(model, "remote" if model == REMOTE else "embedded"), width, view)
        assert text.cell_len == width


@pytest.mark.parametrize(
    ("label", "right", "width", "text"),
    [
        ("cat", True, 40, "true class: cat, predicted right"),
        ("cat", False, 40, "true class: cat, predicted wrong"),
        ("cat", False, 30, "truth: cat, predicted wrong"),
        ("lighthouse", False, 26, "truth: lighthouse, wrong"),
        ("zebra", None, 40, "true class: zebra, not among the classes"),
        (None, None, 40, "true class not known"),
    ],
)
def test_the_truth_is_said_in_words(label: str | None, right: bool | None, width: int, text: str) -> None:
    assert truth_text(label, right, width) == text


@pytest.mark.parametrize("width", [28, 40, 60])
def test_numbers_of_all_classes_begin_and_end_in_the_same_columns(width: int) -> None:
    classes = [
        Line(rank=1, class_name="fox", before=0.999, after=1.0, true=False),
        Line(rank=2, class_name="cat", before=0.001, after=0.0, true=True),
        Line(rank=3, class_name="lighthouse", before=None, after=0.0004, true=False),
    ]
    tail = max(len(numbers(line, room=width)) for line in classes)
    texts = [line_text(line, width, longest=10, tail=tail).plain for line in classes]
    assert {len(text) for text in texts} == {width}
    assert len({text.index("%") for text in texts}) == 1
    assert [text[3] for text in texts] == ["✗", "✓", " "]
