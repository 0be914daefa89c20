"""The user's TOML config file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from clipmk.errors import UsageError, raised_as, suggest
from clipmk.settings import Settings, unmet
from clipmk.system.locations import config_path
from clipmk.system.text import printable, quoted

_warn_once = functools.cache(logging.getLogger(__name__).warning)
_SETTINGS = tuple(field.name for field in dataclasses.fields(Settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Contents of the config file; None for what it does not set."""

    model: str | None = None
    """Model used when none is named."""
    models: Mapping[str, str] = field(default_factory=dict)
    """`[models]`: short names for model ids, folders and checkpoints."""
    vocabulary: str | None = None
    """Vocabulary name or JSON file."""
    classes: str | None = None
    """Class list: `a,b,c` or a file."""
    preset: str | None = None
    device: str | None = None
    precision: str | None = None
    seed: int | None = None
    download: bool | None = None
    quiet: bool | None = None
    verbose: bool | None = None
    no_color: bool | None = None
    max_megapixels: int | None = None
    """Largest image that is read, where it is more than the usual limit."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`[settings]`: changes to the preset, by the names of `Settings`."""
    theme: str | None = None
    """Theme of the app."""
    graphics: str | None = None
    """How the app draws pictures: auto, half-blocks, kitty or sixel."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """`[keys]`: action of the app -> keys, comma-separated."""


def read_config() -> Config:
    """Read the config file at `locations.config_path()`; a missing one sets nothing.

    Nor does one in a home folder that cannot be read, such as somebody else's; that is logged once.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a value that cannot be used; the
            message names file, line and key.
    """
    path = config_path()
    try:
        data = config_bytes(path)
    except UsageError as reason:
        if os.environ.get("CLIPMK_CONFIG"):
            raise
        _warn_once(f"{reason}; it is ignored")
        return Config()
    return parse_config(data, path)


def config_bytes(path: Path) -> bytes:
    """The bytes of a config file; none of a missing one.

    Raises:
        UsageError: the file cannot be read.
    """
    with raised_as(UsageError, f"config {quoted(path)} cannot be read", OSError):
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        return b""


def parse_config(data: bytes, path: Path) -> Config:
    """Parse and check the bytes of a config file.

    Args:
        data: the bytes.
        path: the file, for messages.

    Raises:
        UsageError: as `read_config`.
    """
    if not data:
        return Config()
    import tomllib  # noqa: PLC0415 - most users have no config file

    from clipmk.system.files import decoded  # noqa: PLC0415

    text = decoded(data, f"config {quoted(path)}", UsageError)
    try:
        table = tomllib.loads(text)
    except RecursionError as reason:
        raise UsageError(f"config {quoted(path)} is nested too deeply") from reason
    except tomllib.TOMLDecodeError as reason:
        raise UsageError(f"config {quoted(path)} is not TOML: {_malformed(text, str(reason))}") from reason
    return _checked(table, _Source(path, text))


@dataclass(frozen=True, slots=True)
class _Source:
    """Text of a config file, to find the line of a key."""

    path: Path
    text: str

    def at(self, *keys: str) -> str:
        """``config 'FILE', line N: KEY`` for messages; without the line where it cannot be found."""
        line = _line_of(self.text, keys)
        place = f", line {line}" if line else ""
        return f"config {quoted(self.path)}{place}: {printable('.'.join(keys))}"


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """1-based number of the line that assigns the dotted key or opens its table."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+([^\]]+)\]", line)
        if header:
            table = found = _dotted(header[1])
        else:
            assignment = re.match(r"\s*([^=#]+)=", line)
            if not assignment:
                continue
            found = table + _dotted(assignment[1])
        if found[: len(keys)] == keys:
            return number
    return None


def _malformed(text: str, message: str) -> str:
    """The parser's message, which ends in line and column, after the key on that line."""
    place = re.search(r"at line (\d+)", message)
    lines = text.splitlines()
    line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    key = line.split("=")[0].strip() if "=" in line else ""
    return printable(f"{key}: {message}" if key else message)


def _dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _checked(table: dict[str, Any], source: _Source) -> Config:
    hints = get_type_hints(Config)
    for key, value in table.items():
        if key not in hints:
            raise UsageError(f"{source.at(key)} is not a config key; {printable(suggest(key, hints))}")
        if get_origin(hints[key]) is Mapping:
            _check_table(key, value, source)
        elif key in _SETTINGS:
            _require(unmet(key, value), value, source, key)
        else:
            _require(_unfit(value, hints[key]), value, source, key)
    return Config(**table)


def _check_table(key: str, value: Any, source: _Source) -> None:
    _require(None if isinstance(value, dict) else f"a table: [{key}]", value, source, key)
    for name, entry in value.items():
        if key != "settings":
            _require(_unfit(entry, str), entry, source, key, name)
        elif name in _SETTINGS and name != "preset":  # which is a key of its own
            _require(unmet(name, entry), entry, source, key, name)
        else:
            known = [setting for setting in _SETTINGS if setting != "preset"]
            raise UsageError(f"{source.at(key, name)} is not a setting; {printable(suggest(name, known))}")


def _require(needed: str | None, value: Any, source: _Source, *keys: str) -> None:
    if needed is not None:
        raise UsageError(f"{source.at(*keys)} is {value!r}; it must be {needed}")


def _unfit(value: Any, hint: Any) -> str | None:
    """What a TOML value must be, where it is not of the type; a boolean is not an integer."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    if bool in kinds if isinstance(value, bool) else isinstance(value, tuple(kinds)):
        return None
    words = {bool: "true or false", int: "a whole number", str: "text in quotes"}
    return " or ".join(words[kind] for kind in kinds)
