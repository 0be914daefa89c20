"""Groups of commands: the default command of each, and what to say about a misspelt one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clipmk.errors import UsageError
from clipmk.system.text import quoted


@dataclass(frozen=True, slots=True)
class Group:
    """A command with commands of its own."""

    default: str
    """Runs if none is named."""
    commands: tuple[str, ...]
    takes: str | None = None
    """The arguments of the default command, if it has any."""


_WORDS: Final = "words"
"""Search terms: any word is valid."""
_DATA_SET: Final = "dataset"

GROUPS: Final = {
    "models": Group("list", ("list", "info", "pull", "add", "remove"), _WORDS),
    "vocab": Group("list", ("list", "show", "check", "build")),
    "cache": Group("info", ("info", "clear")),
    "study": Group("run", ("run", "report"), _DATA_SET),
}


def with_default_command(argv: Sequence[str]) -> list[str]:
    """Add what may be omitted: `clipmk` is `clipmk --help`, `clipmk models vit` is `clipmk models list vit`.

    Raises:
        UsageError: a command is misspelt, or a group's command is named without its group.
    """
    arguments = list(argv) or ["--help"]
    group = GROUPS.get(arguments[0])
    if group is None:
        word = arguments[0]
        meant = [f"`clipmk {name} {word}`" for name, one in GROUPS.items() if word in one.commands]
        if meant:
            raise UsageError(f"{quoted(word)} is not a command of `clipmk`; did you mean {' or '.join(meant)}?")
        return arguments
    following = arguments[1] if len(arguments) > 1 else ""
    if following in {*group.commands, "-h", "--help"}:
        return arguments
    valid = group.takes == _WORDS or (group.takes == _DATA_SET and os.path.lexists(following))
    if not valid and (hint := did_you_mean(arguments[0], following)):
        other = f" and not a {group.takes}" if group.takes else ""
        raise UsageError(f"{quoted(following)} is not a command of `clipmk {arguments[0]}`{other}{hint}")
    return [arguments[0], group.default, *arguments[1:]]


def did_you_mean(group: str, word: str) -> str:
    """``; did you mean `clipmk study report`?`` for a misspelt command of the group, else nothing."""
    if not word.isalpha():
        return ""
    close = difflib.get_close_matches(word.lower(), GROUPS[group].commands, n=1)
    return f"; did you mean `clipmk {group} {close[0]}`?" if close else ""
