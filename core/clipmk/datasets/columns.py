"""What the columns of a table say about images: which one names them, which one labels them. Loads no numpy."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from clipmk.errors import InputError
from clipmk.system.rows import read_rows
from clipmk.system.text import listed, quoted

PATHS: Final = (
    *("path", "image", "file", "filename", "filepath", "file_name", "file_path", "image_path", "image_name"),
    *("image_id", "img", "img_path"),
)
"""Names of the column of paths; where a table has several, the first of these counts."""
LABELS: Final = ("label", "class", "class_name", "target", "labels", "category", "breed", "species", "fine_label")
"""Names of the column of labels, likewise."""

_MAX_BYTES = 4 * 2**30
"""Largest table read."""
_SHOWN = 8
"""Most columns that a message names."""
_WHOLE = re.compile(r"\d+(\.0*)?", re.ASCII)


class ColumnError(InputError):
    """A table lacks a column that was looked for: it may be a table of something else."""


class ListedImage(NamedTuple):
    """An image that a dataset names; its file may not exist."""

    path: str
    """Relative to the root, or absolute."""
    label: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns that the user gives; None: the usual names are looked for."""

    image: str | None = None
    label: str | None = None


USUAL: Final = Columns()


def read_table(path: str, columns: Columns, noun: str) -> tuple[list[ListedImage], list[str]]:
    """The images of a table, and warnings about what is guessed or missing.

    Raises:
        ColumnError: it has no column of paths, or not the one that `columns` names.
        InputError: it cannot be read or is malformed.
    """
    header, rows = read_rows(path, limit=_MAX_BYTES, noun=noun, error=InputError)
    label = f"{noun} {quoted(path)}"
    if not header:
        raise InputError(f"{label} is malformed: it is empty")
    warnings: list[str] = []
    image = find_column(header, columns.image, PATHS, label, warnings)
    if image is None:
        raise ColumnError(f"{label} has no column of paths ({', '.join(PATHS)}); {_others(header, '--image-column')}")
    name = label_column(header, columns, LABELS, label, warnings)
    cells = ((row[image], None if name is None else row[name]) for row in rows)
    return _listed_images(cells, label), warnings


def label_column(
    header: Sequence[str], columns: Columns, known: Sequence[str], noun: str, warnings: list[str]
) -> int | None:
    """Index of the column of labels; a warning where there is none.

    Raises:
        ColumnError: there is none that the user names.
    """
    label = find_column(header, columns.label, known, noun, warnings)
    if label is None:
        warnings.append(f"{noun} has no column of labels ({', '.join(LABELS)}); {_others(header, '--label-column')}")
    return label


def find_column(
    header: Sequence[str], named: str | None, known: Sequence[str], noun: str, warnings: list[str]
) -> int | None:
    """Index of a column: the one that the user names, else the first of the known names.

    Raises:
        ColumnError: there is none that the user names.
    """
    names = [name.strip().lower() for name in header]
    found = [names.index(name) for name in ([named.strip().lower()] if named else known) if name in names]
    if named and not found:
        raise ColumnError(f"{noun} has no column {quoted(named)}; its columns: {listed(header, most=_SHOWN) or 'none'}")
    if len(found) > 1:
        columns = listed([header[index] for index in found], most=_SHOWN)
        warnings.append(f"{noun} has several columns of one kind, the first of which is used: {columns}")
    return found[0] if found else None


def _listed_images(cells: Iterable[tuple[Any, Any]], noun: str) -> list[ListedImage]:
    """Images of rows of (path, label), blank ones left out; equal labels share one object.

    Labels that are all whole numbers are read without the decimal point that a data frame gives them.

    Raises:
        InputError: a row has a label and no path, or a value that is neither a text nor a whole number.
    """
    images = list(_named(cells, noun))
    labels = {one.label for one in images if one.label is not None}
    if not any("." in label for label in labels) or not all(map(_WHOLE.fullmatch, labels)):
        return images
    whole = {label: sys.intern(label.partition(".")[0]) for label in labels}
    return [ListedImage(one.path, whole.get(one.label or "")) for one in images]


def cell_text(value: Any, noun: str, names: Mapping[int, str] | None = None) -> str | None:
    """A cell as text, None where it is blank; data frames write whole numbers as floats where some are missing.

    Args:
        value: of the cell.
        noun: what the table is, for the message.
        names: what the numbers mean; a number that is not among them means nothing.

    Raises:
        InputError: it is neither a text nor a whole number.
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, str):
        return sys.intern(value.strip()) or None
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise InputError(f"{noun} holds {value!r:.80}; a label is a text or a whole number")
    return sys.intern(str(int(value))) if names is None else names.get(int(value))


def _named(cells: Iterable[tuple[Any, Any]], noun: str) -> Iterator[ListedImage]:
    for number, (path, value) in enumerate(cells, 1):
        label = cell_text(value, noun)
        name = path.strip().removeprefix("./") if isinstance(path, str) else cell_text(path, noun)
        if name:
            yield ListedImage(name, label)
        elif label:
            raise InputError(f"{noun}: row {number} has the label {quoted(label)} and no path")


def _others(header: Sequence[str], option: str) -> str:
    return f"its columns: {listed(header, most=_SHOWN) or 'none'}; {option} names another"
