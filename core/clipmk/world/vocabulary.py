"""Grammar of the descriptors: one short noun phrase for every kind of part, with a modifier and a colour.

A descriptor is "[a|an] <modifier> <colour> <noun>", as in "pointed orange ears" or "a striped red sail". The modifier
is either a shape, which changes the outline of the part, or a texture, which is painted on it. `NOUNS` is the whole
grammar; it yields descriptors in table order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (206, 36, 40),
    "orange": (243, 132, 28),
    "yellow": (250, 220, 50),
    "green": (48, 160, 62),
    "blue": (40, 92, 214),
    "purple": (132, 66, 190),
    "pink": (250, 148, 188),
    "brown": (116, 70, 36),
    "black": (34, 34, 38),
    "white": (244, 244, 242),
    "gray": (136, 140, 146),
}
"""sRGB of every colour word, 0..255."""

TEXTURES: Final = frozenset({"plain", "striped", "spotted", "checkered"})
"""Modifiers that are painted on; any other modifier is a shape."""


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
    outlines: dict[str, Outline]
    colours: tuple[str, ...]

    def phrase(self, look: Look) -> str:
        """Descriptor of the part with this look."""
        words = f"{look.modifier} {look.colour} {self.name}"
        if not self.singular:
            return words
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def looks(self) -> tuple[Look, ...]:
        """Every look in the grammar, in table order."""
        return tuple(Look(modifier, colour) for modifier in self.outlines for colour in self.colours)


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
        return self.modifier if self.modifier in TEXTURES else "plain"


def _noun(phrase: str, outlines: dict[str, str], colours: str) -> Noun:
    """Read one line of the grammar: "a tail" or "ears", modifier -> "shape [width [height]]", colour words."""
    name = phrase.removeprefix("a ")
    read: dict[str, Outline] = {}
    for modifier, text in outlines.items():
        shape, *factors = text.split()
        read[modifier] = Outline(shape, *(float(factor) for factor in factors))
    return Noun(name, name != phrase, read, tuple(colours.split()))


def _painted(shape: str, textures: str) -> dict[str, str]:
    """The same outline under several textures."""
    return dict.fromkeys(textures.split(), shape)


_GRAMMAR: Final = (
    # animals
    (
        "a body",
        _painted("ellipse", "plain striped spotted"),
        "red orange yellow green blue pink brown black white gray",
    ),
    ("a head", {"round": "ellipse", "square": "box .88 .9"}, "orange yellow pink brown black white gray"),
    (
        "ears",
        {"pointed": "triangle", "long": "ellipse .72 1.55", "round": "ellipse 1.05 .8"},
        "orange pink brown black white gray",
    ),
    ("eyes", {"round": "ellipse", "square": "box .9 .9"}, "green blue yellow black white red"),
    ("a nose", {"pointed": "wedge-left 1.2 .9", "round": "ellipse"}, "orange pink black red"),
    ("a beak", {"pointed": "wedge-left 1.1 .9", "curved": "beak-curved"}, "yellow orange red black gray"),
    ("a tail", {"fluffy": "brush", "forked": "fork", "curled": "curl"}, "orange brown black white blue red"),
    ("a fin", {"pointed": "fin-pointed", "round": "fin-round"}, "red orange yellow blue green"),
    ("wings", _painted("bird-wing", "plain striped spotted"), "red orange yellow blue white"),
    ("legs", {"thin": "leg-thin", "thick": "leg-thick"}, "orange yellow brown black white gray"),
    ("a shell", _painted("dome", "striped spotted checkered"), "green brown orange purple red"),
    ("antennae", {"straight": "feeler-straight", "curled": "feeler-curved"}, "black brown yellow red"),
    ("a trunk", {"thick": "trunk-flared", "curved": "trunk-curved"}, "brown gray black white pink"),
    ("tusks", {"curved": "tusk", "pointed": "point-down .7"}, "white yellow"),
    # vehicles
    ("wheels", {"round": "wheel-round", "spoked": "wheel-spoked"}, "black gray red yellow white blue"),
    ("windows", {"square": "box", "round": "ellipse"}, "blue white yellow black gray"),
    ("headlights", {"round": "ellipse", "square": "box .9 .9"}, "yellow white red orange"),
    ("a cabin", {"square": "cabin-square", "round": "cabin-round"}, "red blue green white orange black"),
    ("a container", _painted("box", "plain striped checkered"), "white orange blue green"),
    ("a frame", {"thin": "frame-thin", "thick": "frame-thick"}, "red blue green black purple"),
    ("a seat", {"flat": "box 1 .7", "round": "ellipse"}, "black brown red white"),
    ("a handlebar", {"curved": "bar-curved", "straight": "bar-straight"}, "black gray yellow red"),
    ("a hull", {"curved": "bowl", "angular": "tub"}, "brown white red blue black"),
    ("a mast", {"tall": "box", "short": "box 1.2 .62"}, "brown black gray white"),
    ("a sail", _painted("sail", "plain striped checkered"), "white red orange yellow purple"),
    ("a flag", {"square": "flag-square", "triangular": "flag-triangular"}, "red yellow green blue orange"),
    ("flames", {"pointed": "flames-pointed", "round": "flames-round"}, "orange yellow red blue"),
    ("a tip", {"pointed": "triangle", "round": "dome"}, "red blue black orange yellow"),
    ("smoke", {"round": "cloud", "wavy": "wave"}, "gray white black pink"),
    # plants
    ("petals", {"round": "petals-round", "pointed": "petals-pointed"}, "red pink purple white orange yellow blue"),
    ("a center", _painted("ellipse", "plain spotted checkered"), "yellow brown orange black"),
    ("a stem", {"thin": "box .6", "thick": "leg-thick 1.5"}, "green brown white yellow"),
    ("leaves", {"pointed": "leaf-pointed", "round": "leaf-round"}, "green red yellow brown purple"),
    ("foliage", {"round": "crown-round", "pointed": "crown-pointed"}, "green orange yellow red pink"),
    ("fruits", {"round": "fruit-round", "long": "fruit-long"}, "red yellow orange purple blue"),
    ("a blossom", {"round": "petals-round", "pointed": "blossom-pointed"}, "pink red white yellow blue"),
    ("arms", {"thin": "arm-thin", "thick": "arm-thick", "bent": "arm-bent"}, "brown black green gray"),
    ("a cap", _painted("dome", "plain spotted striped"), "red brown white purple orange"),
    # buildings
    ("walls", _painted("box", "plain striped checkered"), "white yellow gray pink red"),
    ("a roof", {"pointed": "triangle", "flat": "roof-flat", "domed": "dome"}, "red brown blue black green"),
    ("a door", {"arched": "arched", "square": "box"}, "brown red green black blue"),
    ("a chimney", {"tall": "box", "tapered": "taper 1.2"}, "red brown gray black"),
    ("a tower", _painted("taper", "plain striped checkered"), "white red gray yellow"),
    ("turrets", {"pointed": "turret-pointed", "flat": "turret-flat"}, "gray brown purple white blue"),
    ("a lantern", {"round": "ellipse", "square": "box .85 .9"}, "yellow white orange green"),
    ("blades", {"wide": "blades-wide", "pointed": "blades-pointed"}, "white gray brown red black"),
    # food and things
    ("scoops", _painted("scoops", "plain striped spotted"), "pink white brown yellow"),
    ("a cone", _painted("point-down", "plain checkered"), "brown orange yellow pink"),
    ("layers", _painted("layers", "plain striped spotted"), "brown white yellow pink"),
    ("frosting", {"dripping": "drip", "jagged": "zigzag"}, "white pink brown blue green"),
    ("candles", {"straight": "candles", "tapered": "candles-pointed"}, "red blue yellow white green"),
    ("a spout", {"curved": "spout-curved", "straight": "spout-straight"}, "blue white green red gray"),
    ("a handle", {"round": "ring", "square": "square-ring"}, "black blue brown red white"),
    ("a lid", {"round": "lid-round", "flat": "lid-flat"}, "blue white red yellow purple"),
    ("a plate", _painted("tub", "plain striped"), "white blue gray yellow"),
    ("a hat", {"tall": "hat-tall", "pointed": "hat-pointed"}, "black red blue purple green"),
    ("a shawl", _painted("shawl", "plain striped checkered"), "red green blue yellow"),
    ("buttons", {"round": "buttons-round", "square": "buttons-square"}, "black red blue yellow"),
    ("a panel", {"square": "box", "round": "ellipse"}, "blue green yellow black"),
)

NOUNS: Final[dict[str, Noun]] = {noun.name: noun for noun in (_noun(*line) for line in _GRAMMAR)}
"""Every kind of part, by its word."""


@cache
def descriptors() -> tuple[str, ...]:
    """The whole vocabulary in table order, also what no scene draws."""
    return tuple(noun.phrase(look) for noun in NOUNS.values() for look in noun.looks())
