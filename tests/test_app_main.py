"""The main screen, driven by keys, with an engine that answers without a model."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static

import fakes
import samples
from clipmk import protocol
from clipmk.settings import preset
from clipmk_tui.app import ClipmkApp
from clipmk_tui.bars import bar
from clipmk_tui.concept_rows import ConceptRow, GroupRow, full_bar
from clipmk_tui.engine import AskError, EngineStoppedError
from clipmk_tui.screens.main import MainScreen
from clipmk_tui.tui_run import Start
from clipmk_tui.widgets.models_pane import ModelsPane

VIT, VIT_XS, RN, CNX = fakes.FAMILIES
THRESHOLDS = gc.get_threshold()
SIZES = ((80, 24), (120, 40))


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures of foxes and one of a cat, in class folders; no config of the user's."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    folder = tmp_path / "album"
    for name in ("cat/a.png", "fox/b.png", "fox/c.png", "fox/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples.picture().save(folder / name)
    return folder


@asynccontextmanager
async def running(
    engine: fakes.FakeEngine, *paths: Path, size: tuple[int, int] = (120, 40), models: tuple[str, ...] = (VIT,)
) -> AsyncIterator[tuple[Pilot[Any], MainScreen]]:
    """The app on some images, its first explanation made unless the gate is shut."""
    session = protocol.Session(vocabulary="world", settings=preset("default"))
    app = ClipmkApp(Start(paths=tuple(map(str, paths)), models=models, session=session), lambda: engine)
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        if engine.gate.is_set():
            await settled(pilot)
        yield pilot, screen
    gc.unfreeze()  # the app freezes what is loaded when it begins; other tests have loaded more
    gc.set_threshold(*THRESHOLDS)


async def settled(pilot: Pilot[Any]) -> None:
    """Until nothing is asked or decoded any more."""
    for _ in range(200):
        await pilot.pause()
        busy = [worker for worker in pilot.app.workers if worker.is_running and worker.group != "settings"]
        if not busy:
            break
        await asyncio.sleep(0.01)
    await pilot.pause()


def seen(screen: MainScreen) -> str:
    """The screen as text."""
    return "\n".join("".join(segment.text for segment in strip) for strip in screen._compositor.render_strips())


async def press(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_image_is_explained(album: Path, size: tuple[int, int]) -> None:
    async with running(fakes.FakeEngine(), album, size=size) as (_, screen):
        text = seen(screen)
    for expected in ("a.png", "1/4", "fox", "71.2 %", 'why "fox"', "MI", "3.69", "mutual (2)", "pointed ears", "∩"):
        assert expected in text
    assert "vision only (2)" in text
    assert "language only (3)" in text
    assert "✗ is cat" in text


async def test_the_engine_starts_only_after_the_first_frame_and_is_closed_at_the_end(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (_, _screen):
        assert engine.started
        assert [type(request) for request in engine.asked[:3]] == [
            protocol.Load,
            protocol.Explain,
            protocol.ListModels,
        ]
    assert engine.closed


async def test_all_four_panes_can_be_reached_by_tab_at_eighty_columns(album: Path) -> None:
    async with running(fakes.FakeEngine(), album, size=(80, 24)) as (pilot, screen):
        visited = []
        for _ in range(4):
            await press(pilot, "tab")
            assert pilot.app.focused is not None
            assert pilot.app.focused.region.area > 0
            visited.append(type(pilot.app.focused).__name__)
        assert visited == ["ImagePane", "ModelList", "PredictionsPane", "ConceptTree"]
        assert "vit-s8" not in seen(screen).split("\n", 1)[1]
        await press(pilot, "tab", "tab")
        assert "vit-xs" in seen(screen)


@pytest.mark.parametrize("size", SIZES)
async def test_keys_typed_faster_than_the_screen_is_drawn_go_where_they_were_meant(
    album: Path, size: tuple[int, int]
) -> None:
    async with running(fakes.FakeEngine(), album, size=size) as (pilot, screen):
        for key in ("tab", "tab", "tab", "down"):
            pilot.app.post_message(events.Key(key, None))
        await settled(pilot)
        assert pilot.app.focused is screen.predictions
        assert 'why "cat"' in seen(screen)


async def test_the_next_image_is_asked_for_and_the_previous_one_is_at_hand(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "n")
        assert "b.png" in seen(screen)
        count = len(engine.asked)
        await press(pilot, "p")
        assert "a.png" in seen(screen)
        await press(pilot, "p")
        assert len(engine.asked) == count


async def test_the_tree_keeps_the_focus_while_the_next_image_is_explained(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        assert screen.focused is screen.concepts.concept_tree
        engine.gate.clear()
        await pilot.press("n")
        await pilot.pause(0.1)
        assert screen.desk.explanation is None
        assert screen.focused is screen.concepts.concept_tree
        engine.gate.set()
        await settled(pilot)
        before = screen.concepts.concept_tree.cursor_line
        await pilot.press("down")
        assert screen.concepts.concept_tree.cursor_line == before + 1


async def test_an_image_gone_before_its_tree_was_drawn_does_no_harm(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        explanation = screen.desk.explanation
        assert explanation is not None
        for _ in range(3):
            screen.concepts.show(explanation)
            screen.concepts.concept_tree.select("a bushy tail")
            screen.concepts.show_note(Text("explaining ..."))
            await pilot.pause()
        for _ in range(3):
            pilot.app.post_message(events.Key("n", "n"))
        await settled(pilot)
        assert screen.desk.place == (4, 4)
        assert 'why "fox"' in seen(screen)


async def test_a_class_under_the_cursor_is_explained_without_the_engine(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        count = len(engine.asked)
        screen.predictions.focus()
        await press(pilot, "down")
        text = seen(screen)
        assert 'why "cat"' in text
        assert "mutual (1)" in text
        await press(pilot, "up")
        assert 'why "fox"' in seen(screen)
        assert len(engine.asked) == count


async def test_leaving_out_changes_the_numbers_before_the_engine_answers(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        assert screen.concepts.concept_tree.select("a bushy tail")
        await pilot.pause()
        await pilot.press("x")
        await pilot.pause()
        assert "3.69 → 3.00" in seen(screen)
        assert "left out (x)" in seen(screen)
        assert "→" not in str(screen.predictions.get_option_at_index(0).prompt)
        engine.gate.set()
        await settled(pilot)
        assert isinstance(engine.asked[-1], protocol.WhatIf)
        assert engine.asked[-1].left_out == ("a bushy tail",)
        assert "64.1" in str(screen.predictions.get_option_at_index(0).prompt)
        assert "▼" in str(screen.predictions.get_option_at_index(0).prompt)
        await press(pilot, "r")
        text = seen(screen)
        assert "→" not in text
        assert "71.2 %" in text


@pytest.mark.parametrize("size", SIZES)
async def test_the_keys_go_to_the_first_concept_of_the_tree_from_the_start(album: Path, size: tuple[int, int]) -> None:
    async with running(fakes.FakeEngine(), album, size=size) as (pilot, screen):
        assert pilot.app.focused is screen.concepts.concept_tree
        await press(pilot, "x")
        assert screen.desk.left_out == ("pointed ears",)


async def test_leaving_out_quickly_asks_only_about_the_last_state(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        screen.concepts.concept_tree.select("pointed ears")
        await pilot.pause()
        await pilot.press("x", "down", "x")
        await pilot.pause()
        engine.gate.set()
        await settled(pilot)
        answered = [request for request in engine.asked if isinstance(request, protocol.WhatIf)]
        assert [r for r in answered if r not in engine.cancelled] == [answered[-1]]
        assert answered[-1].left_out == ("pointed ears", "a bushy tail")


async def test_what_only_language_knows_cannot_be_left_out(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        screen.concepts.concept_tree.select("whiskers")
        await pilot.pause()
        await press(pilot, "x")
        assert screen.desk.left_out == ()
        assert "only what the vision encoder sees" in seen(screen)


async def test_the_tree_opens_to_parts_and_the_cursor_lights_them_up(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        lit: list[tuple[int, ...]] = []
        original = screen.image.light_up
        screen.image.light_up = lambda parts: (lit.append(tuple(parts)), original(parts))[1]  # type: ignore[assignment]
        screen.concepts.concept_tree.select("a bushy tail")
        await settled(pilot)
        assert lit[-1] == (1, 2)
        await press(pilot, "right", "right")
        assert lit[-1] == (1,)
        assert "part 1 · 8% of image" in seen(screen).replace("8.3", "8")
        await press(pilot, "left", "left")
        assert lit[-1] == (1, 2)


def test_importances_below_zero_have_no_bar() -> None:
    made = samples.explanation()
    concepts = tuple(dataclasses.replace(concept, importance=-0.01) for concept in made.vision_concepts)
    full = full_bar(dataclasses.replace(made, vision_concepts=concepts))
    assert full > 0
    assert not bar(-0.01 / full, 5).strip()


async def test_the_filter_narrows_the_tree_and_esc_drops_it(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        await press(pilot, "slash", "t", "a", "i", "l")
        tree = screen.concepts.concept_tree
        found = [node.data.text for group in tree.root.children for node in group.children if node.data]  # type: ignore[union-attr]
        assert found == ["a bushy tail"]
        assert "1 of 2" in seen(screen)
        await press(pilot, "escape")
        assert "mutual (2)" in seen(screen)
        assert pilot.app.focused is tree


async def test_switching_models_keeps_image_and_class_and_is_at_hand_the_second_time(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "n", "right_square_bracket")
        assert screen.desk.model == VIT_XS
        assert "b.png" in seen(screen)
        count = len(engine.asked)
        await press(pilot, "left_square_bracket", "right_square_bracket")
        assert screen.desk.model == VIT_XS
        assert len(engine.asked) == count


async def test_a_model_is_chosen_and_marked_in_its_pane(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        screen.models.list.focus()
        await press(pilot, "down", "space", "down", "space", "enter")
        assert screen.desk.marked == [VIT_XS, RN]
        assert screen.desk.model == RN
        assert "2 marked" in seen(screen)
        assert 'why "cat"' in seen(screen)


async def test_the_model_filter_looks_at_everything_that_is_shown(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        pane = screen.query_one(ModelsPane)
        screen.models.list.focus()
        await press(pilot, "slash", *"224px down")
        assert str(pane.border_subtitle).startswith("1 of 5")
        await press(pilot, "enter")
        assert pilot.app.focused is screen.models.list
        await press(pilot, "slash", "escape")
        assert str(pane.border_subtitle).startswith("5")


async def test_esc_cancels_and_ctrl_r_asks_again(album: Path) -> None:
    engine = fakes.FakeEngine()
    engine.gate.clear()
    async with running(engine, album) as (pilot, screen):
        for _ in range(100):
            await pilot.pause()
            if screen.status.working:
                break
        assert "esc" in seen(screen).split("\n", 1)[0]
        await pilot.press("escape")
        await settled(pilot)
        assert engine.cancelled
        assert "cancelled" in seen(screen)
        assert not screen.status.working
        engine.gate.set()
        await press(pilot, "ctrl+r")
        assert 'why "fox"' in seen(screen)


async def test_a_new_image_cancels_the_question_about_the_last_one(album: Path) -> None:
    engine = fakes.FakeEngine()
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
        assert screen.desk.explanation is not None
        assert screen.desk.explanation.image.path == asked[-1].image


@pytest.mark.parametrize(
    "error",
    [
        AskError("model", "model 'x' is not on this machine; fetch it with: clipmk models pull x"),
        AskError("memory", "the memory of cuda:0 is too small for this; try --precision bf16"),
        EngineStoppedError("the engine was killed by signal 9 twice; try another model"),
    ],
)
async def test_a_failure_says_what_to_do_and_the_app_goes_on(album: Path, error: AskError) -> None:
    engine = fakes.FakeEngine()
    engine.failures[RN] = error
    async with running(engine, album) as (pilot, screen):
        screen.models.list.focus()
        await press(pilot, "down", "down", "enter")
        note = str(screen.query_one("#note", Static).render())
        assert str(error) in note
        assert "ctrl+r tries again" in note
        await press(pilot, "left_square_bracket")
        assert 'why "fox"' in seen(screen)


async def test_a_failure_of_a_question_nobody_asks_any_more_is_not_shown(album: Path) -> None:
    engine = fakes.FakeEngine()
    engine.failures[str(album / "fox" / "b.png")] = AskError("image", "image 'b.png' cannot be decoded")
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        await pilot.press("n")
        await pilot.pause(0.1)
        await pilot.press("p")
        await pilot.pause(0.1)
        engine.gate.set()
        await settled(pilot)
        text = seen(screen)
        assert "a.png" in text
        assert 'why "fox"' in text
        assert "cannot be decoded" not in text


async def test_a_restart_of_the_engine_is_told(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        assert engine.on_restart is not None
        engine.on_restart("the engine was killed by signal 9 and was started again")
        await settled(pilot)
        assert "killed by signal 9" in seen(screen)


async def test_wrong_predictions_come_first_when_asked_for(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "n", "e")
        assert screen.desk.item is not None
        assert screen.desk.item.path.endswith("cat/a.png")
        assert "1 of 4 labelled images are predicted wrong" in seen(screen)
        await press(pilot, "e")
        assert not screen.desk.sorted_by_truth


async def test_without_labels_there_is_no_wrong_first(tmp_path: Path) -> None:
    samples.picture().save(tmp_path / "x.png")
    engine = fakes.FakeEngine()
    async with running(engine, tmp_path / "x.png") as (pilot, screen):
        await press(pilot, "e")
        assert "no labels here" in seen(screen)
        assert not any(isinstance(request, protocol.Survey) for request in engine.asked)


async def test_a_corrupt_image_is_told_and_the_next_one_goes_on(album: Path) -> None:
    (album / "cat" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    engine = fakes.FakeEngine()
    engine.failures[str(album / "cat" / "a.png")] = AskError("image", "image 'a.png' cannot be decoded")
    async with running(engine, album) as (pilot, screen):
        assert "cannot be decoded" in seen(screen)
        await press(pilot, "n")
        assert 'why "fox"' in seen(screen)


async def test_a_failure_does_not_show_the_last_images_numbers(album: Path) -> None:
    engine = fakes.FakeEngine()
    engine.failures[str(album / "fox" / "b.png")] = AskError("image", "image 'b.png' cannot be decoded")
    async with running(engine, album) as (pilot, screen):
        assert "(chance" in seen(screen)
        await press(pilot, "n")
        assert "cannot be decoded" in seen(screen)
        assert "(chance" not in seen(screen)


async def test_nothing_to_show_is_told(tmp_path: Path) -> None:
    async with running(fakes.FakeEngine(), tmp_path / "missing.png") as (pilot, screen):
        assert "missing.png" in seen(screen)
        await press(pilot, "n", "x", "c", "v", "w", "e", "g", "z", "escape", "right_square_bracket")
        assert pilot.app.is_running


@pytest.mark.parametrize("size", SIZES)
async def test_names_full_of_markup_and_controls_are_shown_as_they_are(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "[bold red]x[/] \x1b[31m\u202e $mutual [@click=app.quit]q[/]"
    long = evil + "y" * 300
    explained = samples.explanation(class_name=long, descriptor=evil)
    monkeypatch.setattr(fakes, "explained", lambda *_: explained)
    path = tmp_path / "[bold]a[ [b.png"
    samples.picture().save(path)
    async with running(fakes.FakeEngine(), path, size=size) as (pilot, screen):
        text = seen(screen)
        assert "[bold red]x" in text
        assert "[bold]a[ [b.png" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        await press(pilot, "ctrl+p", *"bold")
        assert pilot.app.is_running
        await press(pilot, "escape", "question_mark", "escape", "v", "escape")
        assert pilot.app.is_running


@pytest.mark.parametrize("size", [(20, 5), (59, 30), (100, 15)])
async def test_a_tiny_terminal_is_told_how_large_it_must_be(album: Path, size: tuple[int, int]) -> None:
    async with running(fakes.FakeEngine(), album, size=size) as (pilot, screen):
        assert "60 x 16" in seen(screen) or size == (20, 5)
        await pilot.resize_terminal(120, 40)
        await settled(pilot)
        assert 'why "fox"' in seen(screen)


async def test_resizing_while_busy_keeps_everything_on_the_screen(album: Path) -> None:
    engine = fakes.FakeEngine()
    engine.gate.clear()
    async with running(engine, album) as (pilot, screen):
        for width, height in ((80, 24), (200, 60), (60, 16), (120, 40), (80, 24)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
        engine.gate.set()
        await settled(pilot)
        text = seen(screen)
        assert 'why "fox"' in text
        assert all(len(line) == 80 for line in text.split("\n"))


async def test_zoom_gives_the_picture_the_screen_and_esc_takes_it_back(album: Path) -> None:
    async with running(fakes.FakeEngine(), album, size=(80, 24)) as (pilot, screen):
        await press(pilot, "z")
        assert screen.image.size.width > 70
        assert not screen.concepts.region.area
        await press(pilot, "escape")
        assert screen.concepts.region.area


async def test_the_way_of_the_overlay_is_named(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        names = []
        for _ in range(3):
            await press(pilot, "g")
            names.append(str(screen.image.border_subtitle))
        assert names == ["concept under the cursor", "plain", ""]


@pytest.mark.parametrize(
    ("parts", "shown"),
    [((2, 3, 4), "part 2,3,4"), ((2, 3, 4, 9), "part 2,3…"), ((7, 8, 10), "part 7,8…"), ((10, 11), "part 10,11")],
)
async def test_numbers_of_parts_are_never_cut_in_two(album: Path, parts: tuple[int, ...], shown: str) -> None:
    async with running(fakes.FakeEngine(), album) as (_, screen):
        row = ConceptRow(kind="mutual", text="ears", importance=1.0, cosine=None, parts=parts)
        assert screen.concepts.concept_tree._tail(row, 60, left_out=False).plain.endswith(f"  {shown}".ljust(12))


async def test_groups_opened_stay_open_for_the_next_image(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        tree = screen.concepts.concept_tree
        group = next(n for n in tree.root.children if isinstance(n.data, GroupRow) and n.data.kind == "vision")
        group.expand()
        await press(pilot, "n")
        again = next(n for n in tree.root.children if isinstance(n.data, GroupRow) and n.data.kind == "vision")
        assert again.is_expanded
        assert all(isinstance(node.data, ConceptRow) for node in again.children)


async def test_comparing_needs_two_marked_models(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        await press(pilot, "c")
        assert "mark two models" in seen(screen)
        assert pilot.app.screen is screen


async def test_comparing_marked_models_opens_their_columns(album: Path) -> None:
    async with running(fakes.FakeEngine(), album, models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "c")
        assert pilot.app.screen is not screen
        await press(pilot, "escape")
        assert pilot.app.screen is screen


async def test_a_concept_chosen_in_the_comparison_is_under_the_cursor_of_the_tree(album: Path) -> None:
    async with running(fakes.FakeEngine(), album, size=(80, 24), models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "tab", "tab")
        await press(pilot, "c", "right", "down", "enter")
        assert pilot.app.screen is screen
        assert screen.desk.model == RN
        row = screen.concepts.concept_tree.row
        assert isinstance(row, ConceptRow)
        assert row.text == "a bushy tail"
        assert pilot.app.focused is screen.concepts.concept_tree
        assert screen.image.region.area


async def test_quitting_while_busy_closes_the_engine(album: Path) -> None:
    engine = fakes.FakeEngine()
    engine.gate.clear()
    async with running(engine, album) as (pilot, screen):
        while not screen.status.working:
            await pilot.pause(0.01)
        await pilot.press("q")
        await pilot.pause()
        assert engine.closed
        assert pilot.app.return_code == 0


async def test_a_theme_that_is_not_ours_has_our_colours_too(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        for theme in ("nord", "clipmk-light", "textual-light", "clipmk-dark"):
            pilot.app.theme = theme
            await settled(pilot)
            assert pilot.app.theme_variables["mutual"].startswith("#")
            assert 'why "fox"' in seen(screen)


async def test_a_theme_chosen_is_kept_and_one_only_tried_is_not(album: Path, tmp_path: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, _):
        await press(pilot, "comma", "enter", "down", "enter")
        assert pilot.app.theme != "clipmk-dark"
        await press(pilot, "escape")
        assert pilot.app.theme == "clipmk-dark"
        assert not (tmp_path / "config.toml").exists()
        pilot.app.theme = "clipmk-light"
        await settled(pilot)
        assert (tmp_path / "config.toml").read_text().strip() == 'theme = "clipmk-light"'


async def test_other_settings_ask_everything_anew_under_a_new_session(album: Path, tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        asked = len(engine.asked)
        await pilot.press("comma")
        await pilot.pause()
        await press(pilot, "tab", "enter", "down", "enter", "ctrl+s")
        assert pilot.app.screen is screen
        assert [session.settings.preset for session in engine.sessions] == ["paper"]
        assert screen.asking.session.settings.grounding == "prompts"
        assert [type(r) for r in engine.asked[asked : asked + 2]] == [protocol.Load, protocol.Explain]
        assert 'preset = "paper"' in (tmp_path / "config.toml").read_text()
        assert 'why "fox"' in seen(screen)


async def test_the_palette_knows_models_images_and_classes_by_name(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        for typed, expected in (("image c.png", "c.png"), ("model rn-s", "embedded/rn-s"), ('why "wolf', "wolf")):
            await pilot.press("ctrl+p")
            await pilot.pause(0.1)
            await pilot.press(*("space" if letter == " " else letter for letter in typed))
            await pilot.pause(0.5)
            await press(pilot, "enter")
            assert pilot.app.screen is screen
            state = (screen.desk.item and screen.desk.item.path, screen.desk.model, screen.desk.target)
            assert any(expected in str(value) for value in state), typed
        assert any(isinstance(r, protocol.Explain) and r.target == "wolf" for r in engine.asked)


async def test_copying_says_what_was_copied(album: Path) -> None:
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        screen.concepts.concept_tree.select("a bushy tail")
        await press(pilot, "y")
        assert pilot.app.clipboard == "a bushy tail"
        assert "copied: a bushy tail" in seen(screen)
        screen.image.focus()
        await press(pilot, "y")
        assert pilot.app.clipboard.endswith("cat/a.png")


async def test_writing_puts_a_file_into_the_working_folder(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(fakes.FakeEngine(), album) as (pilot, screen):
        await press(pilot, "w", "enter")
        assert pilot.app.screen is screen
        assert json.loads((tmp_path / "a-vit-s8.json").read_text())["results"][0]["explanation"]["class"] == "fox"
        assert "a-vit-s8.json" in seen(screen)


async def test_keys_can_be_bound_anew(album: Path) -> None:
    session = protocol.Session(vocabulary="world", settings=preset("default"))
    start = Start(paths=(str(album),), models=(VIT,), session=session, keys={"image.next": "j", "main.venn": "ctrl+v"})
    app = ClipmkApp(start, fakes.FakeEngine)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        screen = app.screen
        assert isinstance(screen, MainScreen)
        await press(pilot, "n")
        assert screen.desk.place[0] == 1
        await press(pilot, "j")
        assert screen.desk.place[0] == 2
        assert "j next" in seen(screen)


async def test_ten_thousand_images_are_laid_out_and_walked_through(tmp_path: Path) -> None:
    samples.picture().save(tmp_path / "00000.png")
    for number in range(1, 10_000):
        (tmp_path / f"{number:05}.png").hardlink_to(tmp_path / "00000.png")
    async with running(fakes.FakeEngine(), tmp_path, size=(80, 24)) as (pilot, screen):
        assert "1/10000" in seen(screen)
        await press(pilot, "n", "o", *"09998", "enter")
        assert "9999/10000" in seen(screen)


async def test_an_image_that_changed_on_disk_is_read_again_when_asked_again(album: Path) -> None:
    engine = fakes.FakeEngine()
    async with running(engine, album) as (pilot, screen):
        before = screen.image._picture
        asked = len(engine.asked)
        samples.picture().rotate(90, expand=True).save(album / "cat" / "a.png")
        await press(pilot, "ctrl+r")
        assert screen.image._picture is not before
        assert isinstance(engine.asked[asked], protocol.Explain)
