"""Writes single keys of the user's config file (see `config`); everything else in it stays as it is."""

import json
import os
import stat
import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from filelock import Timeout
from tomlkit.exceptions import TOMLKitError

from clipmk.errors import ClipmkError, UsageError, raised_as
from clipmk.system.config import Config, config_bytes, parse_config
from clipmk.system.files import atomic_write, file_lock
from clipmk.system.locations import config_path
from clipmk.system.text import cause, printable, quoted

TABLES = ("models", "settings", "keys")
"""Tables of the config file: "keys.tree.leave_out" is the entry "tree.leave_out" of [keys]."""

LOCK_SECONDS = 10.0  # longest wait for another process that writes the file
Value = str | int | float | bool | None  # value of a key; None removes the key

_BOM = b"\xef\xbb\xbf"


def save(changes: Mapping[str, Value]) -> Config:
    """Change single keys of the config file, and return its new contents; comments, order and all other keys stay.

    Keys have their table in front of a dot: ``{"theme": "dark", "settings.grounding": None}``. The file and its folder
    are created where they are missing, readable by the user only. The file is replaced as a whole, by one process at a
    time, and stays as it was when anything is raised: `UsageError` if it is malformed or would be afterwards,
    `ClipmkError` if it cannot be written.
    """
    path = config_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(path.with_name(f"{path.name}.lock"), seconds=LOCK_SECONDS):
            return _save(changes, path)
    except Timeout as reason:
        raise ClipmkError(f"config {quoted(path)} is being written by another process; try again") from reason
    except OSError as reason:
        raise ClipmkError(f"config {quoted(path)} cannot be written: {cause(reason)}") from reason


def _save(changes: Mapping[str, Value], path: Path) -> Config:
    before = config_bytes(path)
    parse_config(before, path)
    after = _changed(before, changes, path)
    config = parse_config(after, path)
    if _content(after) != _content(before, changes):
        raise UsageError(f"config {quoted(path)} cannot be changed automatically; edit it by hand")
    if after != before:
        with atomic_write(path) as handle:
            if path.exists():
                os.fchmod(handle.fileno(), stat.S_IMODE(path.stat().st_mode))
            handle.write(after)
    return config


def _changed(before: bytes, changes: Mapping[str, Value], path: Path) -> bytes:
    """The file's bytes with the changes."""
    try:
        with raised_as(UsageError, f"config {quoted(path)} cannot be changed", TOMLKitError, RecursionError):
            document = tomlkit.parse(before.decode("utf-8-sig"))
            _apply(changes, document)
            text = tomlkit.dumps(document).encode()
    except UnicodeEncodeError as reason:
        raise UsageError(f"{printable(repr(reason.object))} cannot be written to a file: it is not UTF-8") from reason
    return (_BOM if before.startswith(_BOM) else b"") + text


def _content(data: bytes, changes: Mapping[str, Value] | None = None) -> str:
    """The contents of a file with the changes, in a form that can be compared."""
    table = tomllib.loads(data.decode("utf-8-sig"))
    _apply(changes or {}, table)
    return json.dumps({key: value for key, value in table.items() if value != {}}, sort_keys=True)


def _apply(changes: Mapping[str, Value], document: MutableMapping[str, Any]) -> None:
    """Change keys; one that has the value already keeps its spelling."""
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        in_table = bool(dot) and head in TABLES
        key = rest if in_table else name
        if in_table and value is not None:
            document.setdefault(head, {})
        holder = document.get(head, {}) if in_table else document
        if value is None:
            holder.pop(key, None)
        elif key not in holder or holder[key] != value or isinstance(holder[key], bool) != isinstance(value, bool):
            holder[key] = value
