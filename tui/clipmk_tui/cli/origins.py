"""Where a value that an error repeats was set, where that was not on the command line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Final

from clipmk.errors import ClipmkError
from clipmk.system.config import read_config
from clipmk.system.locations import config_path
from clipmk.system.text import quoted

_CALLED: Final = {
    "model": ("model", "checkpoint"),
    "vocab": ("vocabulary",),
    "classes": ("class list",),
    "target": ("class",),
    "preset": ("preset",),
    "grounding": ("grounding",),
    "device": ("device",),
    "precision": ("precision",),
    "arch": ("architecture",),
    "theme": ("theme",),
    "pool": ("pool",),
    "fit": ("fit",),
    "engine": ("engine",),
    "out": ("folder",),
    "against": ("--against",),
    "idle": ("--idle",),
    "overlay": ("--overlay",),
    "html": ("--html",),
}
"""Option -> what errors call its value, right before they quote it. Numbers and switches are told by their own name."""


def with_origin(message: str, argv: Sequence[str]) -> str:
    """The message of an error, and which variable or key of the config said what it finds wrong.

    A value counts only where the message says whose it is ("preset 'foo'"): the same text may stand there for a file, a
    class or an image. Only what stands before the first semicolon is looked at: advice follows, which may name others.
    """
    fault = message.split(";", 1)[0]
    for words, value, origin in _set_elsewhere():
        if any(_blames(fault, word, value) for word in words) and not any(value in word for word in argv):
            return f"{message} ({quoted(value)} was set by {origin})"
    return message


def _blames(fault: str, word: str, value: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)} \(?{re.escape(quoted(value))}", fault) is not None


def _set_elsewhere() -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What errors call a value, the value, and where it was set; the environment counts first."""
    for option, words in _CALLED.items():
        variable = f"CLIPMK_{option.upper()}"
        text = os.environ.get(variable, "")
        pieces = [piece.strip() for piece in text.split(",")] if option == "model" else []
        for value in dict.fromkeys([text, *pieces]):
            if value:
                yield words, value, variable
    with contextlib.suppress(ClipmkError):  # a malformed config is told where it is read
        config, path = read_config(), str(config_path())
        for key in ("model", "vocabulary", "classes", "preset", "device", "precision", "theme"):
            if value := getattr(config, key):
                yield _CALLED["vocab" if key == "vocabulary" else key], value, f"{key} in the config {quoted(path)}"
        for key, value in config.settings.items():
            if isinstance(value, str) and value:
                yield (key,), value, f"settings.{key} in the config {quoted(path)}"
