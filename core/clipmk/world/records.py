"""What the world's tables are made of: kinds of parts with their looks, and the parts of a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ROLES: Final = ("body", "top", "bottom", "front", "back", "face", "sides")
"""Where a part sits; a part from another class takes the place of one with the same role."""

TEXTURES: Final = frozenset({"plain", "striped", "spotted", "checkered"})
"""Modifiers that are painted on; any other modifier is a shape."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a descriptor says about a part beside its noun."""

    modifier: str
    colour: str

    @property
    def is_texture(self) -> bool:
        """Whether the modifier is painted on rather than a shape."""
        return self.modifier in TEXTURES

    @property
    def texture(self) -> str:
        """The painted texture; "plain" where the modifier is a shape."""
        return self.modifier if self.is_texture else "plain"


@dataclass(frozen=True, slots=True)
class Outline:
    """Shape of a part, stretched against the box its class gives it."""

    shape: str
    width: float = 1.0
    height: float = 1.0


@dataclass(frozen=True, slots=True)
class Noun:
    """One kind of part: its word, its colours, and the outline of each modifier."""

    name: str
    singular: bool
    outlines: Mapping[str, Outline]
    colours: tuple[str, ...]

    def phrase(self, look: Look) -> str:
        """Descriptor of the part with this look: "[a|an] <modifier> <colour> <noun>"."""
        words = f"{look.modifier} {look.colour} {self.name}"
        if not self.singular:
            return words
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def looks(self) -> tuple[Look, ...]:
        """Every look in the grammar, in table order."""
        return tuple(Look(modifier, colour) for modifier in self.outlines for colour in self.colours)


@dataclass(frozen=True, slots=True)
class Box:
    """Position of one copy of a part, in object coordinates; angle in degrees, clockwise."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a class."""

    noun: str
    role: str
    boxes: tuple[Box, ...]
    looks: tuple[tuple[Look, float], ...]
    """Usual looks with their probabilities, which sum to 1."""
    chance: float
    """Probability that a typical scene has this part at all."""
    shape: str
    """Outline for textured looks instead of the noun's own; empty for the noun's."""
