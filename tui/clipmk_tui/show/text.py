"""Words and texts that the app and the command line show alike."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from clipmk.records import FAMILIES
from clipmk.system.text import printable

STAGE_WORDS: Final = {
    "asked": "asking the engine",
    "waiting": "waiting for the server",
    "loading": "loading the model",
    "texts": "embedding the vocabulary",
    "image": "embedding the image",
    "parts": "finding parts",
    "prompts": "embedding the parts",
    "regions": "hiding regions",
    "survey": "predicting all images",
    "tables": "aggregating",
    "download": "downloading",
}
"""Stage of the work -> what it is called."""


def family_words(family: str) -> tuple[str, str]:
    """A family as people write it, in full and short."""
    full = FAMILIES.get(family, family)
    return full, {"resnet": "RN", "convnext": "CNX"}.get(family, full)


def shown(text: str, style: str = "") -> Text:
    """File names, class names, descriptors as they are: never markup, never control characters."""
    return Text(printable(text), style)


def matches(query: str, text: str) -> bool:
    """Whether every word of a query occurs in a text, in any order and case: the one rule of all filters."""
    folded = text.casefold()
    return all(word in folded for word in query.casefold().split())


def fitted(text: str, width: int) -> str:
    """Exactly `width` cells of a text; never markup, never control characters."""
    written = printable(text)
    if cell_len(written) > width:
        cut = Text(written)
        cut.truncate(max(0, width), overflow="ellipsis")
        written = cut.plain
    return set_cell_size(written, max(0, width))
