"""The signs that stand for what colour also says: a concept is told by sign and word, never by colour alone."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["mutual", "vision", "language", "left-out"]
"""What an explanation says of a concept; the last: the user has left it out."""

SIGN: Final[dict[Kind, str]] = {"mutual": "∩", "vision": "◐", "language": "◑", "left-out": "○"}
"""One cell each."""

WORD: Final[dict[Kind, str]] = {
    "mutual": "mutual",
    "vision": "vision only",
    "language": "language only",
    "left-out": "left out",
}

COLOUR: Final[dict[Kind, str]] = {
    "mutual": "$mutual",
    "vision": "$vision",
    "language": "$language",
    "left-out": "$left-out",
}
"""Theme variables (see `theme.py`), for Textual's `Content` and for styles sheets."""
