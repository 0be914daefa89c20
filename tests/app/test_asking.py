"""Words of the user's own in the app: the line, the rows, the map, other images and models, one more class."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import TextArea

from app_harness import MODELS, RN, VIT, FakeEngine, burst, lines, press, running, seen, settled, until
from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk.worker.session import Session
from clipmk_tui.app.concept_rows import AskedRow
from clipmk_tui.app.engine.worker import Engine
from clipmk_tui.app.folder_choices import kept_choice
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.start_options import StartOptions


def typed(text: str) -> list[str]:
    return ["space" if one == " " else one for one in text]


def row_of(screen: MainScreen, start: str) -> str:
    """The row of the tree that starts so, from there on."""
    (found,) = [one for one in lines(screen) if start in one]
    return found[found.index(start) :]


def asks(engine: FakeEngine) -> list[tuple[str, str, tuple[str, ...]]]:
    """(model, name of the image, texts) of every explanation that was asked for."""
    found = [one for one in engine.asked if isinstance(one, protocol.Explain) and not one.maps]
    return [(one.model, one.image.rpartition("/")[2], one.asks) for one in found]


async def test_words_typed_in_one_burst_are_answered_on_top_of_the_tree(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        burst(pilot, "a", *typed("a wet nose"), "enter", "a", *typed("qnp snow"), "enter")
        await settled(pilot)
        assert screen.state.asks == ("a wet nose", "qnp snow")
        assert screen.state.place == (1, 4)
        text = seen(screen)
        assert "? asked (2)" in text
        assert text.index("qnp snow") < text.index("a wet nose") < text.index("pointed ears")
        row = screen.panes.concepts.concept_tree.row
        assert isinstance(row, AskedRow)
        assert row.text == "qnp snow"
        assert row.answer is not None
        assert screen.focused is screen.panes.concepts.concept_tree


async def test_while_a_line_is_typed_the_engine_works_on(album: Path) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine, album) as (pilot, screen):
        await pilot.press("a", *typed("snow"))
        engine.gate.set()
        await until(lambda: screen.state.explanation)
        await pilot.press("y", "enter")
        await settled(pilot)
        assert screen.state.asks == ("snowy",)
        assert row_of(screen, "∩ snowy")


async def test_the_answer_says_seen_tied_and_where_and_opens_to_the_numbers(album: Path) -> None:
    async with running(FakeEngine(), album, size=(200, 50)) as (pilot, screen):
        await press(pilot, "a", *typed("not here"), "enter", "a", *typed("a wet nose"), "enter")
        there, absent = row_of(screen, "∩ a wet nose"), row_of(screen, "◑ not here")
        assert "p " in there
        assert "rank 3" in there
        assert " no " in absent
        await press(pilot, "enter")
        assert "of the vocabulary" in seen(screen)
        assert 'tied to "fox": rank 3' in seen(screen)


async def test_the_map_is_on_the_picture_with_a_legend_and_the_overlay_leaves_it(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a", *typed("a wet nose"), "enter")
        assert 'map of "a wet nose"' in seen(screen)
        assert "+ highest: " in seen(screen)
        assert "not seen" not in seen(screen).split("predictions")[0]
        assert screen.panes.image.border_subtitle == "map"
        frame = screen.panes.image._frame
        assert frame is not None
        assert [text for text, _ in frame.numbers.values()] == ["+"]
        await press(pilot, "g", "g")
        assert "map of" not in seen(screen)
        await press(pilot, "g")
        assert 'map of "a wet nose"' in seen(screen)
        await press(pilot, "down", "down")
        assert "map of" not in seen(screen)


async def test_what_is_not_seen_has_a_map_without_colours_that_says_so(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a", *typed("not here"), "enter")
        assert "not seen: the best fit only" in seen(screen)


async def test_without_patches_the_row_has_no_map_and_the_parts_stay(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a", *typed("mapless"), "enter")
        assert "map of" not in seen(screen)
        assert row_of(screen, "∩ mapless")


async def test_the_next_image_and_model_are_asked_the_same(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "a", *typed("snow"), "enter", "n", "full_stop")
        assert asks(engine)[1:] == [(VIT, "a.png", ("snow",)), (VIT, "b.png", ("snow",)), (RN, "b.png", ("snow",))]
        row = screen.panes.concepts.concept_tree.row
        assert row is not None
        assert not isinstance(row, str)
        assert isinstance(row, AskedRow)
        count = len(engine.asked)
        await press(pilot, "comma", "p")
        assert len(engine.asked) == count


async def test_an_image_that_was_explained_before_is_asked_and_shown_meanwhile(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "n", "p")
        engine.gate.clear()
        await pilot.press("a", *typed("snow"), "enter")
        await pilot.pause()
        assert row_of(screen, "… snow")
        assert "pointed ears" in seen(screen)
        engine.gate.set()
        await settled(pilot)
        assert row_of(screen, "∩ snow")


async def test_the_key_that_leaves_out_removes_what_was_asked(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "a", *typed("snow"), "enter", "a", *typed("ice"), "enter")
        burst(pilot, "x")
        await settled(pilot)
        assert screen.state.asks == ("snow",)
        await press(pilot, "home", "down", "x")
        assert "asked" not in seen(screen)
        assert screen.state.left_out == ()
        assert asks(engine)[-1][2] == ()


async def test_delete_removes_what_was_asked_and_undo_asks_again(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a", *typed("snow"), "enter", "a", *typed("ice"), "enter")
        burst(pilot, "delete", "home", "down", "backspace")
        await settled(pilot)
        assert screen.state.asks == ()
        await press(pilot, "u")
        assert screen.state.asks == ("snow",)
        assert row_of(screen, "∩ snow")
        await press(pilot, "a", *typed("fog"), "enter", "u", "u")
        assert screen.state.asks == ("snow", "fog", "ice")
        assert screen.state.left_out == ()
        await settled(pilot)  # the tree has the rows of the last answer
        assert screen.state.explanation is not None
        screen.panes.concepts.concept_tree.select(screen.state.explanation.vision_concepts[0].text)
        await press(pilot, "delete")
        assert screen.state.left_out == ()
        await press(pilot, "x")
        assert len(screen.state.left_out) == 1
        await press(pilot, "u")
        assert (screen.state.left_out, screen.state.asks) == ((), ("snow", "fog", "ice"))


async def test_the_picture_is_written_with_the_map_that_is_shown(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, _):
        await press(pilot, "a", *typed("snow"), "enter", "w")
        assert 'the picture with the map of "snow"' in seen(pilot.app)
        await press(pilot, "escape", "g", "w")
        assert "the picture with its parts" in seen(pilot.app)


async def test_what_all_texts_need_is_computed_while_the_first_is_typed_unless_nothing_is_asked(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        await pilot.press("a", "escape")
        await until(lambda: engine.cancelled)
        assert engine.cancelled == [engine.asked[-1]]
        assert isinstance(engine.asked[-1], protocol.Explain)
        assert engine.asked[-1].maps
        await pilot.press("a", *typed("snow"), "enter")
        engine.gate.set()
        await settled(pilot)
        assert row_of(screen, "∩ snow")
        assert len(engine.cancelled) == 1
        count = len(engine.asked)
        await press(pilot, "a", "escape")
        assert len(engine.asked) == count


async def test_arrows_recall_earlier_words_and_escape_leaves(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a", *typed("snow"), "enter", "a", *typed("ice"), "enter")
        await press(pilot, "a", "up", "up")
        assert screen.ask_line.value == "snow"
        await press(pilot, "down", "down")
        assert screen.ask_line.value == ""
        await press(pilot, "up", "escape")
        assert not screen.ask_line.is_open
        assert screen.state.asks == ("snow", "ice")
        assert screen.focused is screen.panes.concepts.concept_tree
        await press(pilot, "a", "up", "up", "enter")
        assert screen.state.asks == ("ice", "snow")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", None), ("   ", None), ("x" * 10_000, "has 10000 characters; at most 300"), ("a\x1bb", "control character")],
)
async def test_what_cannot_be_asked_is_declined_in_a_sentence(album: Path, text: str, words: str | None) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a")
        screen.ask_line.value = text
        await press(pilot, "enter")
        assert screen.state.asks == ()
        assert screen.ask_line.is_open is (words is not None)
        assert [note for note in pilot.app.notes if words is None or words not in note] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["[bold]red[/]", "🐶 a dog", "pointed ears", "fox", "a 'quoted' \"one\"", "…"])
async def test_odd_words_are_a_row_like_any_other(album: Path, text: str) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a")
        screen.ask_line.value = text
        await press(pilot, "enter")
        row = screen.panes.concepts.concept_tree.row
        assert isinstance(row, AskedRow)
        assert row.text == text
        assert text in seen(screen)
        await press(pilot, "down", "up", "n", "x")
        assert screen.state.asks == ()


async def test_a_failure_removes_what_was_not_answered_and_says_why(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.failures[protocol.Explain] = RequestError("model", "it is broken")
        await press(pilot, "a", *typed("snow"), "enter")
        assert screen.state.asks == ()
        assert pilot.app.notes == ["not answered: it is broken"]  # type: ignore[attr-defined]
        assert "pointed ears" in seen(screen)


async def test_cancelling_removes_what_was_not_answered(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        await pilot.press("a", *typed("snow"), "enter")
        await pilot.pause()
        await pilot.press("escape")
        engine.gate.set()
        await settled(pilot)
        assert screen.state.asks == ()
        assert "asked" not in seen(screen).replace("not asked", "")


async def test_what_was_asked_is_copied_in_words_and_written(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "a", *typed("snow"), "enter", "y")
        assert pilot.app.clipboard.startswith("snow: seen: nearer than")
        assert 'tied to "fox"' in pilot.app.clipboard
        written = screen.state.with_what_if
        assert written is not None
        assert [one.text for one in written.asked] == ["snow"]


async def test_the_comparison_has_a_row_for_what_was_asked(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=MODELS) as (pilot, screen):
        await press(pilot, "a", *typed("snow"), "enter", "c")
        requests = [one for one in engine.asked if isinstance(one, protocol.Compare)]
        assert [(one.models, one.asks) for one in requests] == [(MODELS[1:], ("snow",))]
        (row,) = [one for one in lines(pilot.app) if "? snow" in one]
        assert row.count("∩") >= len(MODELS)
        while "snow: seen:" not in seen(pilot.app):
            await press(pilot, "down")
        await press(pilot, "enter")
        assert isinstance(screen.panes.concepts.concept_tree.row, AskedRow)


async def test_one_more_class_is_asked_about_and_kept_for_the_folder(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        burst(pilot, "plus", *typed("yak"), "enter", "plus", *typed("emu"), "enter")
        await settled(pilot)
        assert [session.added_classes for session in engine.sessions] == [("yak",), ("yak", "emu")]
        assert screen.state.target == "emu"
        kept = kept_choice(str(album))
        assert kept is not None
        assert kept.classes is not None
        assert '"yak",\n "emu"\n]' in Path(kept.classes).read_text("utf-8")
        await press(pilot, "k")
        listed = pilot.app.screen.query_one("#classes", TextArea).text
        assert listed.splitlines()[-2:] == ["yak", "emu"]


async def test_the_line_takes_the_place_of_the_keys_at_every_size(album: Path) -> None:
    for size in ((60, 16), (80, 24), (200, 60)):
        async with running(FakeEngine(), album, size=size) as (pilot, screen):
            before = screen.panes.image.size
            await press(pilot, "a", "z", "z", *typed("snow"))
            assert "zzsnow" in seen(screen).splitlines()[-1]
            assert screen.panes.image.size == before
            await press(pilot, "enter", "z", "a", *typed("ice"), "enter")
            assert screen.state.asks == ("zzsnow", "ice")
            assert "? help" in seen(screen).splitlines()[-1]
            assert 'map of "ice"' in seen(screen)


async def test_the_real_engine_answers_without_another_forward(scene_files: list[Path], tmp_path: Path) -> None:
    session = Session(vocabulary="world", settings=preset("default"), cache=False)
    options = StartOptions(paths=(str(scene_files[0]),), models=("embedded/vit-s8",), session=session)
    from app_harness import TestedApp  # noqa: PLC0415

    app = TestedApp(options, lambda: Engine(session))
    async with app.run_test(size=(120, 40)) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        await until(lambda: screen._panes is not None and screen.state.explanation)
        await settled(pilot)
        first = screen.state.explanation
        burst(pilot, "a", *typed("a red sail"), "enter", "a", *typed("snow"), "enter")
        await until(lambda: screen.state.is_complete(screen.state.explanation) and screen.state.asks[1:])
        await settled(pilot)
        explanation = screen.state.explanation
        assert explanation is not None
        assert first is not None
        assert explanation.vision_concepts == first.vision_concepts
        assert [one.text for one in explanation.asked] == ["a red sail", "snow"]
        assert all(one.map is not None for one in explanation.asked)
        assert 'map of "snow"' in seen(screen)
        burst(pilot, "plus", *typed("wolf"), "enter")
        await until(lambda: screen.state.explanation and screen.state.target == "wolf")
        await settled(pilot)
        assert screen.state.explanation is not None
        assert screen.state.explanation.class_name == "wolf"
        assert "wolf" in screen.state.classes
