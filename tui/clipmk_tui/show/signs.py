"""The signs and colours of what an explanation says about a concept. Sign and word always say what the colour says."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["mutual", "vision", "language", "left-out"]
"""What an explanation says about a concept; the last: the user has left it out. Also the app's theme variables."""

SIGN: Final[dict[Kind, str]] = {"mutual": "∩", "vision": "◐", "language": "◑", "left-out": "○"}
"""One cell each."""

WORD: Final[dict[Kind, str]] = {
    "mutual": "mutual",
    "vision": "vision only",
    "language": "language only",
    "left-out": "left out",
}

ANSI: Final[dict[Kind, str]] = {
    "mutual": "yellow",
    "vision": "bright_blue",
    "language": "magenta",
    "left-out": "bright_black",
}
"""The app's hues in the terminal's own palette, for the command line, which does not know the background."""
