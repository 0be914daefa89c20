"""The two themes of the app. Every colour is one of the 256 that terminals without true colour have."""

from typing import Any

from textual.theme import Theme

from clipmk_tui.show.signs import SIGN

_COLOURS = {
    "primary": ("#5fafff", "#005faf"),
    "secondary": ("#87afaf", "#005f5f"),
    "accent": ("#ffaf5f", "#af5f00"),
    "warning": ("#ffaf5f", "#af5f00"),
    "error": ("#ff5f5f", "#af0000"),
    "success": ("#5fd787", "#005f00"),
    "foreground": ("#e4e4e4", "#1c1c1c"),
    "background": ("#121212", "#ffffff"),
    "surface": ("#1c1c1c", "#eeeeee"),
    "panel": ("#262626", "#e4e4e4"),
}
"""In the dark theme and in the light one."""

_VARIABLES = {
    "mutual": ("#ffd75f", "#875f00"),
    "vision": ("#5fafff", "#005faf"),
    "language": ("#d787d7", "#870087"),
    "left-out": ("#949494", "#626262"),
    "border": ("#5fafff", "#005faf"),
    "border-blurred": ("#444444", "#bcbcbc"),
}
"""The same, for Textual's variables and our own."""


def _theme(name: str, *, dark: bool) -> Theme:
    colours: dict[str, Any] = {role: pair[not dark] for role, pair in _COLOURS.items()}
    return Theme(name, dark=dark, variables={role: pair[not dark] for role, pair in _VARIABLES.items()}, **colours)


DARK, LIGHT = _theme("clipmk-dark", dark=True), _theme("clipmk-light", dark=False)


def own_variables(*, dark: bool) -> dict[str, str]:
    """Our variables beyond Textual's, for themes that are not ours."""
    return {kind: _VARIABLES[kind][not dark] for kind in SIGN}


def for_rich(colour: str) -> str:
    """A colour of a theme as rich has it: Textual's ANSI themes say `ansi_green` for `green`."""
    return colour.removeprefix("ansi_")
