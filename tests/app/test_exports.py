"""What the app writes and copies."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import inspect
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from textual.widgets import Input

import samples
from app_harness import FakeEngine, Host, burst, dialog_message, press, running, seen, until
from clipmk.errors import ClipmkError, UsageError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.output.overlay import readable_scale
from clipmk_tui.app import clipboard, exports
from clipmk_tui.app.screens.write import WriteScreen, file_name
from clipmk_tui.cli.commands.explain.command import explain
from clipmk_tui.cli.commands.explain.options import explain_options
from clipmk_tui.cli.commands.explain.writers import Outputs
from clipmk_tui.cli.streams import DataStream

pytestmark = pytest.mark.usefixtures("clean")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


# Writing.


@pytest.fixture
def explanation(tmp_path: Path) -> Explanation:
    """An explanation of a picture that exists, as the engine sends it: without the picture."""
    path = tmp_path / "images" / "fox_03.png"
    path.parent.mkdir()
    samples.picture().save(path)
    made = samples.explanation(path=str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(made, image=dataclasses.replace(made.image, sha256=sha256))


def _export(explanation: Explanation, kind: exports.Kind, path: Path) -> None:
    asyncio.run(exports.export(explanation, kind, path, image=str(explanation.image.path)))


def test_files_are_what_the_command_line_writes(explanation: Explanation, tmp_path: Path) -> None:
    given = {"model": [], "json": True, "overlay": str(tmp_path / "cli.png"), "html": str(tmp_path / "cli.html")}
    options = explain_options(dict.fromkeys(inspect.signature(explain).parameters) | given)
    with (tmp_path / "cli.json").open("wb") as handle:
        outputs = Outputs(options, [str(explanation.image.path)], DataStream(handle.fileno()))
        outputs.add(explanation)
        outputs.finish()
    for kind in exports.KINDS:
        _export(explanation, kind, tmp_path / f"out.{kind}")
        assert (tmp_path / f"out.{kind}").read_bytes() == (tmp_path / f"cli.{kind}").read_bytes()


def test_the_picture_of_a_what_if_says_below_what_is_left_out(explanation: Explanation, tmp_path: Path) -> None:
    made = explanation.with_what_if(["pointed ears"], explanation.predictions)
    assert exports.what_if_lines(made) == [
        "left out: pointed ears",
        "fox 71.2 % (before: 71.2 %), mutual concepts: 1 (before: 2)",
    ]
    assert exports.what_if_lines(explanation) == []
    for name, one in (("whole", explanation), ("out", made)):
        _export(one, "png", tmp_path / f"{name}.png")
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "out.png") as out:
        assert out.width == whole.width
        below = out.crop((0, whole.height, out.width, out.height)).convert("L")
        assert below.getextrema() == (0, 255)
        assert out.crop((0, 0, *whole.size)).tobytes() != whole.tobytes()


@posix
def test_the_picture_of_a_map_is_what_the_command_line_draws(explanation: Explanation, tmp_path: Path) -> None:
    asked = dataclasses.replace(explanation, asked=(samples.asked("snow"), samples.asked("a 'red' –x")))
    for text in ("snow", "a 'red' –x"):
        path, image = tmp_path / "map.png", str(explanation.image.path)
        asyncio.run(exports.export(asked, "png", path, image=image, asked=text))
        drawn = asked.overlay(scale=readable_scale(asked), asked=text)
        with Image.open(path) as written:
            assert written.tobytes() == drawn.tobytes()


def test_picture_is_found_by_a_name_that_is_not_utf8(explanation: Explanation, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Path(str(explanation.image.path)).rename(name)
    asyncio.run(exports.export(explanation, "png", tmp_path / "out.png", image=name))
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (samples.WIDTH * 7, samples.HEIGHT * 7)


def test_module_of_the_users_folder_is_not_taken_for_ours(explanation: Explanation, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    _export(explanation, "png", tmp_path / "out.png")
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"other"), "."),
        (lambda path: samples.picture().rotate(90).save(path), "has changed since it was explained"),
        (lambda path: path.unlink(), "does not exist"),
    ],
)
def test_picture_that_is_gone_or_another_is_an_error_and_leaves_no_file(
    explanation: Explanation, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    change(Path(str(explanation.image.path)))
    with pytest.raises(ClipmkError, match=rf"(?s)'.*out.png' cannot be written: image '.*fox_03.png'.*{message}"):
        _export(explanation, "png", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_page_without_its_picture_is_still_written(explanation: Explanation, tmp_path: Path) -> None:
    Path(str(explanation.image.path)).unlink()
    _export(explanation, "html", tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "pointed ears" in text
    assert "data:image/png" not in text


@pytest.mark.parametrize("kind", exports.KINDS)
def test_folder_that_does_not_exist_is_named(explanation: Explanation, kind: exports.Kind, tmp_path: Path) -> None:
    with pytest.raises(ClipmkError, match=r"cannot be written: the folder 'gone' does not exist"):
        _export(explanation, kind, Path("gone") / f"x.{kind}")


def test_image_itself_is_never_replaced(explanation: Explanation) -> None:
    with pytest.raises(UsageError, match="is one of the images"):
        _export(explanation, "png", Path(str(explanation.image.path)))


def test_child_that_is_killed_is_an_error(
    explanation: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ClipmkError, match=r"'.*out.png' cannot be written: the drawing process ended with status -9"):
        _export(explanation, "png", tmp_path / "out.png")


def test_child_says_what_went_wrong_in_one_line(
    explanation: Explanation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nonsense\n")))
    assert exports.main(["png", "x.png", "\x1b.png"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "model", "name"),
    [
        ("a/fox_03.png", "embedded/vit-s8", "fox_03-vit-s8.json"),
        (None, "ViT-B-32:laion2b", "image-ViT-B-32-laion2b.json"),
        ("../\x1b[31m x\n.jpg", "local-dir:/m/x", "31m-x-x.json"),
        ("q" * 300, "m", "q" * 80 + "-m.json"),
    ],
)
def test_file_is_named_after_image_and_model(path: str | None, model: str, name: str) -> None:
    made = samples.explanation(path=path)
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, id=model))
    assert file_name(made, "json") == name


async def test_enter_writes_json_under_the_name_offered(explanation: Explanation, tmp_path: Path) -> None:
    app = Host(lambda: WriteScreen(explanation, image=str(explanation.image.path)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "fox_03-vit-s8.json" in seen(app)
        await press(pilot, "enter")
        assert app.answers == [Path("fox_03-vit-s8.json")]
        assert app.notes == ["written: fox_03-vit-s8.json"]
    made = json.loads((tmp_path / "fox_03-vit-s8.json").read_text(encoding="utf-8"))
    assert made == document.document([explanation])


async def test_arrows_choose_the_kind_and_the_ending_follows(
    explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[tuple[str, Path]] = []

    async def export(explanation: Explanation, kind: str, path: Path, *, image: str, asked: str | None) -> None:
        kinds.append((kind, path))

    monkeypatch.setattr("clipmk_tui.app.screens.write.export", export)
    app = Host(lambda: WriteScreen(explanation, image=str(explanation.image.path)))
    async with app.run_test() as pilot:
        await pilot.pause()
        await press(pilot, "down")
        assert "● PNG" in seen(app)
        await press(pilot, "down", "down", "up", "up")
        await press(pilot, "x", "enter")
    assert kinds == [("png", Path("fox_03-vit-s8x.png"))]


async def test_whole_name_typed_in_front_of_the_ending_is_the_name(explanation: Explanation, tmp_path: Path) -> None:
    app = Host(lambda: WriteScreen(explanation, image=str(explanation.image.path)))
    async with app.run_test() as pilot:
        await pilot.pause()
        await press(pilot, "ctrl+u", *"my.json", "enter")
        assert app.answers == [Path("my.json")]
    assert (tmp_path / "my.json").exists()


async def test_file_that_exists_is_replaced_only_after_asking(explanation: Explanation, tmp_path: Path) -> None:
    target = tmp_path / "fox_03-vit-s8.json"
    target.write_text("precious", encoding="utf-8")
    app = Host(lambda: WriteScreen(explanation, image=str(explanation.image.path)))
    async with app.run_test() as pilot:
        await pilot.pause()
        await press(pilot, "enter")
        assert dialog_message(app) == "'fox_03-vit-s8.json' exists; enter again replaces it"
        await press(pilot, "z", "backspace")  # another name and back: what was agreed no longer holds
        await press(pilot, "enter")
        assert target.read_text(encoding="utf-8") == "precious"
        await press(pilot, "enter")
        assert app.answers == [Path("fox_03-vit-s8.json")]
    assert target.read_text(encoding="utf-8") != "precious"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone/x.json", "'gone/x.json' cannot be written: the folder 'gone' does not exist"),
        ("", "a file name is needed"),
        ("x.txt", "'x.txt' must end in .json"),
        ("~nobody-of-that-name/x.json", "home"),
        ("[red]y[/red].json/x.json", "'[red]y[/red].json/x.json' cannot be written"),
    ],
)
async def test_name_that_cannot_be_written_is_reported_in_the_dialog(
    explanation: Explanation, name: str, message: str
) -> None:
    app = Host(lambda: WriteScreen(explanation, image=str(explanation.image.path)))
    async with app.run_test() as pilot:
        await pilot.pause()
        app.screen.query_one(Input).value = name
        await press(pilot, "enter")
        assert message in dialog_message(app)
        assert app.answers == []
        assert app.screen.query_one(Input).value == name


async def test_escape_cancels_a_slow_write(explanation: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    events_seen: list[str] = []

    async def export(explanation: Explanation, kind: str, path: Path, *, image: str, asked: str | None) -> None:
        events_seen.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events_seen.append("cancelled")
            raise

    monkeypatch.setattr("clipmk_tui.app.screens.write.export", export)
    app = Host(lambda: WriteScreen(explanation, image=str(explanation.image.path)))
    async with app.run_test() as pilot:
        await pilot.pause()
        burst(pilot, "enter")
        await until(lambda: events_seen)
        await press(pilot, "escape")
        assert (events_seen, app.answers, app.notes) == (["begun", "cancelled"], [None], [])


# Copying.


def test_a_copied_prediction_is_plain_text_in_one_line() -> None:
    prediction = samples.explanation().predictions[0]
    assert clipboard.prediction_text(prediction) == "fox 71.2 %"
    named = dataclasses.replace(prediction, class_name="rm -rf x\n\x1b[31m")
    assert clipboard.prediction_text(named) == "rm -rf x\\x0a\\x1b[31m 71.2 %"


def test_summary_says_the_numbers_and_the_shared_concepts() -> None:
    assert clipboard.summary(samples.explanation()) == (
        "fox_03.png · embedded/vit-s8 · preset default\n"
        "fox: 71.2 %, rank 1\n"
        "2 of 4 seen concepts are tied to 'fox'; more than to any of 28 other classes (next: 'cat', 1)\n"
        "class swap p 0.034  share of 29 classes with as many or more, its own included\n"
        "strength 3.69  the paper's MI, in nats; by chance 0.90\n"
        "AUC 0.61  under the curve, 1.1 x chance (0.55); unpadded 1.94\n"
        "u 5  of 100 descriptors are tied to each class (5 %)\n"
        "random draw p 0.017  mutual concepts of random ones: 0.20\n"
        "∩ mutual (2): pointed ears, a bushy tail"
    )
    asked = dataclasses.replace(samples.explanation(), class_name="[b]owl\n[/b]", predictions=())
    assert clipboard.summary(asked).splitlines()[1] == "[b]owl\\x0a[/b]: not among the first"


# From the main screen.


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
