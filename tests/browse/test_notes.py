"""Marks and notes: kept beside the data, by several at once, and for the session where that is not possible."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from clipmk.browse import notes as notes_module
from clipmk.browse.notes import Note, Notes
from clipmk.system.text import is_unsafe


def test_notes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    notes = Notes(path)
    assert (notes["x.png"], notes.warning, path.exists()) == (Note(), "", False)
    notes.mark("x.png", marked=True)
    notes.write('a, "b"\n.png', "look again")
    notes.write("x.png", "=1+1")
    assert Notes(path).entries == {'a, "b"\n.png': Note(False, "look again"), "x.png": Note(True, "=1+1")}
    assert path.read_text(encoding="utf-8").splitlines()[0] == '"image","mark","note"'


def test_what_is_neither_marked_nor_noted_is_not_kept(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.csv")
    notes.mark("x", marked=True)
    notes.write("x", "a")
    notes.mark("x", marked=False)
    assert Notes(notes.path).entries == {"x": Note(False, "a")}
    notes.write("x", "  ")
    assert (Notes(notes.path).entries, notes.entries) == ({}, {})


@given(st.text())
def test_a_note_is_one_line_without_control_characters(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    notes = Notes(tmp_path_factory.mktemp("notes") / "notes.csv")
    notes.write("x", text)
    found = notes["x"].text
    assert not any(map(is_unsafe, found))
    assert found == " ".join(found.split())
    assert Notes(notes.path)["x"].text == found


def _marking(path: Path, writer: int, count: int) -> None:
    notes = Notes(path)
    for number in range(count):
        notes.mark(f"{writer}-{number}", marked=True)
    assert notes.warning == ""


def test_several_writers_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes_module, "_WAIT", 60.0)
    path, context = tmp_path / "notes.csv", multiprocessing.get_context("fork")
    writers = [context.Process(target=_marking, args=(path, writer, 10)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(Notes(path).entries) == 30


def test_what_another_wrote_meanwhile_is_seen_after_a_change(tmp_path: Path) -> None:
    one, other = Notes(tmp_path / "notes.csv"), Notes(tmp_path / "notes.csv")
    one.write("x", "mine")
    other.write("y", "yours")
    assert other.entries == {"x": Note(False, "mine"), "y": Note(False, "yours")}


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notes = Notes(tmp_path / "file" / "notes.csv")
    notes.mark("x", marked=True)
    assert notes["x"].marked
    assert notes.warning.startswith("notes are kept for this session only: ")


def test_what_was_not_written_is_written_with_the_next_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes_module, "_WAIT", 0.0)
    notes = Notes(tmp_path / "notes.csv")
    with FileLock(tmp_path / ".notes.csv.lock"):
        notes.mark("x", marked=True)
        assert "for this session only" in notes.warning
        assert notes["x"].marked
    notes.mark("y", marked=True)
    assert (notes.warning, set(Notes(notes.path).entries)) == ("", {"x", "y"})


@pytest.mark.parametrize("content", [b"path,label\na,b\n", b"\xff\xfe\xff", b'"image","mark","note"\n"x","x"\n', b"\0"])
def test_a_file_that_is_not_ours_is_never_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(content)
    notes = Notes(path)
    assert "notes" in notes.warning
    notes.mark("x", marked=True)
    assert notes["x"].marked
    assert path.read_bytes() == content
