"""Finding an image by its name: the search, and the screen around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from textual.pilot import Pilot
from textual.widgets import Input

import samples
from app_harness import Host, press, settled
from clipmk.images.decoder import Picture, read_picture
from clipmk_tui.app.fuzzy import matching, offsets, ranked
from clipmk_tui.app.image_list import Item
from clipmk_tui.app.screens import picker
from clipmk_tui.app.screens.picker import PickerScreen
from clipmk_tui.app.screens.search import Matches
from clipmk_tui.app.widgets.image_pane import ImagePane

EVIL = "[red]\x1b[31m\u202e" + "long " * 60


# Finding names.


@given(st.text("abc/", max_size=4), st.lists(st.text("abc/", max_size=8), max_size=8))
def test_all_names_that_hold_the_characters_in_order_are_found(query: str, names: list[str]) -> None:
    def holds(name: str) -> bool:
        characters = iter(name)
        return all(character in characters for character in query)

    found = matching(query, names)
    assert found == [place for place, name in enumerate(names) if holds(name)]
    assert sorted(ranked(query, names, found)) == found
    for place in found:
        where = offsets(query, names[place])
        assert [names[place][at] for at in where] == list(query)
        assert where == sorted(set(where))


def test_characters_together_and_beginnings_of_words_come_first() -> None:
    names = ["flourbox.png", "red_fox.png", "f/o/x.png", "fox.png", "foxglove_tall.png"]
    order = [names[place] for place in ranked("fox", names, range(len(names)))]
    assert order[0] == "fox.png"
    assert order[-1] == "flourbox.png"


def test_a_name_of_one_letter_repeated_is_no_trap() -> None:
    """Textual's own search would try every choice of 12 among 300."""
    assert ranked("a" * 12 + "b", ["a" * 300 + "xb"], [0]) == [0]


# The picker.


class PickerHost(Host):
    """Opens a picker."""

    def __init__(self, screen: PickerScreen) -> None:
        super().__init__(lambda: screen)
        self.picker = screen

    @property
    def shown(self) -> str:
        matches = self.picker.query_one(Matches)
        return "\n".join(matches.render_line(y).text.rstrip() for y in range(matches.size.height))


@pytest.fixture
def files(tmp_path: Path) -> list[Item]:
    for name, colour in (("red_fox.png", "red"), ("cat.png", "blue"), ("broken.png", None), ("wolf.png", "grey")):
        if colour is None:
            (tmp_path / name).write_bytes(b"\x89PNG no")
        else:
            Image.new("RGB", (30, 20), colour).save(tmp_path / name)
    labels = {"red_fox.png": "fox", "cat.png": "cat", "broken.png": None, "wolf.png": "wolf"}
    return [Item(str(tmp_path / name), label) for name, label in labels.items()]


@asynccontextmanager
async def picking(
    items: list[Item], size: tuple[int, int] = (80, 24), **options: Any
) -> AsyncIterator[tuple[PickerHost, Pilot[None]]]:
    app = PickerHost(PickerScreen(items, **options))
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        yield app, pilot


async def test_typing_narrows_the_list_and_enter_takes_the_best(files: list[Item]) -> None:
    async with picking(files) as (app, pilot):
        await press(pilot, *"rf")
        assert "red_fox.png" in app.shown
        assert "cat.png" not in app.shown
        await press(pilot, "enter")
        assert app.answers == [0]


async def test_a_shorter_query_finds_again_what_a_longer_one_lost(files: list[Item]) -> None:
    async with picking(files) as (app, pilot):
        await press(pilot, "w", "x")
        assert app.shown.strip() == ""
        await press(pilot, "backspace", "backspace")
        assert all(name in app.shown for name in ("red_fox", "cat", "broken", "wolf"))


async def test_arrows_move_within_the_list_and_escape_gives_nothing(files: list[Item]) -> None:
    async with picking(files, current=1) as (app, pilot):
        assert "▸ cat.png" in app.shown
        await press(pilot, "up", "up")
        assert "▸ red_fox.png" in app.shown
        await press(pilot, *["down"] * 4)
        assert "▸ wolf.png" in app.shown
        await press(pilot, "escape")
        assert app.answers == [None]


async def test_the_image_under_the_cursor_is_shown_and_a_broken_one_says_so(files: list[Item]) -> None:
    async with picking(files) as (app, pilot):
        pane = app.picker.query_one(ImagePane)

        def colours() -> set[Any]:
            strips = [pane.render_line(y) for y in range(pane.size.height)]
            return {style.bgcolor.triplet for strip in strips for _, style, _ in strip if style and style.bgcolor}

        assert (255, 0, 0) in colours()
        await press(pilot, "down")
        assert (0, 0, 255) in colours()
        await press(pilot, "down")
        text = " ".join(" ".join(pane.render_line(y).text for y in range(pane.size.height)).split())
        assert "is damaged" in text


async def test_holding_an_arrow_decodes_only_where_it_stops(files: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(path: str, *, least_side: int) -> Picture:
        read.append(Path(path).name)
        assert threading.current_thread() is not threading.main_thread()
        return read_picture(np.asarray(samples.picture()), name=path)

    monkeypatch.setattr("clipmk.images.decoder.read_picture", reading)
    many, stopped = [Item(f"{number}.png", None) for number in range(50)], asyncio.Event()
    async with picking(many) as (app, pilot):
        read.clear()
        monkeypatch.setattr(
            picker, "asyncio", SimpleNamespace(sleep=lambda _: stopped.wait(), to_thread=asyncio.to_thread)
        )
        for _ in range(30):
            app.picker.action_move(1)
            await pilot.pause()
        assert read == []
        stopped.set()
        await settled(pilot)
        assert read == ["30.png"]


async def test_labels_are_named_and_never_markup() -> None:
    items = [Item("fox.png", "fox"), Item("evil.png", "[b]x[/b]\x1b"), Item("worse.png", EVIL)]
    async with picking(items) as (app, _):
        lines = app.shown.splitlines()
        assert lines[0].split()[-1] == "fox"
        assert r"[b]x[/b]\x1b" in lines[1]
        assert "[red]" in lines[2]
        assert not set(app.shown) & set("\x1b\u202e")
        assert "label fox" in str(app.picker.query_one("#caption").render())


async def test_a_path_that_matches_nothing_can_be_opened(files: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "deeper"
    folder.mkdir()
    Image.new("RGB", (30, 20), "red").save(folder / "deep.png")
    async with picking(files) as (app, pilot):
        app.picker.query_one(Input).value = str(folder)
        await pilot.pause()
        assert "enter opens the folder" in str(app.picker.query_one("#message").render())
        await press(pilot, "enter")
        assert app.answers == [str(folder)]


async def test_a_folder_is_named_from_where_the_images_are(files: list[Item], tmp_path: Path) -> None:
    (tmp_path / "uvxyz").mkdir()
    Image.new("RGB", (30, 20), "red").save(tmp_path / "uvxyz" / "deep.png")
    async with picking(files) as (app, pilot):
        await press(pilot, *"uvxyz", "enter")
        assert app.answers == [str(tmp_path / "uvxyz")]


async def test_what_cannot_be_opened_is_refused_in_words_and_the_list_stays(files: list[Item], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").write_text("no image", encoding="utf-8")
    wanted = {
        "/nope/foo.png": "'/nope/foo.png' does not exist",
        str(tmp_path / "notes"): "is not an image",
        str(tmp_path / "empty"): "holds no image",
    }
    async with picking(files) as (app, pilot):
        for path, words in wanted.items():
            app.picker.query_one(Input).value = path
            await press(pilot, "enter")
            assert words in str(app.picker.query_one("#message").render())
            assert app.answers == []
        app.picker.query_one(Input).value = "cat"
        await press(pilot, "enter")
        assert app.answers == [1]


async def test_the_path_of_an_item_is_that_item(files: list[Item]) -> None:
    async with picking(files) as (app, pilot):
        app.picker.query_one(Input).value = files[3].path
        await press(pilot, "enter")
        assert app.answers == [3]


async def test_enter_on_nothing_stays_open(files: list[Item]) -> None:
    async with picking(files) as (app, pilot):
        await press(pilot, "z", "z", "enter")
        assert app.answers == []
        assert "nothing matches" in str(app.picker.query_one("#message").render())


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (30, 8), (10, 4)])
async def test_long_names_fit_and_keep_their_ends(size: tuple[int, int]) -> None:
    items = [Item("folder/" + "x" * 300 + f"_{number}.png", "a label " * 20) for number in range(3)]
    async with picking(items, size=size) as (app, _):
        width = app.picker.query_one(Matches).size.width
        for line in app.shown.splitlines()[:3]:
            assert len(line) <= width
        if size[0] >= 80:
            assert "_1.png" in app.shown
        assert app.export_screenshot()


async def test_ten_thousand_names_are_searched_by_every_key() -> None:
    items = [Item(f"holiday/{number % 7}/picture_{number:05d}.png", None) for number in range(10_000)]
    async with picking(items) as (app, pilot):
        assert "10000 of 10000" in str(app.picker.query_one("#message").render())
        await press(pilot, *"p9")
        app.picker.query_one(Input).value = "pic09876"
        await pilot.pause()
        assert "picture_09876.png" in app.shown.splitlines()[0]
        await press(pilot, "enter")
        assert app.answers == [9876]


async def test_an_empty_album_can_be_left() -> None:
    async with picking([]) as (app, pilot):
        await press(pilot, "down", "up", "enter", "escape")
        assert app.answers == [None]
