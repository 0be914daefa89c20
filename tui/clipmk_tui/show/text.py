"""Words, texts and bars made of characters that the app and the command line show alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from clipmk.system.text import printable, quoted

if TYPE_CHECKING:
    from clipmk.records import Alternative, ExplanationRecord


STAGE_WORDS: Final = {
    "asked": "asking the engine",
    "waiting": "waiting for the server",
    "loading": "loading the model",
    "texts": "embedding the vocabulary",
    "image": "embedding the image",
    "parts": "finding parts",
    "prompts": "embedding the parts",
    "regions": "hiding regions",
    "tables": "aggregating",
    "download": "downloading",
}
"""Stage of the work -> what it is called."""


def family_words(family: str) -> tuple[str, str]:
    """A family as people write it, in full and short."""
    from clipmk.records import FAMILIES  # noqa: PLC0415 - forty dataclasses, which the app's first frame does without

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


def why_not(explanation: ExplanationRecord, other: Alternative) -> str:
    """The parts that speak most for the class explained (+) and for another one (-), with their influence."""
    from clipmk.output.sentences import part_names  # noqa: PLC0415 - not before there is an explanation

    ranked, clauses = sorted(zip(other.part_margins, part_names(explanation).items(), strict=True)), []
    for name, sign in ((explanation.class_name, 1), (other.class_name, -1)):
        most = [(f"part {part} ({words})", margin) for margin, (part, words) in ranked[::-sign][:2]]
        parts = ", ".join(f"{part} {margin:+.3f}" for part, margin in most if sign * round(margin, 3) > 0) or "no part"
        clauses.append(f"for {quoted(name)} {printable(parts)}")
    return "; ".join(clauses)


_EIGHTHS = "▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"


def bar(share: float, cells: int) -> str:
    """A horizontal bar of a share in [0, 1], padded to `cells` columns; any share above zero is visible."""
    eighths = round(min(1.0, max(0.0, share)) * cells * 8)
    if share > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest - 1] if rest else "")).ljust(cells)


def sparkline(values: Sequence[float]) -> str:
    """One character per value, its height relative to the largest value; 0 is the lowest character."""
    top = max(values, default=0.0)
    if top <= 0:
        return _HEIGHTS[0] * len(values)
    steps = len(_HEIGHTS) - 1
    return "".join(_HEIGHTS[round(steps * max(0.0, value) / top)] for value in values)
