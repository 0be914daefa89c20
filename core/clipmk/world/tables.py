"""The tables of `assets/world`, read on first use: classes and their parts, kinds of parts and their looks, colours.

`classes.json` lists the parts of each class, behind before front. Object coordinates run to the right (x) and down (y);
the object is about 0.9 wide around (0, 0), its front to the left. To add a class, add its parts:

- `noun`, `role`: the kind of part, and where it sits ("top", "bottom", "front", "back", "face" or "sides"); exactly one
  part has the role "body": it carries the others.
- `boxes`: centre x, centre y, width, height[, clockwise degrees] of each copy; `mirrored` repeats them at -x.
- `looks`: the usual looks, "modifier colour", with their weights; `chance`: how often the part is there at all.
- `shape`: replaces the noun's outline for textured looks.

`nouns.json` is the grammar of descriptors: "a tail" or "ears", modifier -> "shape [width [height]]", colours. The order
of classes and nouns is part of what a seed means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from clipmk.system.locations import json_asset

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
    """Where it sits; a part from another class takes the place of one with the same role."""
    boxes: tuple[Box, ...]
    looks: tuple[tuple[Look, float], ...]
    """Usual looks with their probabilities, which sum to 1."""
    chance: float
    """Probability that a typical scene has this part at all."""
    shape: str
    """Outline for textured looks instead of the noun's own; empty for the noun's."""


@cache
def classes() -> Mapping[str, tuple[Part, ...]]:
    """Every class with its parts in painting order."""
    return MappingProxyType(
        {name: tuple(map(_read_part, rows)) for name, rows in json_asset("world/classes.json").items()}
    )


@cache
def grammar() -> Mapping[str, Noun]:
    """Every kind of part, by its word."""
    found = (_read_noun(phrase, row) for phrase, row in json_asset("world/nouns.json").items())
    return MappingProxyType({noun.name: noun for noun in found})


def colours() -> Mapping[str, Sequence[int]]:
    """Every colour word, with its sRGB, 0..255."""
    return MappingProxyType(json_asset("world/colours.json")["words"])


def places() -> Mapping[str, Sequence[Sequence[int]]]:
    """Backgrounds: colours at the top and at the bottom, sRGB."""
    return MappingProxyType(json_asset("world/colours.json")["places"])


def class_names() -> tuple[str, ...]:
    """Names of all classes."""
    return tuple(classes())


@cache
def all_descriptors() -> tuple[str, ...]:
    """Every descriptor of the grammar in table order, including those that no scene draws."""
    return tuple(noun.phrase(look) for noun in grammar().values() for look in noun.looks())


def _read_part(row: Mapping[str, Any]) -> Part:
    """A part from its row of `classes.json`."""
    boxes = [Box(*box) for box in row["boxes"]]
    if row.get("mirrored", False):
        boxes += [Box(-box.x, box.y, box.width, box.height, box.angle, mirrored=True) for box in boxes]
    total = sum(row["looks"].values())
    looks = tuple((Look(*words.split()), weight / total) for words, weight in row["looks"].items())
    return Part(row["noun"], row["role"], tuple(boxes), looks, row.get("chance", 1.0), row.get("shape", ""))


def _read_noun(phrase: str, row: Mapping[str, Any]) -> Noun:
    """One line of the grammar."""
    name = phrase.removeprefix("a ")
    outlines = {}
    for modifier, text in row["outlines"].items():
        shape, *factors = text.split()
        outlines[modifier] = Outline(shape, *map(float, factors))
    return Noun(name, name != phrase, MappingProxyType(outlines), tuple(row["colours"].split()))
