"""What opens above the main screen or goes out of it: comparison, settings, palette, clipboard, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app_harness import RN, VIT, FakeEngine, press, running, seen, settled, until
from clipmk.worker import protocol
from clipmk_tui.app.concept_rows import ConceptRow


async def test_comparing_needs_two_marked_models(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "c")
        assert "mark two models" in seen(screen)
        assert pilot.app.screen is screen


async def test_comparing_marked_models_opens_their_columns(album: Path) -> None:
    async with running(FakeEngine(), album, models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "c")
        assert pilot.app.screen is not screen
        await press(pilot, "escape")
        assert pilot.app.screen is screen


async def test_a_concept_chosen_in_the_comparison_is_under_the_cursor_of_the_tree(album: Path) -> None:
    async with running(FakeEngine(), album, size=(80, 24), models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "tab", "tab")
        await press(pilot, "c", "right", "down", "enter")
        assert pilot.app.screen is screen
        assert screen.state.model == RN
        row = screen.panes.concepts.concept_tree.row
        assert isinstance(row, ConceptRow)
        assert row.text == "a bushy tail"
        assert pilot.app.focused is screen.panes.concepts.concept_tree
        assert screen.panes.image.region.area


async def test_a_theme_that_is_not_ours_has_our_colours_too(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        for theme in ("nord", "clipmk-light", "textual-light", "clipmk-dark"):
            pilot.app.theme = theme
            await settled(pilot)
            assert pilot.app.theme_variables["mutual"].startswith("#")
            assert 'why "fox"' in seen(screen)


async def test_a_theme_chosen_is_kept_and_one_only_tried_is_not(album: Path, tmp_path: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, _):
        await press(pilot, "comma", "enter", "down", "enter")
        assert pilot.app.theme != "clipmk-dark"
        await press(pilot, "escape")
        assert pilot.app.theme == "clipmk-dark"
        assert not (tmp_path / "config.toml").exists()
        pilot.app.theme = "clipmk-light"
        await settled(pilot)
        assert (tmp_path / "config.toml").read_text().strip() == 'theme = "clipmk-light"'


async def test_other_settings_ask_everything_again_under_a_new_session(album: Path, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        asked = len(engine.asked)
        await press(pilot, "comma", "tab", "enter", "down", "enter", "ctrl+s")
        assert pilot.app.screen is screen
        assert [session.settings.preset for session in engine.sessions] == ["paper"]
        assert screen.panes.questions.session.settings.grounding == "prompts"
        assert [type(r) for r in engine.asked[asked : asked + 2]] == [protocol.Load, protocol.Explain]
        assert 'preset = "paper"' in (tmp_path / "config.toml").read_text()
        assert 'why "fox"' in seen(screen)


async def test_the_palette_knows_models_images_and_classes_by_name(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        for typed, expected in (("image c.png", "c.png"), ("model rn-s", "embedded/rn-s"), ('why "wolf', "wolf")):
            await press(pilot, "ctrl+p", *("space" if letter == " " else letter for letter in typed), "enter")
            assert pilot.app.screen is screen
            state = (screen.state.item and screen.state.item.path, screen.state.model, screen.state.target)
            assert any(expected in str(value) for value in state), typed
        assert any(isinstance(r, protocol.Explain) and r.target == "wolf" for r in engine.asked)


async def test_copying_says_what_was_copied(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        screen.panes.concepts.concept_tree.select("a bushy tail")
        await pilot.pause()
        await press(pilot, "y")
        assert pilot.app.clipboard == "a bushy tail"
        assert "copied: a bushy tail" in seen(screen)
        screen.panes.image.focus()
        await press(pilot, "y")
        assert pilot.app.clipboard.endswith("cat/a.png")


async def test_writing_puts_a_file_into_the_working_folder(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "w", "enter")
        assert pilot.app.screen is screen
        assert json.loads((tmp_path / "a-vit-s8.json").read_text())["results"][0]["explanation"]["class"] == "fox"
        await until(lambda: "a-vit-s8.json" in seen(screen))
