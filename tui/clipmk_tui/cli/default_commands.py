"""Groups of commands: the default command of each, and what to say about a misspelt one."""

import difflib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from clipmk.errors import UsageError
from clipmk.system.text import quoted


def with_default_command(arguments: Sequence[str], root: Any) -> list[str]:
    """Add what may be omitted, the first command of a group: `clipmk models vit` is `clipmk models list vit`.

    Raises `UsageError` where a command is misspelt, or a group's command is named without its group.
    """
    name, *rest = arguments
    groups = {group: one.commands for group, one in root.commands.items() if len(getattr(one, "commands", ())) > 1}
    if name not in root.commands and (
        meant := [f"`clipmk {group} {name}`" for group in groups if name in groups[group]]
    ):
        raise UsageError(f"{quoted(name)} is not a command of `clipmk`; did you mean {' or '.join(meant)}?")
    following, commands = rest[0] if rest else "", groups.get(name, {})
    if not commands or following in {*commands, "-h", "--help"}:
        return [*arguments]
    default, *_ = commands
    takes = next((param for param in commands[default].params if param.param_type_name == "argument"), None)
    valid = takes is not None and (not takes.required or os.path.lexists(following))  # search terms, or a dataset
    if not valid and (hint := did_you_mean(name, following, commands)):
        other = f" and not a {takes.name}" if takes else ""
        raise UsageError(f"{quoted(following)} is not a command of `clipmk {name}`{other}{hint}")
    return [name, default, *rest]


def did_you_mean(group: str, word: str, commands: Iterable[str]) -> str:
    """``; did you mean `clipmk study report`?`` for a misspelt command of the group, else nothing."""
    close = difflib.get_close_matches(word.lower(), [*commands], n=1) if word.isalpha() else []
    return f"; did you mean `clipmk {group} {close[0]}`?" if close else ""
