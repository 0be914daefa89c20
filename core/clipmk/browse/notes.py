"""Marks and one-line notes on images, kept in a CSV file beside the data."""

import csv
import io
from pathlib import Path
from typing import Final, NamedTuple

from filelock import Timeout

from clipmk.errors import ClipmkError, InputError
from clipmk.system.files import file_lock, write_text
from clipmk.system.rows import read_rows
from clipmk.system.text import cause, is_unsafe, quoted

STUDY_NOTES: Final = "notes.csv"
FOLDER_NOTES: Final = ".clipmk-notes.csv"

_LIMIT: Final = 64 * 2**20
_WAIT: Final = 2.0  # seconds to wait for another process that writes
_COLUMNS: Final = ("image", "mark", "note")


class Note(NamedTuple):
    """What a person left on an image."""

    marked: bool = False
    text: str = ""


class Notes:
    """The notes in a file; each change is merged with what others have written meanwhile.

    What cannot be written is kept for the session, `warning` says why, and the next change tries again.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.warning, self._unsaved = path, "", dict[str, Note]()
        self.entries: dict[str, Note] = {}  # notes by image; another dict after each change
        try:
            self.entries = self._read()
        except InputError as reason:
            self.warning = str(reason)

    def __getitem__(self, image: str) -> Note:
        """The note on an image; an empty one where there is none."""
        return self.entries.get(image, Note())

    def mark(self, image: str, *, marked: bool) -> None:
        """Mark an image, or remove its mark."""
        self._change(image, self[image]._replace(marked=marked))

    def write(self, image: str, text: str) -> None:
        """Replace the note on an image by one trimmed line without control characters; an empty one removes it."""
        words = ("".join(one for one in word if not is_unsafe(one)) for word in text.split())
        self._change(image, self[image]._replace(text=" ".join(filter(None, words))))

    def _change(self, image: str, note: Note) -> None:
        self._unsaved[image] = note
        self.entries = {**self.entries, image: note}
        try:
            with file_lock(self.path.with_name(f".{self.path.name.lstrip('.')}.lock"), seconds=_WAIT):
                kept = {one: note for one, note in sorted((self._read() | self._unsaved).items()) if any(note)}
                rows = [_COLUMNS, *((one, "x" if note.marked else "", note.text) for one, note in kept.items())]
                csv.writer(text := io.StringIO(newline=""), quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
                write_text(text.getvalue(), self.path)
        except (Timeout, OSError, ClipmkError) as reason:
            self.warning = f"notes are kept for this session only: {cause(reason)}"
        else:
            self.entries, self._unsaved, self.warning = kept, {}, ""

    def _read(self) -> dict[str, Note]:
        """The notes in the file, none where it does not exist; InputError if it is malformed."""
        if not self.path.exists():
            return {}
        columns, rows = read_rows(self.path, limit=_LIMIT, noun="notes", error=InputError)
        if tuple(columns) != _COLUMNS:
            raise InputError(f"notes {quoted(self.path)} have other columns than {', '.join(_COLUMNS)}")
        return {image: Note(bool(mark), text) for image, mark, text in rows}
