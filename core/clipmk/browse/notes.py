"""Marks and one-line notes on images, kept in a CSV file beside the data."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import Timeout

from clipmk.errors import ClipmkError, InputError
from clipmk.system.files import file_lock, write_text
from clipmk.system.rows import read_rows
from clipmk.system.text import cause, is_unsafe, quoted

STUDY_NOTES: Final = "notes.csv"
FOLDER_NOTES: Final = ".clipmk-notes.csv"
LONGEST: Final = 500
"""Characters of a note."""

_LIMIT: Final = 64 * 2**20
_WAIT: Final = 2.0
"""Seconds to wait for another process that writes."""
_COLUMNS: Final = ("image", "mark", "note")


@dataclass(frozen=True, slots=True)
class Note:
    """What a person left on an image."""

    marked: bool = False
    text: str = ""


class Notes:
    """The notes in a file; each change is merged with what others have written meanwhile.

    What cannot be written is kept for the session, `warning` says why, and the next change tries again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning: str | None = None
        """Why notes are not saved; None: they are."""
        self._unsaved: dict[str, Note] = {}
        self._notes: dict[str, Note] = {}
        try:
            self._notes = self._read()
        except InputError as reason:
            self.warning = str(reason)

    def __getitem__(self, key: str) -> Note:
        """The note on an image; an empty one where there is none."""
        return self._notes.get(key, Note())

    def keys(self, *, marked: bool) -> list[str]:
        """Images that are marked, or those with a text."""
        return [key for key, note in self._notes.items() if (note.marked if marked else note.text)]

    def mark(self, key: str, *, marked: bool) -> None:
        """Mark an image, or remove its mark."""
        self._change(key, Note(marked, self[key].text))

    def write(self, key: str, text: str) -> None:
        """Replace the note on an image by one trimmed line without control characters; an empty one removes it."""
        words = ("".join(one for one in word if not is_unsafe(one)) for word in text.split())
        self._change(key, Note(self[key].marked, " ".join(filter(None, words))[:LONGEST].rstrip()))

    def _change(self, key: str, note: Note) -> None:
        self._unsaved[key] = self._notes[key] = note
        lock = self.path.with_name(f".{self.path.name.lstrip('.')}.lock")
        try:
            with file_lock(lock, seconds=_WAIT):
                kept = {one: note for one, note in (self._read() | self._unsaved).items() if note != Note()}
                write_text(_written(kept), self.path)
        except Timeout:
            self.warning = f"{quoted(self.path)} is in use by another process; notes are kept for this session only"
        except (OSError, ClipmkError) as reason:
            self.warning = f"notes are kept for this session only: {cause(reason)}"
        else:
            self._notes, self._unsaved, self.warning = kept, {}, None

    def _read(self) -> dict[str, Note]:
        """The notes in the file, none where it does not exist.

        Raises:
            InputError: it cannot be read or is malformed.
        """
        if not self.path.exists():
            return {}
        columns, rows = read_rows(self.path, limit=_LIMIT, noun="notes", error=InputError)
        if tuple(columns) != _COLUMNS:
            raise InputError(f"notes {quoted(self.path)} have other columns than {', '.join(_COLUMNS)}")
        return {key: Note(bool(mark), text) for key, mark, text in rows}


def _written(notes: dict[str, Note]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((key, "x" if note.marked else "", note.text) for key, note in sorted(notes.items()))
    return text.getvalue()
