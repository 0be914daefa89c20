"""Where a value that an error repeats was set, where that was not on the command line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from clipmk.config import read_config
from clipmk.errors import ClipmkError
from clipmk.locations import config_path
from clipmk.text import quoted

_PLACES = frozenset({"CLIPMK_CONFIG", "CLIPMK_CACHE_DIR", "CLIPMK_SOCKET"})
"""Variables that are no options."""


def with_origin(message: str, argv: Sequence[str]) -> str:
    """The message of an error, and which variable or key of the config said what it finds wrong.

    Only what stands before the first semicolon is looked at: advice follows, which may name other values.
    """
    fault = message.split(";", 1)[0]
    for value, origin, name in _set_elsewhere():
        if quoted(value) in fault and name not in fault and not any(value in word for word in argv):
            return f"{message} ({quoted(value)} was set by {origin})"
    return message


def _set_elsewhere() -> Iterator[tuple[str, str, str]]:
    """Values, where they were set, and a name by which a message may say so itself; the environment counts first."""
    for name, text in os.environ.items():
        if name.startswith("CLIPMK_") and name not in _PLACES:
            for value in dict.fromkeys([text, *(piece.strip() for piece in text.split(","))]):
                if value:
                    yield value, name, name
    with contextlib.suppress(ClipmkError):  # a malformed config is told where it is read
        config, path = read_config(), str(config_path())
        keys = ("model", "vocabulary", "classes", "preset", "device", "precision", "theme")
        said = {key: getattr(config, key) for key in keys} | {
            f"settings.{key}": v for key, v in config.settings.items()
        }
        for key, value in said.items():
            if isinstance(value, str) and value:
                yield value, f"{key} in the config {quoted(path)}", path
