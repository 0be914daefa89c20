"""What a class table is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from clipmk.world.vocabulary import NOUNS, Look

ROLES: Final = ("body", "top", "bottom", "front", "back", "face", "sides")
"""Where a part sits; a part from another class takes the place of one with the same role."""


Place: TypeAlias = tuple[float, float, float, float] | tuple[float, float, float, float, float]
"""A box as tables write it: centre x, centre y, width, height[, clockwise degrees]."""


@dataclass(frozen=True, slots=True)
class Box:
    """Place of one copy of a part, in object coordinates; angle in degrees, clockwise."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One row of a class table."""

    noun: str
    role: str
    boxes: tuple[Box, ...]
    looks: tuple[tuple[Look, float], ...]
    """Usual looks with their probabilities, which sum to 1."""
    chance: float
    """Probability that a typical scene has this part at all."""
    shape: str
    """Outline for textured looks instead of the noun's own; empty for the noun's."""


def row(
    noun: str,
    role: str,
    *at: Place,
    looks: dict[str, float],
    chance: float = 1.0,
    mirrored: bool = False,
    shape: str = "",
) -> Part:
    """One row of a class table.

    `at` lists boxes in object coordinates; `mirrored` adds each of them a second time on the other side of x = 0.
    `looks` gives the usual looks, "modifier colour", with their weights; `chance` is how often the part is there at
    all. `shape` replaces the noun's outline for textured looks.
    """
    boxes = [Box(*place) for place in at]
    if mirrored:
        boxes += [Box(-box.x, box.y, box.width, box.height, box.angle, mirrored=True) for box in boxes]
    total = sum(looks.values())
    read: list[tuple[Look, float]] = []
    for words, weight in looks.items():
        modifier, colour = words.split()
        look = Look(modifier, colour)
        if look not in NOUNS[noun].looks():
            raise ValueError(f"{words!r} is no look of {noun!r}; possible: {NOUNS[noun].looks()}")
        read.append((look, weight / total))
    if role not in ROLES:
        raise ValueError(f"role {role!r} is unknown; possible: {ROLES}")
    return Part(noun, role, tuple(boxes), tuple(read), chance, shape)
