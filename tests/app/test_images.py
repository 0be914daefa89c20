"""The table of images: of a folder while it is explained, and of a study."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets._toast import Toast

import samples
import study_shards
from app_harness import RN, VIT, FakeEngine, TestedApp, burst, line, press, running, seen, settled, until
from clipmk.browse.image_table import ConceptCount
from clipmk.errors import InputError
from clipmk.study.schema import PLAN
from clipmk.system.parquet import write_rows
from clipmk.worker import protocol
from clipmk_tui.app.charts import Plot
from clipmk_tui.app.image_rows import concept_columns
from clipmk_tui.app.screens.images import ImagesScreen
from clipmk_tui.app.start_options import resolve_start_options
from clipmk_tui.app.widgets.row_table import Column, fit

COUNT = 24


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two foxes, a cat and a fox, labelled."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    folder = tmp_path / "album"
    folder.mkdir()
    for name in "abcd":
        samples.picture().save(folder / f"{name}.png")
    (folder / "labels.csv").write_text("path,label\na.png,fox\nb.png,fox\nc.png,cat\nd.png,fox\n")
    return folder


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, 24 images of a folder, three classes; some are unlabelled, some broken."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    pool = study_shards.POOL[:2]
    manifest = study_shards.make_manifest(pool=pool, images=COUNT, classes=3, shard_size=COUNT)
    models = tuple(replace(model, id=name) for model, name in zip(manifest.models, (VIT, RN), strict=True))
    manifest = replace(manifest, models=models, dataset=replace(manifest.dataset, root=str(pictures)))
    folder = study_shards.write_study(tmp_path / "study", manifest, pool=pool)
    names, rows = study_shards.class_names(3), []
    for image in range(COUNT):
        key = f"{image:05d}.jpg"
        if image != 2:
            samples.picture().save(pictures / key)
        label = None if image % 17 == 3 else names[image * 3 // COUNT]
        group = {"image": image, "group": image // study_shards.TOGETHER, "shard": 0}
        rows.append(dict.fromkeys(PLAN.names) | group | {"key": key, "path": key, "label": label})
    write_rows(rows, folder.plan, PLAN, manifest.made_of())
    return folder.root


@asynccontextmanager
async def opened(study: Path, size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[Pilot[Any], ImagesScreen]]:
    """The app on a study, its table drawn, and what it says at the start gone."""
    app = TestedApp(resolve_start_options([str(study)], {}), FakeEngine)  # type: ignore[arg-type]
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: isinstance(app.screen, ImagesScreen))
        await settled(pilot)
        app.clear_notifications()
        await settled(pilot)
        assert isinstance(app.screen, ImagesScreen)
        yield pilot, app.screen


def title(pilot: Pilot[Any]) -> str:
    return seen(pilot.app).splitlines()[0].strip()


# A folder.


async def test_a_folder_is_explained_in_its_table_and_an_image_opens_and_comes_back(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=(VIT, RN)) as (pilot, main):
        await press(pilot, "i")
        assert title(pilot) == "images  4 images · 1 wrong in vit-s8"
        assert "✓ fox 71 %" in line(pilot.app, "▸   a.png")
        asked = [one for one in engine.asked if isinstance(one, protocol.ExplainImages)]
        assert {one.model for one in asked} == {VIT, RN}
        await press(pilot, "down", "down", "enter")
        assert pilot.app.screen is main
        assert main.state.item is not None
        assert main.state.item.path.endswith("c.png")
        await press(pilot, "n")
        assert main.state.item.path.endswith("d.png")
        await press(pilot, "escape")
        assert line(pilot.app, "▸").split()[1] == "d.png"
        await press(pilot, "i", "escape")
        assert pilot.app.screen is main
        assert [one for one in engine.asked if isinstance(one, protocol.ExplainImages)] == asked


async def begin_filling(engine: FakeEngine, pilot: Pilot[Any]) -> None:
    """Open the table; the engine answers once its gate is open."""
    engine.gate.clear()
    burst(pilot, "i")
    await until(lambda: isinstance(engine.asked[-1], protocol.ExplainImages))


async def test_what_is_asked_meanwhile_goes_first_and_the_table_goes_on_after_it(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, main):
        await begin_filling(engine, pilot)
        task = main.panes.run_worker(main.panes.questions.explanation("other.png", VIT, None))
        await until(lambda: any(isinstance(one, protocol.ExplainImages) for one in engine.cancelled))
        assert isinstance(engine.asked[-1], protocol.Explain)
        engine.gate.set()
        await task.wait()
        await settled(pilot)
        assert "4 images · 1 wrong" in title(pilot)
        assert "explained" not in title(pilot)


async def test_filling_can_be_paused_and_an_image_that_fails_says_why(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, _):
        await begin_filling(engine, pilot)
        burst(pilot, "space")
        await until(lambda: "explained 0/4 paused" in title(pilot))
        engine.failures[str(album / "b.png")] = InputError("b.png is truncated")
        engine.gate.set()
        await press(pilot, "space")
        assert "! b.png is trunca" in line(pilot.app, "b.png")
        assert title(pilot) == "images  4 images · 1 of 3 wrong in vit-s8"


async def test_marks_and_notes_are_kept_beside_the_images_and_can_be_filtered(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, _):
        await press(pilot, "i", "down", "m", "N")
        assert "a note on this image   enter keeps it" in seen(pilot.app).splitlines()[-1]
        await press(pilot, "o", "d", "d")
        assert seen(pilot.app).splitlines()[-1].strip() == "odd"
        await press(pilot, "enter")
        assert line(pilot.app, "▸ ★").rstrip().endswith("odd")
        await press(pilot, "slash", *"marked", "enter")
        assert "1 of 4 images" in title(pilot)
        assert "filter: marked" in title(pilot)
    assert '"b.png","x","odd"' in (album / ".clipmk-notes.csv").read_text()


async def test_a_folder_without_labels_has_no_truth_and_says_so_in_a_filter(album: Path) -> None:
    (album / "labels.csv").unlink()
    async with running(FakeEngine(), album) as (pilot, _):
        await press(pilot, "i")
        assert title(pilot) == "images  4 images"
        assert "truth" not in seen(pilot.app)
        await press(pilot, "slash", *"wrong", "enter")
        assert "there are no labels" in seen(pilot.app)
        await press(pilot, "escape", "tab")
        assert title(pilot).startswith("classes of vit-s8")
        await press(pilot, "enter", "enter")
        assert 'filter: predicted:"fox" concept:"' in title(pilot)


# Filter.


async def test_a_filter_says_what_is_wrong_and_where_while_it_is_typed(study: Path) -> None:
    async with opened(study) as (pilot, screen):
        await press(pilot, "slash", *"p ! 3")
        assert "▾" in seen(pilot.app)
        await press(pilot, "enter")
        assert screen.focused is not screen.rows
        await press(pilot, "escape")
        assert title(pilot).startswith(f"images  {COUNT} images")
        assert "00000.jpg" in line(pilot.app, "▸")


async def test_the_palette_and_help_know_the_keys(study: Path) -> None:
    async with opened(study) as (pilot, _):
        await press(pilot, "ctrl+p", *"sort by the next", "enter")
        assert "▲" in seen(pilot.app)
        await press(pilot, "question_mark")
        assert "help: images" in seen(pilot.app)


async def test_an_empty_result_says_so(study: Path) -> None:
    async with opened(study) as (pilot, _):
        await press(pilot, "slash", *"nowhere", "enter", "enter", "m", "N", "down")
        assert f"0 of {COUNT} images" in title(pilot)
        assert "no image matches" in seen(pilot.app)


# A study.


async def test_a_study_is_gone_down_into_and_up_again_to_the_same_row(study: Path) -> None:
    async with opened(study) as (pilot, screen):
        await press(pilot, "down", "tab")
        assert "right [95 %]" in seen(pilot.app)
        await press(pilot, "down", "enter")
        assert title(pilot).startswith("classes of")
        await press(pilot, "enter")
        assert title(pilot).startswith("concepts of")
        assert 'filter: class:"' in title(pilot)
        await press(pilot, "enter")
        assert title(pilot).startswith("images")
        assert ' concept:"' in title(pilot)
        await press(pilot, "escape", "backspace", "escape")
        assert screen.rows.cursor == 1
        assert title(pilot).startswith("models")
        await press(pilot, *["tab"] * 3)
        assert "strength (MI) that is left" in seen(pilot.app)
        await press(pilot, "tab")
        assert "00001.jpg" in line(pilot.app, "▸")


async def test_two_models_are_set_against_each_other(study: Path) -> None:
    async with opened(study) as (pilot, screen):
        counts = []
        for wanted in ("a != b", "only a", "only b", ""):
            await press(pilot, "d")
            assert title(pilot).endswith(f"filter: {wanted}") == bool(wanted)
            counts.append(screen.rows.count)
        assert counts[0] >= counts[1] + counts[2] > 0
        first = title(pilot).partition("wrong in ")[2]
        await press(pilot, "full_stop")
        assert title(pilot).partition("wrong in ")[2] != first


async def test_rows_are_sorted_by_one_column_after_the_other_both_ways(study: Path) -> None:
    async with opened(study) as (pilot, screen):
        for _ in range(3):
            await press(pilot, "s")
        assert "▲" in seen(pilot.app).splitlines()[screen.rows.region.y]
        key = next(column.key for column in screen.rows.columns if column.heading.startswith("▲"))
        await press(pilot, "s")
        assert next(column.key for column in screen.rows.columns if column.heading.startswith("▼")) == key
        await press(pilot, "tab", "tab", "s", "s")
        assert title(pilot).startswith("classes")
        assert any(column.heading.startswith("▼") for column in screen.rows.columns)


async def test_an_image_that_is_gone_keeps_its_row_and_another_opens(study: Path) -> None:
    async with opened(study) as (pilot, screen):
        await press(pilot, "escape")
        assert pilot.app.screen is screen
        await press(pilot, "down", "down", "enter")
        assert pilot.app.screen is screen
        assert pilot.app.notes[-1].endswith("00002.jpg' does not exist any more")  # type: ignore[attr-defined]
        await press(pilot, "down", "enter")
        assert pilot.app.screen is not screen
        assert "00003.jpg" in seen(pilot.app).splitlines()[0]
        await press(pilot, "escape")
        assert "00003.jpg" in line(pilot.app, "▸")


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
async def test_a_message_covers_neither_rows_nor_what_is_said_of_one(study: Path, size: tuple[int, int]) -> None:
    async with opened(study, size) as (pilot, screen):
        before = seen(screen).splitlines()
        await press(pilot, "escape")
        after = seen(screen).splitlines()
        assert len(screen.query(Toast)) == 1
        assert after[0].startswith(before[0][:20])
        assert after[0] != before[0]
        assert after[1:] == before[1:]


async def test_a_study_explains_as_it_was_made_or_says_what_differs(study: Path) -> None:
    options = resolve_start_options([str(study)], {})
    assert options.models == (VIT, RN)
    assert options.study == study
    assert options.session.settings.preset == "paper"
    assert options.session.settings.fit == "image"
    assert "the study's vocabulary 'world' is not here" in options.note
    assert "image by image" in options.note
    assert resolve_start_options([str(study)], {"preset": "default"}).session.settings.preset == "default"


def test_a_damaged_study_or_one_of_another_version_is_refused(study: Path) -> None:
    manifest = study / "study.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format": 2', '"format": 99'))
    with pytest.raises(InputError, match="format 99"):
        resolve_start_options([str(study)], {})
    manifest.write_text(text[:100])
    with pytest.raises(InputError, match="cannot be read"):
        resolve_start_options([str(study)], {})


async def test_keys_before_the_table_is_there_do_nothing(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()

    def waiting(results: Any) -> list[Any]:
        told.wait(60)
        return []

    monkeypatch.setattr("clipmk_tui.app.browsing.advice", waiting)
    app = TestedApp(resolve_start_options([str(study)], {}), FakeEngine)  # type: ignore[arg-type]
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            await until(lambda: isinstance(app.screen, ImagesScreen) and app.screen.source.results)
            burst(pilot, "comma", "d", "tab", "s", "m", "N", "slash", "enter", "escape", "enter", "w", "space", "end")
            await until(lambda: "writing the page" in app.notes)
            told.set()
            await settled(pilot)
            assert title(pilot).startswith(f"images  {COUNT} images")
    finally:
        told.set()


async def test_damage_to_one_models_rows_is_told_and_the_other_stays(study: Path) -> None:
    (study / "notes.csv").write_text("no,notes")
    async with opened(study) as (pilot, screen):
        assert "! notes '" in seen(pilot.app).splitlines()[1]
        table = screen.source.table
        assert table is not None
        table._data.pop(str(table.b))
        screen._go(other=None)
        before = title(pilot)
        (study / "tables" / "images.parquet").write_bytes(b"")
        await press(pilot, "full_stop")
        pilot.app.clear_notifications()
        await settled(pilot)
        assert title(pilot) == before
        assert "is damaged or cannot be read" in pilot.app.notes[-1]  # type: ignore[attr-defined]


async def test_tables_that_are_written_when_a_study_is_opened_are_shown(study: Path) -> None:
    async with opened(study) as (pilot, screen):
        assert "not written" not in seen(pilot.app)
        assert screen.source.table is not None
        assert screen.source.table.row(0).results[0].p is not None


async def test_a_study_without_any_result_is_still_a_table(study: Path) -> None:
    for shard in (study / "shards").rglob("*.parquet"):
        shard.unlink()
    async with opened(study) as (pilot, _):
        assert title(pilot).startswith(f"images  {COUNT} images")
        assert "…" in line(pilot.app, "▸")


@pytest.mark.parametrize("size", [(60, 16), (120, 40)])
async def test_what_is_missing_of_a_study_stays_on_top_while_a_run_works_on_it(
    study: Path, size: tuple[int, int]
) -> None:
    next((study / "shards").rglob("*.parquet")).unlink()
    with FileLock(study / "study.lock"):
        async with opened(study, size) as (pilot, screen):
            shown = [one.strip() for one in seen(pilot.app).splitlines()]
            told = [
                "! the tables are not written yet; p follows with them",
                "! 1 of 2 shards are done; the other images are empty",
                "! no models, charts and advice: a run works on it; tables follow at its end",
            ]
            assert shown[1 : screen.rows.region.y] == (told if size[1] > 22 else told[:1])


async def test_a_study_is_read_again_as_far_as_a_run_has_written_it(study: Path) -> None:
    shard = next((study / "shards").rglob("*.parquet"))
    whole = shard.read_bytes()
    shard.unlink()
    async with opened(study) as (pilot, screen):
        with FileLock(study / "study.lock"):
            await press(pilot, "ctrl+r", "slash", *"not failed", "enter", "down", "enter")
            path = pilot.app.screen_stack[0].state.item.path  # type: ignore[attr-defined]
            await press(pilot, "escape", "ctrl+r")
            assert "! older models, charts and advice: a run works on it" in seen(pilot.app)
            assert "! 1 of 2 shards are done" in seen(pilot.app)
            shard.write_bytes(whole)
        assert screen.table is not None
        assert sum(result.predicted is None for result in screen.table.row(1).results) == 1
        copies = screen.table.closing
        await press(pilot, "ctrl+r")
        assert "!" not in seen(pilot.app).splitlines()[1]
        assert title(pilot).endswith("filter: not failed")
        assert line(pilot.app, "▸").split()[1] == Path(path).name
        assert all(result.predicted for result in screen.table.row(1).results)
        assert screen.table.closing is copies


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (200, 60)])
async def test_keys_in_any_order_and_size_do_no_harm(study: Path, size: tuple[int, int]) -> None:
    async with opened(study, size) as (pilot, _):
        burst(
            pilot,
            *[
                "tab",
                "enter",
                "s",
                "d",
                "enter",
                "m",
                "N",
                "escape",
                "tab",
                "d",
                "d",
                "slash",
                "a",
                "enter",
                "comma",
                "tab",
                "s",
                "space",
                "enter",
                "tab",
                "end",
            ],
        )
        await settled(pilot)
        keys = "tab enter s d enter m N escape tab d d slash a enter comma tab s space enter tab end"
        burst(pilot, *keys.split())
        await settled(pilot)
        burst(pilot, *["escape", "enter", "i", "tab", "tab", "tab", "tab", "full_stop", "pagedown", "question_mark"])
        await settled(pilot)
        assert pilot.app.return_code is None


# Drawing.


def test_concepts_are_shares_of_the_images_that_are_explained() -> None:
    counted = ConceptCount("a red sail", mutual_a=10, mutual_b=20, only_a=5, only_b=15, wrong_a=5)
    columns = concept_columns(["x", "y"], (50, 40, 25), 15)
    assert {one.heading: one.cell(counted)[0] for one in columns[1:]} == {
        "mutual x": "10 (20 %)",
        "mutual y": "20 (50 %)",
        "only x": "5 (20 %)",
        "only y": "15 (60 %)",
        "wrong with it": "5 (50 %)",
        "without it": "10 (25 %)",
    }
    headings = [one.heading for one in concept_columns(["x"], (50, 0, 0), None)]
    assert headings == ["concept", "mutual x"]


def test_columns_of_high_rank_go_first_and_the_others_share_what_is_left() -> None:
    columns = [Column("a", 10, str, 0, 1), Column("b", -5, str, 2), Column("c", 8, str, 1, 1)]
    assert [(one.heading, room) for one, room in fit(columns, 40)] == [("a", 17), ("b", 5), ("c", 15)]
    assert [one.heading for one, _ in fit(columns, 22)] == ["a", "c"]
    assert [one.heading for one, _ in fit(columns, 3)] == ["a"]


def test_a_plot_draws_a_curve_from_corner_to_corner_and_letters_beside_each_other() -> None:
    plot = Plot((26, 9), (0.0, 4.0), (0.0, 1.0))
    plot.curve([1.0, 0.0, 0.0, 0.0, 0.0], "bold")
    plot.point(4.0, 1.0, "a")
    rows = plot.lines("title", "x", Text("legend")).plain.splitlines()
    assert rows[1].startswith("   1┃⠱⡀ ")
    assert rows[1].endswith("a")
    assert rows[5].startswith("   0┃")
    assert rows[7].split() == ["0", "x", "4"]
