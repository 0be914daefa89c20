"""Options that the environment and the config give; the command line reads the rest.

`clipmk` without arguments opens the app before a parser is loaded, so this module reads `CLIPMK_<OPTION>` by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from clipmk.errors import UsageError
from clipmk.settings import PRESETS, Settings, preset
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from clipmk.system.config import Config

DEFAULT_MODEL: Final = "embedded/rn-parts"
"""Explains where no model is named."""


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

    Args:
        readers: option -> what reads its text and raises a ValueError that says what it must be.

    Raises:
        UsageError: a text cannot be read.
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

    Args:
        options: "preset", "grounding", "seed" and "top"; missing or None where the config or the preset decides.
        config: the config file.
        prediction_count: how many classes are reported by default; None: as the preset has it.

    Raises:
        UsageError: the preset or a value does not exist.
    """
    named = options.get("preset")
    name = named or config.preset or "default"
    changes: dict[str, Any] = {} if named else dict(config.settings)
    base = PRESETS.get(name, Settings())
    changes.setdefault("prediction_count", prediction_count or base.prediction_count)
    overrides = {"grounding": "grounding", "seed": "seed", "top": "prediction_count"}
    given = {setting: options[option] for option, setting in overrides.items() if options.get(option) is not None}
    return preset(name, **changes | given)
