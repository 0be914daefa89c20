"""The main screen when something is in the way: cancelling, failures, restarts, broken images, hostile names."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Static
from textual.widgets._toast import Toast

import app_harness
import samples
from app_harness import RN, SIZES, FakeEngine, burst, press, running, seen, settled, until
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk_tui.app.engine.worker import EngineStoppedError


async def test_esc_cancels_and_ctrl_r_asks_again(album: Path) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine, album) as (pilot, screen):
        await until(lambda: screen.status.work)
        await pilot.pause()
        assert "esc" in seen(screen).split("\n", 1)[0]
        await press(pilot, "escape")
        assert engine.cancelled
        assert "cancelled" in seen(screen)
        assert not screen.status.work
        engine.gate.set()
        await press(pilot, "ctrl+r")
        assert 'why "fox"' in seen(screen)


async def test_a_new_image_cancels_the_question_about_the_last_one(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        await pilot.press("n")
        await pilot.pause()
        await pilot.press("n")
        await pilot.pause()
        engine.gate.set()
        await settled(pilot)
        asked = [r for r in engine.asked if isinstance(r, protocol.Explain)]
        assert asked[-2] in engine.cancelled
        assert "c.png" in seen(screen)
        assert screen.state.explanation is not None
        assert screen.state.explanation.image.path == asked[-1].image


@pytest.mark.parametrize(
    "error",
    [
        RequestError("model", "model 'x' is not on this machine; fetch it with: clipmk models pull x"),
        RequestError("memory", "the memory of cuda:0 is too small for this; try --precision bf16"),
        EngineStoppedError("the engine was killed by signal 9 twice; try another model"),
    ],
)
async def test_a_failure_says_what_to_do_and_the_app_goes_on(album: Path, error: RequestError) -> None:
    engine = FakeEngine()
    engine.failures[RN] = error
    async with running(engine, album) as (pilot, screen):
        screen.panes.models.list.focus()
        await press(pilot, "down", "down", "enter")
        note = str(screen.query_one("#note", Static).render())
        assert str(error) in note
        assert "ctrl+r tries again" in note
        await press(pilot, "comma")
        assert 'why "fox"' in seen(screen)


async def test_a_failure_of_a_question_nobody_asks_any_more_is_not_shown(album: Path) -> None:
    engine = FakeEngine()
    engine.failures[str(album / "fox" / "b.png")] = RequestError("image", "image 'b.png' cannot be decoded")
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        await pilot.press("n")
        await pilot.pause()
        await pilot.press("p")
        await pilot.pause()
        engine.gate.set()
        await settled(pilot)
        text = seen(screen)
        assert "a.png" in text
        assert 'why "fox"' in text
        assert "cannot be decoded" not in text


async def test_a_restart_of_the_engine_is_reported(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        assert engine.on_restart is not None
        engine.on_restart("the engine was killed by signal 9 and was started again")
        await settled(pilot)
        assert "killed by signal 9" in seen(screen)


async def test_a_server_that_answers_is_named_until_it_is_lost(album: Path) -> None:
    engine = FakeEngine()
    engine.uses_server = True
    async with running(engine, album) as (pilot, screen):
        assert "cpu fp32 · 95 ms · server" in seen(screen)
        engine.uses_server = False
        assert engine.on_restart is not None
        engine.on_restart("the server closed the connection; the app now runs its own engine")
        await settled(pilot)
        assert "cpu" in seen(screen)
        assert "server" not in seen(screen).splitlines()[0].replace("the server closed", "")
        assert "the server closed the connection" in seen(screen)


async def test_a_corrupt_image_is_reported_and_the_next_one_goes_on(album: Path) -> None:
    (album / "cat" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    engine = FakeEngine()
    engine.failures[str(album / "cat" / "a.png")] = RequestError("image", "image 'a.png' cannot be decoded")
    async with running(engine, album) as (pilot, screen):
        assert "cannot be decoded" in seen(screen)
        await press(pilot, "n")
        assert 'why "fox"' in seen(screen)


async def test_a_failure_does_not_show_the_last_images_numbers(album: Path) -> None:
    engine = FakeEngine()
    engine.failures[str(album / "fox" / "b.png")] = RequestError("image", "image 'b.png' cannot be decoded")
    async with running(engine, album) as (pilot, screen):
        assert "more than to any" in seen(screen)
        await press(pilot, "n")
        assert "cannot be decoded" in seen(screen)
        assert "more than to any" not in seen(screen)


async def test_nothing_to_show_is_reported(tmp_path: Path) -> None:
    async with running(FakeEngine(), tmp_path / "missing.png") as (pilot, screen):
        assert "missing.png" in seen(screen)
        await press(pilot, "n", "x", "c", "v", "w", "e", "g", "z", "escape", "full_stop")
        assert pilot.app.is_running


@pytest.mark.parametrize("size", SIZES)
async def test_names_full_of_markup_and_controls_are_shown_as_they_are(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "[bold red]x[/] \x1b[31m\u202e $mutual [@click=app.quit]q[/]"
    long = evil + "y" * 300
    explained = samples.explanation(class_name=long, descriptor=evil)
    monkeypatch.setattr(app_harness, "explained", lambda *_: explained)
    path = tmp_path / "[bold]a[ [b.png"
    samples.picture().save(path)
    async with running(FakeEngine(), path, size=size) as (pilot, screen):
        text = seen(screen)
        assert "[bold red]x" in text
        assert "[bold]a[ [b.png" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        await press(pilot, "ctrl+p", *"bold")
        assert pilot.app.is_running
        await press(pilot, "escape", "question_mark", "escape", "v", "escape")
        assert pilot.app.is_running


async def test_quitting_while_busy_closes_the_engine(album: Path) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine, album) as (pilot, screen):
        await until(lambda: screen.status.work)
        await pilot.press("q")
        await until(lambda: engine.closed)
        assert pilot.app.return_code == 0


async def test_an_image_that_changed_on_disk_is_read_again_when_asked_again(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        before = screen.panes.image.picture
        asked = len(engine.asked)
        samples.picture().rotate(90, expand=True).save(album / "cat" / "a.png")
        await press(pilot, "ctrl+r")
        assert screen.panes.image.picture is not before
        assert isinstance(engine.asked[asked], protocol.Explain)


@pytest.mark.parametrize("size", SIZES)
async def test_a_message_replaces_the_one_before_it_and_covers_a_border_only(
    album: Path, size: tuple[int, int]
) -> None:
    async with running(FakeEngine(), album, size=size) as (pilot, screen):
        before = seen(screen).splitlines()
        burst(pilot, "c", "y", "y", "c", "y")
        await settled(pilot)
        assert len(screen.query(Toast)) == 1
        after = seen(screen).splitlines()
        assert "copied" in after[-2]
        assert [*after[:-2], after[-1]] == [*before[:-2], before[-1]]
