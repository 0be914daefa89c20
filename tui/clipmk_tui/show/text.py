"""Text from outside, for the terminal."""

from __future__ import annotations

from rich.text import Text

from clipmk.system.text import printable


def shown(text: str, style: str = "") -> Text:
    """File names, class names, descriptors as they are: never markup, never control characters."""
    return Text(printable(text), style)
