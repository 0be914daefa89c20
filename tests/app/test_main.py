"""The main screen, driven by keys, with an engine that answers without a model: panes, images, models, classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.css.stylesheet import Stylesheet
from textual.widgets import Input

import samples
from app_harness import RN, SIZES, VIT_XS, FakeEngine, press, running, seen, settled
from clipmk.worker import protocol
from clipmk_tui.app.image_list import open_images
from clipmk_tui.app.questions import RANKED
from clipmk_tui.app.widgets.models_pane import ModelsPane


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_image_is_explained(album: Path, size: tuple[int, int]) -> None:
    async with running(FakeEngine(), album, size=size) as (_, screen):
        text = seen(screen)
    for expected in (
        "a.png",
        "1/4",
        "fox",
        "71.2 %",
        'why "fox"',
        "strength",
        "3.69",
        "mutual (2)",
        "pointed ears",
        "∩",
    ):
        assert expected in text
    assert "vision only (2)" in text
    assert "language only (3)" in text
    assert "true class: cat, predicted wrong" in text or "truth: cat, wrong" in text


async def test_the_engine_starts_only_after_the_first_frame_and_is_closed_at_the_end(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (_, _screen):
        assert engine.started
        assert [type(request) for request in engine.asked[:3]] == [protocol.Load, protocol.Explain, protocol.ListModels]
        explain = engine.asked[1]
        assert isinstance(explain, protocol.Explain)
        assert (explain.also, explain.ranked) == (("cat",), RANKED)  # the true class has a rank wherever it is
    assert engine.closed


async def test_the_stylesheet_of_the_first_frame_is_parsed_once_and_has_no_other_screens(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed_again: list[None] = []
    monkeypatch.setattr(Stylesheet, "reparse", lambda self: parsed_again.append(None))
    async with running(FakeEngine(), album) as (pilot, _screen):
        assert not parsed_again
        assert pilot.app.theme == "clipmk-dark"
        assert not any("Dialog" in source.content for source in pilot.app.stylesheet.source.values())


async def test_all_four_panes_can_be_reached_by_tab_at_eighty_columns(album: Path) -> None:
    async with running(FakeEngine(), album, size=(80, 24)) as (pilot, screen):
        visited = []
        for _ in range(4):
            await press(pilot, "tab")
            assert pilot.app.focused is not None
            assert pilot.app.focused.region.area > 0
            visited.append(type(pilot.app.focused).__name__)
        assert visited == ["ImagePane", "PredictionsPane", "ModelList", "ConceptTree"]
        assert "vit-s8" not in seen(screen).split("\n", 1)[1]
        await press(pilot, "tab", "tab", "tab")
        assert "vit-xs" in seen(screen)


@pytest.mark.parametrize("size", SIZES)
async def test_keys_typed_faster_than_the_screen_is_drawn_go_where_they_were_meant(
    album: Path, size: tuple[int, int]
) -> None:
    async with running(FakeEngine(), album, size=size) as (pilot, screen):
        for key in ("tab", "tab", "down"):
            pilot.app.post_message(events.Key(key, None))
        await settled(pilot)
        assert pilot.app.focused is screen.panes.predictions
        assert 'why "cat"' in seen(screen)


async def test_a_number_goes_to_a_pane(album: Path) -> None:
    for size in ((120, 40), (80, 24)):
        async with running(FakeEngine(), album, size=size) as (pilot, screen):
            panes = screen.panes
            places = (panes.image, panes.predictions, panes.models.list, panes.concepts.concept_tree)
            for number, pane in enumerate(places, 1):
                await press(pilot, "z", str(number))
                assert pilot.app.focused is pane
                assert pane.region
                assert not screen.has_class("-zoomed")


async def test_the_next_image_is_asked_for_and_the_previous_one_is_at_hand(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "n")
        assert "b.png" in seen(screen)
        count = len(engine.asked)
        await press(pilot, "p")
        assert "a.png" in seen(screen)
        await press(pilot, "p")
        assert len(engine.asked) == count


async def test_a_class_under_the_cursor_is_explained_without_the_engine(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        count = len(engine.asked)
        screen.panes.predictions.focus()
        await press(pilot, "down")
        text = seen(screen)
        assert 'why "cat"' in text
        assert "mutual (1)" in text
        await press(pilot, "up")
        assert 'why "fox"' in seen(screen)
        assert len(engine.asked) == count


async def test_switching_models_keeps_image_and_class_and_is_at_hand_the_second_time(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "n", "full_stop")
        assert screen.state.model == VIT_XS
        assert "b.png" in seen(screen)
        count = len(engine.asked)
        await press(pilot, "comma", "full_stop")
        assert screen.state.model == VIT_XS
        assert len(engine.asked) == count


async def test_a_model_is_chosen_and_marked_in_its_pane(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        screen.panes.models.list.focus()
        await press(pilot, "down", "space", "down", "space", "enter")
        assert screen.state.marked == [VIT_XS, RN]
        assert screen.state.model == RN
        assert "2 marked" in seen(screen)
        assert 'why "cat"' in seen(screen)


async def test_the_model_filter_looks_at_everything_that_is_shown(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        pane = screen.query_one(ModelsPane)
        screen.panes.models.list.focus()
        await press(pilot, "slash", *"224px down")
        assert str(pane.border_subtitle).startswith("1 of 5")
        await press(pilot, "enter")
        assert pilot.app.focused is screen.panes.models.list
        await press(pilot, "slash", *"96px", "enter")  # what is typed takes the place of what stood there
        assert pane.query_one(Input).value == "96px"
        await press(pilot, "escape")  # in the list, where the filter still holds
        assert str(pane.border_subtitle) == "4 here of 5"
        assert not pane.has_class("-filtered")


async def test_without_labels_there_is_no_wrong_first(tmp_path: Path) -> None:
    samples.picture().save(tmp_path / "x.png")
    engine = FakeEngine()
    async with running(engine, tmp_path / "x.png") as (pilot, screen):
        await press(pilot, "e")
        assert "no labels here" in seen(screen)
        assert not any(isinstance(request, protocol.ExplainImages) for request in engine.asked)


@pytest.mark.parametrize("size", [(20, 5), (59, 30), (100, 15)])
async def test_a_tiny_terminal_says_how_large_it_must_be(album: Path, size: tuple[int, int]) -> None:
    async with running(FakeEngine(), album, size=size) as (pilot, screen):
        assert "60 columns and 16 rows" in seen(screen) or size == (20, 5)
        await pilot.resize_terminal(120, 40)
        await settled(pilot)
        assert 'why "fox"' in seen(screen)


async def test_resizing_while_busy_keeps_everything_on_the_screen(album: Path) -> None:
    engine = FakeEngine()
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
    async with running(FakeEngine(), album, size=(80, 24)) as (pilot, screen):
        await press(pilot, "z")
        assert screen.panes.image.size.width > 70
        assert not screen.panes.concepts.region.area
        await press(pilot, "escape")
        assert screen.panes.concepts.region.area


async def test_the_way_of_the_overlay_is_named(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        names = []
        for _ in range(3):
            await press(pilot, "g")
            names.append(str(screen.panes.image.border_subtitle))
        assert names == ["concept under the cursor", "plain", ""]


async def test_keys_can_be_rebound(album: Path) -> None:
    keys = {"image.next": "j", "main.venn": "ctrl+v"}
    async with running(FakeEngine(), album, keys=keys) as (pilot, screen):
        await press(pilot, "n")
        assert screen.state.place[0] == 1
        await press(pilot, "j")
        assert screen.state.place[0] == 2
        assert "j p image" in seen(screen)


async def test_ten_thousand_images_are_opened_and_walked_through(tmp_path: Path) -> None:
    samples.picture().save(tmp_path / "00000.png")
    for number in range(1, 10_000):
        (tmp_path / f"{number:05}.png").hardlink_to(tmp_path / "00000.png")
    async with running(FakeEngine(), tmp_path, size=(80, 24)) as (pilot, screen):
        assert "1/10000" in seen(screen)
        await press(pilot, "n", "o", *"09998", "enter")
        assert "9999/10000" in seen(screen)


async def test_the_palette_knows_models_images_and_classes_by_name(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        for typed, expected in (("image c.png", "c.png"), ("model rn-s", "embedded/rn-s"), ('why "wolf', "wolf")):
            await press(pilot, "ctrl+p", *("space" if letter == " " else letter for letter in typed), "enter")
            assert pilot.app.screen is screen
            state = (screen.state.item and screen.state.item.path, screen.state.model, screen.state.target)
            assert any(expected in str(value) for value in state), typed
        assert any(isinstance(r, protocol.Explain) and r.target == "wolf" for r in engine.asked)


async def test_the_key_bar_names_arrows_and_enter_in_eighty_columns(album: Path) -> None:
    async with running(FakeEngine(), album, size=(80, 24)) as (pilot, screen):
        for place, moves in (
            ("2", "enter see why"),
            ("3", "enter switch  space mark"),
            ("4", "enter open  x leave out"),
        ):
            await press(pilot, place)
            bar = seen(screen).splitlines()[-1]
            assert bar.startswith(f" ↑↓ move  {moves}")
            assert "? help  q quit" in bar


async def test_help_gives_keys_first_a_verb_phrase_each_then_the_words(album: Path) -> None:
    async with running(FakeEngine(), album, size=(120, 60)) as (pilot, _):
        await press(pilot, "question_mark")
        text = seen(pilot.app.screen)
    keys, _, words = text.partition("What the words, signs and numbers mean")
    places = [keys.index(one) for one in ("Keys here", "leave out, restore", "Keys everywhere", "the next pane")]
    assert places == sorted(places)
    assert all(word in words for word in ("seen", "tied", "mutual"))


async def test_the_bare_app_opens_on_a_picture_that_anybody_recognises() -> None:
    items = open_images([]).items
    assert items[0].path.endswith("fox-typical-09.png")
    assert items[0].label == "fox"
    assert [item.path for item in items[1:]] == sorted(item.path for item in items[1:])
