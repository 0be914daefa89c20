"""Classes and vocabulary in the app: chosen and edited by keys, checked in words, kept for the folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, TextArea

from app_harness import (
    VIT,
    FakeEngine,
    Host,
    TestedApp,
    burst,
    dialog_message,
    press,
    processed,
    running,
    seen,
    settled,
    until,
)
from clipmk.errors import UsageError
from clipmk.settings import preset
from clipmk.vocabulary.classes import parse_classes
from clipmk.vocabulary.vocabulary import available, load_vocabulary
from clipmk.worker.session import Session
from clipmk_tui.app.folder_choices import SAMPLES, FolderChoice, folder_of, keep_choice, kept_choice
from clipmk_tui.app.screens.classes import ClassesScreen
from clipmk_tui.app.start_options import StartOptions, resolve_start_options

pytestmark = pytest.mark.usefixtures("clean")

SESSION = Session(vocabulary="world", settings=preset("default", prediction_count=10))
WORLD = load_vocabulary("world").classes


def dialog(session: Session = SESSION, folder: str = "/pictures") -> Callable[[], ClassesScreen]:
    return lambda: ClassesScreen(session, folder=folder)


def classes(app: Host) -> list[str]:
    return app.screen.query_one(TextArea).text.splitlines()


# The dialog.


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_dialog_lists_vocabularies_and_the_classes_of_the_current_one(size: tuple[int, int]) -> None:
    app = Host(dialog())
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        assert classes(app) == list(WORLD)
        assert dialog_message(app) == f"the vocabulary's own {len(WORLD)} classes"
        assert "stays the next time you open these images; ctrl+r resets the classes" in seen(app)
        assert "/pictures" in seen(app)
        assert "add a class" in seen(app)
        assert [option.prompt.plain.split()[0] for option in app.screen.query_one(OptionList).options] == list(
            available()
        )


async def test_another_vocabulary_brings_its_classes_until_they_are_changed() -> None:
    app = Host(dialog())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await press(pilot, "down", "enter")
        assert app.screen.query_one("#vocabulary", Input).value == "cifar10"
        assert classes(app) == list(load_vocabulary("cifar10").classes)
        app.screen.query_one(TextArea).text = "cat\ndog"
        await settled(pilot)
        assert dialog_message(app) == "2 classes"
        await press(pilot, "down", "enter")
        assert classes(app) == ["cat", "dog"]
        assert dialog_message(app) == "the classes stay as you have changed them; 'cifar100' describes them"


async def test_a_typed_class_is_added_and_the_list_is_kept_for_the_folder(tmp_path: Path) -> None:
    app = Host(dialog(folder=str(tmp_path)))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await press(pilot, "tab", "tab", *"zebra", "enter")
        assert classes(app)[-1] == "zebra"
        assert dialog_message(app) == f"{len(WORLD) + 1} classes"
        await press(pilot, "ctrl+s")
        (session,) = app.answers
        assert session.vocabulary == "world"
        assert parse_classes(session.classes).names == (*WORLD, "zebra")
        assert kept_choice(str(tmp_path)) == FolderChoice("world", session.classes)


async def test_a_list_of_ones_own_is_reset_to_the_vocabularys_classes(tmp_path: Path) -> None:
    kept = keep_choice(str(tmp_path), "world", ["cat"])
    for listed in (kept.classes, str(tmp_path / "gone.json")):
        app = Host(dialog(dataclasses.replace(SESSION, classes=listed), str(tmp_path)))
        async with app.run_test() as pilot:
            await settled(pilot)
            await press(pilot, "ctrl+r")
            assert classes(app) == list(WORLD)
            await press(pilot, "ctrl+s")
            assert [(one.vocabulary, one.classes) for one in app.answers] == [("world", None)]
            assert kept_choice(str(tmp_path)) == FolderChoice("world", None)


async def test_the_vocabularys_own_classes_need_no_list(tmp_path: Path) -> None:
    app = Host(dialog(folder=str(tmp_path)))
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "down", "enter", "ctrl+s")
        assert [(one.vocabulary, one.classes) for one in app.answers] == [("cifar10", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "class list is empty"),
        ("cat\n" + "x" * 2000, "class list: line 2 has 2000 characters"),
        ("cat\na\x1bb", "class list: line 2"),
        ("# cats\ncat\ndog\ncat", "2 classes; 1 class is repeated and counts once"),
    ],
)
async def test_what_is_wrong_with_the_classes_is_said_in_words(text: str, message: str, tmp_path: Path) -> None:
    app = Host(dialog(folder=str(tmp_path)))
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one(TextArea).text = text
        await settled(pilot)
        assert dialog_message(app).startswith(message)
        if "classes;" not in message:
            await press(pilot, "ctrl+s")
            assert app.answers == []
            assert dialog_message(app).startswith(message)
            assert kept_choice(str(tmp_path)) is None


async def test_a_vocabulary_that_does_not_exist_is_said_in_words() -> None:
    app = Host(dialog())
    async with app.run_test() as pilot:
        await settled(pilot)
        named = app.screen.query_one("#vocabulary", Input)
        named.focus()
        named.value = "[red]wrld"
        await press(pilot, "enter")
        assert dialog_message(app).startswith(
            "vocabulary '[red]wrld' is neither a name nor a file; known: world, cifar10"
        )
        await press(pilot, "ctrl+s")
        assert app.answers == []
        await press(pilot, "escape")
        assert app.answers == [None]


async def test_keys_in_one_burst_close_the_dialog_once(tmp_path: Path) -> None:
    app = Host(dialog(folder=str(tmp_path)))
    async with app.run_test() as pilot:
        burst(pilot, "ctrl+s", "ctrl+s", "escape", "escape", "enter", "k")
        await processed(pilot)
        await settled(pilot)
        assert app.is_running
        assert len(app.answers) == 1


async def test_models_rank_again_with_other_classes(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        before = len(engine.asked)
        await press(pilot, "k", "tab", "tab", *"zebra", "enter", "ctrl+s")
        assert pilot.app.screen is screen
        (session,) = engine.sessions
        assert parse_classes(session.classes or "").names[-1] == "zebra"
        assert len(engine.asked) > before
        assert kept_choice(str(album.absolute())) is not None


async def test_t_explains_any_class(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "t", *"cat", "enter")
        assert screen.state.target == "cat"
        await press(pilot, "t", "up", "up", "enter")
        assert screen.state.target is None


async def test_another_folder_is_explained_with_what_is_kept_for_it(album: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(next(album.rglob("*.png")).read_bytes())
    keep_choice(str(other), "cifar10", None)
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        screen.panes.open((str(other),))
        await settled(pilot)
        assert [session.vocabulary for session in engine.sessions] == ["cifar10"]
        assert screen.panes.folder == str(other)


async def test_a_list_of_ones_own_is_named_above_the_predictions_and_belongs_to_its_folder(
    album: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(next(album.rglob("*.png")).read_bytes())
    async with running(FakeEngine(), album) as (pilot, screen):
        panes = screen.panes
        assert "predictions" in str(panes.predictions.border_title)
        await press(pilot, "k", "tab", "tab", *"zebra", "enter", "ctrl+s")
        listed = panes.questions.session.classes
        assert str(panes.predictions.border_title) == "4 classes (yours)"
        panes.open((str(other),))
        await settled(pilot)
        assert panes.questions.session.classes is None
        assert "predictions" in str(panes.predictions.border_title)
        panes.open((str(album),))
        await settled(pilot)
        assert panes.questions.session.classes == listed


async def test_a_vocabulary_from_the_settings_is_the_default_of_other_folders(album: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(next(album.rglob("*.png")).read_bytes())
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "s")
        pilot.app.screen.query_one("#vocabulary", Input).value = "cifar10"
        await press(pilot, "ctrl+s")
        assert screen.panes.questions.session.vocabulary == "cifar10"
        screen.panes.open((str(other),))
        await settled(pilot)
        assert screen.panes.questions.session.vocabulary == "cifar10"


def test_folders_without_a_kept_choice_have_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('vocabulary = "pets"\n', encoding="utf-8")
    assert resolve_start_options((str(tmp_path),), {}).default is None
    keep_choice(str(tmp_path), "cifar10", ["cat", "dog"])
    assert resolve_start_options((str(tmp_path),), {}).default == FolderChoice("pets", None)


# What is kept.


def test_what_is_kept_comes_back_and_old_lists_stay_for_other_running_apps(tmp_path: Path) -> None:
    assert kept_choice("/a") is None
    first = keep_choice("/a", "world", ["cat", "crane, bird"])
    assert kept_choice("/a") == first
    assert parse_classes(first.classes or "").names == ("cat", "crane, bird")
    second = keep_choice("/a", "world", ["cat"])
    assert first.classes != second.classes
    assert kept_choice("/b") is None
    assert keep_choice("/a", "cifar10", None) == kept_choice("/a") == FolderChoice("cifar10", None)
    assert parse_classes(first.classes or "").names == ("cat", "crane, bird")
    assert keep_choice("/a", "world", ["cat"]) == second
    assert {path.suffix for path in (tmp_path / "folders").iterdir()} == {".json"}
    assert len(list((tmp_path / "folders").iterdir())) == 3


def test_a_folder_is_the_one_that_the_first_argument_names_or_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()
    assert folder_of((str(tmp_path),)) == folder_of((str(tmp_path / "a.png"), "/other")) == str(tmp_path)
    assert folder_of(()) == SAMPLES
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert folder_of((str(tmp_path / "link"),)) == str(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_of(("~/real",)) == str(tmp_path / "real")


def test_start_uses_what_is_kept_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('vocabulary = "pets"\n', encoding="utf-8")
    keep_choice(str(tmp_path), "cifar10", ["cat", "dog"])
    options = resolve_start_options((str(tmp_path),), {})
    assert options.session.vocabulary == "cifar10"
    assert parse_classes(options.session.classes or "").names == ("cat", "dog")
    assert options.note == ""
    assert resolve_start_options((), {}).session.vocabulary == "pets"
    asked = resolve_start_options((str(tmp_path),), {"vocab": "food101"}).session
    assert (asked.vocabulary, asked.classes) == ("food101", None)
    monkeypatch.setenv("CLIPMK_VOCAB", "world")
    assert resolve_start_options((str(tmp_path),), {}).session.vocabulary == "world"


def test_what_is_kept_and_cannot_be_used_is_said_and_the_app_starts(tmp_path: Path) -> None:
    kept = keep_choice(str(tmp_path), "world", ["cat"])
    Path(kept.classes or "").unlink()
    options = resolve_start_options((str(tmp_path),), {})
    assert (options.session.vocabulary, options.session.classes) == ("world", None)
    assert options.note.startswith(f"what you keep for {tmp_path} is not used: class list")
    next((tmp_path / "folders").iterdir()).write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(UsageError, match="which keeps the vocabulary of"):
        kept_choice(str(tmp_path))
    assert "is malformed" in resolve_start_options((str(tmp_path),), {}).note


async def test_the_app_says_what_it_does_not_use(album: Path) -> None:
    options = StartOptions(paths=(str(album),), models=(VIT,), session=SESSION, note="[b]not used")
    app = TestedApp(options, FakeEngine)
    async with app.run_test(notifications=True) as pilot:
        await until(lambda: app.screen.query("Panes"))
        await settled(pilot)
        assert "[b]not used" in app.notes
