"""The user's TOML config file, and options that it and the environment give; the command line reads the rest.

`clipmk` without arguments opens the app before a parser is loaded, so `CLIPMK_<OPTION>` is read here.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_origin, get_type_hints

from clipmk.errors import UsageError, raised_as, suggest
from clipmk.settings import PRESETS, Settings, preset, unmet
from clipmk.system.locations import config_path
from clipmk.system.text import printable, quoted

_warn_once = functools.cache(logging.getLogger(__name__).warning)
_SETTINGS = tuple(field.name for field in dataclasses.fields(Settings))

DEFAULT_MODEL: Final = "embedded/rn-parts"  # explains where no model is named


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

    Nor does one in a home folder that cannot be read, such as somebody else's; that is logged once. Raises `UsageError`
    with file, line and key for what is malformed, unknown or of no use.
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
    """The bytes of a config file; none of a missing one. `UsageError` if it cannot be read."""
    with raised_as(UsageError, f"config {quoted(path)} cannot be read", OSError):
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        return b""


def parse_config(data: bytes, path: Path) -> Config:
    """Parse and check the bytes of a config file; see `read_config` for what it raises."""
    if not data:
        return Config()
    import tomllib  # noqa: PLC0415 - most users have no config file

    from clipmk.system.files import decoded  # noqa: PLC0415

    text = decoded(data, f"config {quoted(path)}", UsageError)
    with raised_as(UsageError, f"config {quoted(path)} is not TOML", tomllib.TOMLDecodeError, RecursionError):
        table = tomllib.loads(text)
    return _checked(table, functools.partial(_at, path, text))


def _at(path: Path, text: str, *keys: str) -> str:
    """``config 'FILE', line N: KEY`` for messages; without the line where it cannot be found."""
    line = _line_of(text, keys)
    place = f", line {line}" if line else ""
    return f"config {quoted(path)}{place}: {printable('.'.join(keys))}"


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


def _dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _checked(table: dict[str, Any], at: Callable[..., str]) -> Config:
    hints = get_type_hints(Config)
    for key, value in table.items():
        if key not in hints:
            raise UsageError(f"{at(key)} is not a config key; {printable(suggest(key, hints))}")
        if get_origin(hints[key]) is Mapping:
            _check_table(key, value, at)
        elif key in _SETTINGS:
            _require(unmet(key, value), value, at, key)
        else:
            _require(_unfit(value, hints[key]), value, at, key)
    return Config(**table)


def _check_table(key: str, value: Any, at: Callable[..., str]) -> None:
    _require(None if isinstance(value, dict) else f"a table: [{key}]", value, at, key)
    for name, entry in value.items():
        if key != "settings":
            _require(_unfit(entry, str), entry, at, key, name)
        elif name in _SETTINGS and name != "preset":  # which is a key of its own
            _require(unmet(name, entry), entry, at, key, name)
        else:
            known = [setting for setting in _SETTINGS if setting != "preset"]
            raise UsageError(f"{at(key, name)} is not a setting; {printable(suggest(name, known))}")


def _require(needed: str | None, value: Any, at: Callable[..., str], *keys: str) -> None:
    if needed is not None:
        raise UsageError(f"{at(*keys)} is {value!r}; it must be {needed}")


def _unfit(value: Any, hint: Any) -> str | None:
    """What a TOML value must be, where it is not of the type; a boolean is not an integer."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    if bool in kinds if isinstance(value, bool) else isinstance(value, tuple(kinds)):
        return None
    words = {bool: "true or false", int: "a whole number", str: "text in quotes"}
    return " or ".join(words[kind] for kind in kinds)


def variable(option: str) -> str:
    """The environment variable of an option: `CLIPMK_NO_CACHE` of "no_cache"."""
    return f"CLIPMK_{option.upper()}"


def comma_separated(text: str) -> list[str]:
    """The words of `CLIPMK_MODEL="a, b"`."""
    return [word.strip() for word in text.split(",") if word.strip()]


def config_options(config: Config) -> dict[str, Any]:
    """Option -> its value in the config, for those that have one there.

    The preset is missing: `settings_from` reads it, because one that is named elsewhere replaces `[settings]`, too.
    """
    same = ("classes", "device", "precision", "seed", "download", "quiet", "verbose", "no_color", "theme", "graphics")
    values = {name: getattr(config, name) for name in same}
    values |= {"model": [config.model] if config.model else None, "vocab": config.vocabulary}
    return {name: value for name, value in values.items() if value is not None}


def environment_options(readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Option -> its value in the environment, for those whose variable is set and not empty.

    Each is read by its reader, whose ValueError says what it must be; it becomes a `UsageError`.
    """
    values = {}
    for option, read in readers.items():
        if text := os.environ.get(variable(option)):
            try:
                values[option] = read(text)
            except ValueError as reason:
                raise UsageError(f"{variable(option)} is {quoted(text)}; it must be {reason}") from reason
    return values


def whole_number(text: str) -> int:
    """Read an integer."""
    try:
        return int(text)
    except ValueError as reason:
        raise ValueError("a whole number") from reason


def positive_number(text: str) -> int:
    """Read an integer of at least 1."""
    number = whole_number(text)
    if number < 1:
        raise ValueError("at least 1")
    return number


def switch(text: str) -> bool:
    """Read yes or no, in the words that the command line accepts."""
    word = text.strip().lower()
    if word in {"1", "true", "t", "yes", "y", "on"}:
        return True
    if word in {"0", "false", "f", "no", "n", "off"}:
        return False
    raise ValueError("true or false")


def settings_from(options: Mapping[str, Any], config: Config, *, prediction_count: int | None = None) -> Settings:
    """The preset and what changes it. A preset that an option names replaces the config's `[settings]`.

    Options are "preset", "grounding", "seed" and "top", missing or None where the config or the preset decides, as it
    does for `prediction_count` if that is None. Raises `UsageError` for what does not exist.
    """
    named = options.get("preset")
    name = named or config.preset or "default"
    changes: dict[str, Any] = {} if named else dict(config.settings)
    base = PRESETS.get(name, Settings())
    changes.setdefault("prediction_count", prediction_count or base.prediction_count)
    overrides = {"grounding": "grounding", "seed": "seed", "top": "prediction_count"}
    given = {setting: options[option] for option, setting in overrides.items() if options.get(option) is not None}
    return preset(name, **changes | given)
