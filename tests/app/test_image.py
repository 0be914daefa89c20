"""What the app shows of images: the pane with parts and legend, and the picker."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

import samples
from app_harness import LIMIT, settled
from clipmk.images.decoder import Picture, read_picture
from clipmk_tui.app import canvas as canvas_module
from clipmk_tui.app.messages import SelectPart
from clipmk_tui.app.widgets.image_pane import ImagePane

NAME = "fox_03.png"
EVIL = "[red]\x1b[31m\u202e" + "long " * 60


class Host(App[None]):
    """An app with one image pane; remembers what the pane says and which of its regions are written."""

    CSS = "ImagePane { background: #101010; }"

    def __init__(self) -> None:
        super().__init__()
        self.regions: list[Region | None] = []
        self.selected: list[SelectPart] = []

    def on_select_part(self, message: SelectPart) -> None:
        self.selected.append(message)

    def compose(self) -> ComposeResult:
        host = self

        class Watched(ImagePane):
            def refresh(self, *regions: Region, **options: Any) -> Any:
                host.regions += regions or (() if not self.is_attached else (None,))
                return super().refresh(*regions, **options)

        yield Watched()

    @property
    def pane(self) -> ImagePane:
        return self.query_one(ImagePane)

    def text(self) -> list[str]:
        return [self.pane.render_line(y).text for y in range(self.pane.size.height)]


@asynccontextmanager
async def hosted(size: tuple[int, int] = (40, 24)) -> AsyncIterator[tuple[Host, Pilot[None]]]:
    app = Host()
    async with app.run_test(size=size) as pilot:
        app.pane.focus()
        await settled(pilot)
        yield app, pilot


def picture(name: str = NAME, seed: int | None = None) -> Picture:
    if seed is None:
        return read_picture(np.asarray(samples.picture()), name=name)
    noise = np.random.default_rng(seed).integers(0, 256, (samples.HEIGHT, samples.WIDTH, 3), dtype=np.uint8)
    return read_picture(noise, name=name)


async def explained(app: Host, pilot: Pilot[None], seed: int | None = None) -> None:
    app.pane.picture = picture(seed=seed)
    app.pane.explanation = samples.explanation()
    await settled(pilot)
    app.regions.clear()


async def test_a_name_in_the_legend_is_marked_where_its_concept_is_seen_elsewhere() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot)
        first, second = (part.descriptors[0] for part in samples.explanation().parts)
        legend = [line.split("  ")[0].strip() for line in app.text()]
        assert {f"1 {first.text}", f"2 {second.text}"} <= set(legend)
        made = samples.explanation()
        alike = dataclasses.replace(made.parts[1], descriptors=made.parts[0].descriptors)
        concepts = tuple(dataclasses.replace(concept, parts=(1,)) for concept in made.vision_concepts)
        app.pane.explanation = dataclasses.replace(made, parts=(made.parts[0], alike), vision_concepts=concepts)
        await settled(pilot)
        legend = [line.split("  ")[0].strip() for line in app.text()]
        assert {f"1 {first.text}", f"2 ? {first.text}"} <= set(legend)


def written_cells(regions: list[Region | None]) -> set[tuple[int, int]]:
    """(row, column) of what was written; the whole pane is not."""
    assert None not in regions
    boxes = [region for region in regions if region is not None]
    return {(y, x) for box in boxes for y in range(box.y, box.bottom) for x in range(box.x, box.right)}


def changed_cells(before: list[Any], after: list[Any]) -> set[tuple[int, int]]:
    pairs = ((y, zip(old, new, strict=True)) for y, (old, new) in enumerate(zip(before, after, strict=True)))
    return {(y, x) for y, row in pairs for x, (old, new) in enumerate(row) if old != new}


def cells(app: Host) -> list[list[tuple[str, Any]]]:
    return [
        [(character, style) for text, style, _ in strip for character in text]
        for strip in (app.pane.render_line(y) for y in range(app.pane.size.height))
    ]


async def test_a_quiet_text_is_shown_where_no_picture_is() -> None:
    async with hosted() as (app, pilot):
        assert any("no image yet" in line for line in app.text())
        app.pane.picture = f"{EVIL} is missing"
        await pilot.pause()
        text = "".join(app.text())
        assert r"[red]\x1b[31m\u202e" in " ".join(text.split())
        assert not set(text) & set("\x1b\u202e")


async def test_a_message_is_wrapped_and_goes_with_the_next_picture() -> None:
    async with hosted((24, 12)) as (app, pilot):
        await explained(app, pilot)
        app.pane.picture = "image [b]'x.png'[/b] is damaged: the end of the file is missing"
        await pilot.pause()
        text = app.text()
        joined = " ".join(" ".join(text).split())
        assert joined == "image [b]'x.png'[/b] is damaged: the end of the file is missing"
        assert {len(line) for line in text} == {24}
        app.pane.picture = picture(seed=1)
        await settled(pilot)
        assert "damaged" not in "".join(app.text())
        assert "▀" in "".join(app.text())


@pytest.mark.parametrize("first", ["picture", "explanation"])
async def test_picture_and_explanation_may_come_in_any_order(first: str) -> None:
    async with hosted() as (app, pilot):
        steps = [
            lambda: setattr(app.pane, "picture", picture()),
            lambda: setattr(app.pane, "explanation", samples.explanation()),
        ]
        for step in steps if first == "picture" else steps[::-1]:
            step()
            await settled(pilot)
        assert " 1 pointed ears" in "".join(app.text())


async def test_parts_of_another_image_are_never_drawn() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot)
        before = cells(app)
        app.pane.explanation = dataclasses.replace(samples.explanation(path="other.png"), parts=())
        await settled(pilot)
        assert cells(app) == before
        assert app.regions == []
        app.pane.explanation = samples.explanation()
        app.pane.picture = picture("third.png")
        await settled(pilot)
        assert "pointed ears" not in "".join(app.text())


async def test_the_picture_stays_where_it_is_whatever_is_known_of_it() -> None:
    async with hosted((30, 20)) as (app, pilot):
        app.pane.picture = picture(seed=1)
        await settled(pilot)
        places = [[at for at, cell in enumerate(row) if cell[0] == "▀"] for row in cells(app)]
        app.pane.explanation = samples.explanation()
        await settled(pilot)
        after = [[at for at, cell in enumerate(row) if cell[0] in "▀123"] for row in cells(app)]
        picture_rows = [row for row, columns in enumerate(places) if columns]
        assert len(picture_rows) >= 10
        for row in picture_rows:
            ends = [(row[0], row[-1]) for row in (places[row], after[row])]  # of equal pixels a cell may be blank
            assert ends[0] == ends[1]


async def test_lighting_another_part_writes_only_the_rows_of_both() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot, seed=1)
        app.pane.lit = frozenset({3})
        await settled(pilot)
        app.regions.clear()
        before = cells(app)
        app.pane.lit = frozenset({1})
        await pilot.pause()
        changed = changed_cells(before, cells(app))
        written = written_cells(app.regions)
        assert changed
        assert changed <= written
        assert {y for y, _ in written} == {y for y, _ in changed}
        assert len({y for y, _ in written}) < 16
        legend = {(y, x) for y, x in written if "%" in app.text()[y]}
        assert len(written - legend) <= 1.6 * len(changed - legend)


@pytest.mark.parametrize("mode", ["parts", "concept"])
async def test_the_lit_part_shows_in_picture_and_legend(mode: str) -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot, seed=2)
        while app.pane.mode != mode:
            app.pane.cycle_overlay()
            await settled(pilot)
        unlit = cells(app)
        app.pane.lit = frozenset({2})
        await settled(pilot)
        assert cells(app) != unlit
        text = app.text()
        assert any("2" in line and "▀" in line for line in text)
        app.pane.lit = frozenset()
        await settled(pilot)
        assert cells(app) == unlit


async def test_what_does_not_change_writes_nothing() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot)
        app.pane.lit = frozenset({1})
        app.pane.blurred = frozenset({2})
        await settled(pilot)
        app.regions.clear()
        app.pane.lit = frozenset({1})
        app.pane.blurred = frozenset({2})
        app.pane.lit = frozenset({1, 77})  # no such part
        app.pane.explanation = samples.explanation()
        await settled(pilot)
        assert app.regions == []


async def test_a_new_picture_of_the_same_shape_is_written_once() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot, seed=1)
        app.pane.explanation = None
        app.pane.picture = picture("b.png", seed=2)
        await settled(pilot)
        rows = [row for region in app.regions if region is not None for row in range(region.y, region.bottom)]
        assert None not in app.regions
        assert len(rows) == len(set(rows))


async def test_left_out_parts_are_blurred_and_marked_by_a_sign() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot, seed=3)
        before = cells(app)
        app.pane.blurred = frozenset({2})
        await settled(pilot)
        assert cells(app) != before
        assert "○2 a bushy tail" in "".join(app.text())
        assert " 1 pointed ears" in "".join(app.text())


def selected(app: Host) -> list[int]:
    return [message.part for message in app.selected]


async def test_a_click_on_the_picture_or_the_legend_selects_the_part_that_is_there() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot, seed=3)
        for number in (1, 2):
            row, column = next(
                (y, line.index(f"▀{number}▀") + 1) for y, line in enumerate(app.text()) if f"▀{number}▀" in line
            )
            await pilot.click(ImagePane, offset=(column, row))
        lines = app.text()
        legend = next(y for y, line in enumerate(lines) if " 2 " in line and "%" in line)
        await pilot.click(ImagePane, offset=(3, legend))
        await pilot.click(ImagePane, offset=(0, 0))  # background
        assert selected(app) == [1, 2, 2]


async def test_arrows_walk_through_the_parts() -> None:
    async with hosted() as (app, pilot):
        await pilot.press("down", "up")
        assert selected(app) == []
        await explained(app, pilot)
        for key in ("down", "right", "down", "down", "up", "left"):
            await pilot.press(key)
            app.pane.lit = frozenset(selected(app)[-1:])
        assert selected(app) == [1, 2, 1, 2, 1, 2]


async def test_the_overlay_cycles_through_its_modes() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot)
        modes = [("concept", "concept under the cursor"), ("plain", "plain"), ("parts", "")]
        for mode, subtitle in modes:
            app.pane.cycle_overlay()
            await settled(pilot)
            assert (app.pane.mode, app.pane.border_subtitle) == (mode, subtitle)


async def test_concept_mode_without_a_lit_part_is_the_plain_picture() -> None:
    async with hosted() as (app, pilot):
        await explained(app, pilot, seed=4)
        app.pane.cycle_overlay()
        await settled(pilot)
        concept = cells(app)
        app.pane.cycle_overlay()
        await settled(pilot)
        assert cells(app) == concept


async def test_the_state_at_the_end_is_drawn_however_quickly_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread is at work the pane is shown other things; only the last ones are drawn, all on one thread."""
    gate, at_once = threading.Event(), []
    real = canvas_module.shrunk

    def slow(*args: Any, **options: Any) -> Any:
        at_once.append(threading.current_thread() is threading.main_thread())
        assert gate.wait(LIMIT)
        return real(*args, **options)

    monkeypatch.setattr(canvas_module, "shrunk", slow)
    async with hosted() as (app, pilot):
        for seed in range(5):
            app.pane.picture = picture(f"{seed}.png", seed=seed)
            await pilot.pause()
        app.pane.picture = picture()
        app.pane.explanation = samples.explanation()
        app.pane.lit = frozenset({2})
        await pilot.pause()
        gate.set()
        await settled(pilot)
        assert at_once == [False, False]  # the first and the last
        last = cells(app)
    monkeypatch.undo()
    async with hosted() as (app, pilot):
        await explained(app, pilot)
        app.pane.lit = frozenset({2})
        await settled(pilot)
        assert cells(app) == last


async def test_a_message_while_a_picture_is_drawn_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), canvas_module.shrunk
    monkeypatch.setattr(canvas_module, "shrunk", lambda *a, **o: (gate.wait(LIMIT), real(*a, **o))[1])
    async with hosted() as (app, pilot):
        app.pane.picture = picture()
        await pilot.pause()
        app.pane.picture = "gone"
        gate.set()
        await settled(pilot)
        assert " ".join(" ".join(app.text()).split()) == "gone"


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 2), (200, 60), (60, 8), (12, 40)])
async def test_any_size_is_drawn_and_resized(size: tuple[int, int]) -> None:
    async with hosted((30, 12)) as (app, pilot):
        await explained(app, pilot)
        app.pane.lit = frozenset({1})
        await pilot.resize_terminal(*size)
        await settled(pilot)
        assert (app.pane.size.width, app.pane.size.height) == size
        assert {len(row) for row in cells(app)} == {size[0]}
        assert app.export_screenshot()


async def test_descriptors_are_neither_markup_nor_control() -> None:
    async with hosted() as (app, pilot):
        app.pane.picture = picture()
        app.pane.explanation = samples.explanation(descriptor=EVIL)
        await settled(pilot)
        text = "".join(app.text())
        assert r" 1 [red]\x1b[31m" in text
        assert not set(text) & set("\x1b\u202e")
