"""Groups of commands: the command that stands for a group when none is named, and commands that are misspelt."""

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
    """The one that is meant when none is named."""
    commands: tuple[str, ...]
    takes: str | None = None
    """What words after the default command are; None: it takes none."""


_WORDS: Final = "words"
"""To look for: any word can be meant."""
_DATA_SET: Final = "data set"

GROUPS: Final = {
    "models": Group("list", ("list", "info", "pull", "add", "remove"), _WORDS),
    "vocab": Group("list", ("list", "show", "check", "build")),
    "cache": Group("info", ("info", "clear")),
    "study": Group("run", ("run", "report"), _DATA_SET),
}


def with_default_command(argv: Sequence[str]) -> list[str]:
    """Complete what may be left out: `clipmk` is `clipmk --help`, `clipmk models vit` is `clipmk models list vit`.

    Raises:
        UsageError: a misspelt command stands where it can be nothing else, or a command of a group without its group.
    """
    arguments = list(argv) or ["--help"]
    group = GROUPS.get(arguments[0])
    if group is None:
        _refuse_without_group(arguments[0])
        return arguments
    following = arguments[1] if len(arguments) > 1 else ""
    if following in {*group.commands, "-h", "--help"}:
        return arguments
    if not _can_be_meant(following, group) and (hint := did_you_mean(arguments[0], following)):
        other = f" and no {group.takes}" if group.takes else ""
        raise UsageError(f"{quoted(following)} is no command of `clipmk {arguments[0]}`{other}{hint}")
    return [arguments[0], group.default, *arguments[1:]]


def did_you_mean(group: str, word: str) -> str:
    """``; did you mean `clipmk study report`?`` for a word that is nearly a command of the group, else nothing."""
    if not word.isalpha():
        return ""
    close = difflib.get_close_matches(word.lower(), GROUPS[group].commands, n=1)
    return f"; did you mean `clipmk {group} {close[0]}`?" if close else ""


def _refuse_without_group(word: str) -> None:
    """Say of which groups a word is a command, as in `clipmk info`; those have no name of a command outside groups."""
    meant = [f"`clipmk {name} {word}`" for name, group in GROUPS.items() if word in group.commands]
    if meant:
        raise UsageError(f"{quoted(word)} is no command of `clipmk`; did you mean {' or '.join(meant)}?")


def _can_be_meant(word: str, group: Group) -> bool:
    """Whether a word that is no command is what the default command takes."""
    return group.takes == _WORDS or (group.takes == _DATA_SET and os.path.lexists(word))
