"""The tables of `assets/world`, read on first use: classes and their parts, kinds of parts and their looks, colours.

`classes.json` lists the parts of each class, behind before front. Object coordinates run to the right (x) and down (y);
the object is about 0.9 wide around (0, 0), its front to the left. To add a class, add its parts:

- `noun`, `role`: the kind of part, and where it sits; exactly one part has the role "body": it carries the others.
- `boxes`: centre x, centre y, width, height[, clockwise degrees] of each copy; `mirrored` repeats them at -x.
- `looks`: the usual looks, "modifier colour", with their weights; `chance`: how often the part is there at all.
- `shape`: replaces the noun's outline for textured looks.

`nouns.json` is the grammar of descriptors: "a tail" or "ears", modifier -> "shape [width [height]]", colours. The order
of classes and nouns is part of what a seed means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

from clipmk.system import locations
from clipmk.world.records import ROLES, Box, Look, Noun, Outline, Part

Rgb: TypeAlias = tuple[int, int, int]
"""sRGB, 0..255."""


@cache
def classes() -> Mapping[str, tuple[Part, ...]]:
    """Every class with its parts in painting order."""
    return MappingProxyType({name: tuple(map(read_part, rows)) for name, rows in load_table("classes").items()})


@cache
def grammar() -> Mapping[str, Noun]:
    """Every kind of part, by its word."""
    found = (_read_noun(phrase, row) for phrase, row in load_table("nouns").items())
    return MappingProxyType({noun.name: noun for noun in found})


@cache
def colours() -> Mapping[str, Rgb]:
    """Every colour word."""
    return MappingProxyType({word: _rgb(values) for word, values in load_table("colours")["words"].items()})


@cache
def places() -> Mapping[str, tuple[Rgb, Rgb]]:
    """Backgrounds: colours at the top and at the bottom."""
    table = load_table("colours")["places"]
    return MappingProxyType({place: (_rgb(top), _rgb(bottom)) for place, (top, bottom) in table.items()})


def class_names() -> tuple[str, ...]:
    """Names of all classes."""
    return tuple(classes())


@cache
def all_descriptors() -> tuple[str, ...]:
    """Every descriptor of the grammar in table order, including those that no scene draws."""
    return tuple(noun.phrase(look) for noun in grammar().values() for look in noun.looks())


def read_part(row: Mapping[str, Any]) -> Part:
    """A part from its row of `classes.json`.

    Raises:
        ValueError: its role or one of its looks is unknown.
    """
    noun, role = row["noun"], row["role"]
    if role not in ROLES:
        raise ValueError(f"role {role!r} is unknown; possible: {ROLES}")
    boxes = [Box(*box) for box in row["boxes"]]
    if row.get("mirrored", False):
        boxes += [Box(-box.x, box.y, box.width, box.height, box.angle, mirrored=True) for box in boxes]
    possible, looks = grammar()[noun].looks(), []
    total = sum(row["looks"].values())
    for words, weight in row["looks"].items():
        look = Look(*words.split())
        if look not in possible:
            raise ValueError(f"{words!r} is not a look of {noun!r}; possible: {possible}")
        looks.append((look, weight / total))
    return Part(noun, role, tuple(boxes), tuple(looks), row.get("chance", 1.0), row.get("shape", ""))


def _read_noun(phrase: str, row: Mapping[str, Any]) -> Noun:
    """One line of the grammar.

    Raises:
        ValueError: one of its colours is unknown.
    """
    name = phrase.removeprefix("a ")
    outlines = {}
    for modifier, text in row["outlines"].items():
        shape, *factors = text.split()
        outlines[modifier] = Outline(shape, *map(float, factors))
    words = tuple(row["colours"].split())
    if unknown := set(words) - set(colours()):
        raise ValueError(f"{name!r} has unknown colours: {unknown}")
    return Noun(name, name != phrase, MappingProxyType(outlines), words)


def load_table(name: str) -> dict[str, Any]:
    """Read a file of `assets/world`."""
    text = (locations.assets_dir() / "world" / f"{name}.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def _rgb(values: list[int]) -> Rgb:
    red, green, blue = values
    return red, green, blue
