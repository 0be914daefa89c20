"""The two themes of the app. Every colour is one of the 256 that terminals without true colour have."""

from __future__ import annotations

from textual.theme import Theme

from clipmk_tui.show.signs import SIGN

DARK = Theme(
    name="clipmk-dark",
    dark=True,
    primary="#5fafff",
    secondary="#87afaf",
    accent="#ffaf5f",
    warning="#ffaf5f",
    error="#ff5f5f",
    success="#5fd787",
    foreground="#e4e4e4",
    background="#121212",
    surface="#1c1c1c",
    panel="#262626",
    variables={
        "mutual": "#ffd75f",
        "vision": "#5fafff",
        "language": "#d787d7",
        "left-out": "#949494",
        "border": "#5fafff",
        "border-blurred": "#444444",
    },
)

LIGHT = Theme(
    name="clipmk-light",
    dark=False,
    primary="#005faf",
    secondary="#005f5f",
    accent="#af5f00",
    warning="#af5f00",
    error="#af0000",
    success="#005f00",
    foreground="#1c1c1c",
    background="#ffffff",
    surface="#eeeeee",
    panel="#e4e4e4",
    variables={
        "mutual": "#875f00",
        "vision": "#005faf",
        "language": "#870087",
        "left-out": "#626262",
        "border": "#005faf",
        "border-blurred": "#bcbcbc",
    },
)


def own_variables(*, dark: bool) -> dict[str, str]:
    """Our variables beyond Textual's, for themes that are not ours."""
    chosen = DARK if dark else LIGHT
    return {kind: chosen.variables[kind] for kind in SIGN}
