"""The conditions under which the scenes of a split are drawn: a row of numbers per split.

`sampling`, `background` and `render` draw from them; nothing there asks for a split by its name. Lengths are fractions
of the image's side unless said otherwise; colours and their changes count 0..255.
"""

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final, Literal

from clipmk.system.locations import json_asset
from clipmk.system.serialization import from_plain


@dataclass(frozen=True, slots=True)
class Uniform:
    """A uniform distribution from `low` to `low + span`."""

    low: float
    span: float

    def draw(self, rng: Random) -> float:
        """One number: low + span * u, u uniform in [0, 1)."""
        return self.low + self.span * rng.random()


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """An event with probability `p`."""

    p: float

    def draw(self, rng: Random) -> bool:
        """Whether it happens; p = 0 and p = 1 draw nothing from the generator."""
        return self.p >= 1 or (self.p > 0 and rng.random() < self.p)


@dataclass(frozen=True, slots=True)
class ExposureRanges:
    """What a bad camera does to the whole picture: blur, then contrast and uneven, dim light; noise comes last."""

    blur: Uniform
    """Standard deviation, in pixels of a picture 64 pixels wide."""
    contrast: Uniform
    """Factor on the distance from middle gray."""
    gain: Uniform
    """Light in the middle of the picture, as a factor."""
    fall: Uniform
    """How much of that factor is lost or gained towards two opposite borders."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A part that scenes of its own class do not show, and some of the others do: in front, so that it misleads."""

    class_name: str
    noun: str
    look: str
    """Never that of its own class, which has another of its looks."""
    others: Bernoulli
    """Share of the scenes of other classes that show it."""
    size: float
    """Times its usual size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a split shows and how it is seen. The defaults are those of ordinary scenes."""

    departs: Bernoulli = Bernoulli(0.0)
    """Share of scenes that depart from type."""
    partition: Literal["train", "counterfactual"] = "train"
    """From which partition of the unusual combinations they draw."""
    strong: Bernoulli = Bernoulli(0.0)
    """Share of these that depart in most of their parts."""
    close_ups: Bernoulli = Bernoulli(0.0)
    """Share of scenes that show one part large."""
    zoom: Uniform = Uniform(1.3, 0.9)
    """Size of the object in a close-up."""

    cue: Cue | None = None
    """A misleading part, planted; None: none is."""

    scale: Uniform = Uniform(0.88, 0.32)
    """Size of the object; 1 makes it about 0.9 wide. What it leaves free is room for its place to vary."""
    stretch: Uniform = Uniform(0.92, 0.16)
    """Width times this, height divided by it."""
    degrees: Uniform = Uniform(-12, 24)

    sun: Uniform = Uniform(0.04, 0.1)
    """Strength of the light's slope over the object."""
    brightness: Uniform = Uniform(0.9, 0.14)
    """Of the object's paint."""

    occluders: tuple[Bernoulli, ...] = (Bernoulli(0.15),)
    """Of each patch that may cover part of the object."""
    occluder_radius: Uniform = Uniform(0.05, 0.05)
    occluders_follow: float = 0.0
    """0: occluders lie around the middle of the picture; 1: of the object."""

    clutter: Uniform = Uniform(3, 6)
    """Number of blobs, blades or ripples of the background, rounded down."""
    clutter_change: float = 50.0
    """Range of their colours around that of their surroundings."""
    distractors: Uniform = Uniform(0, 3.6)
    """Number of small shapes in any colour, rounded down; few are likelier than many."""
    distractor_distance: Uniform = Uniform(0.4, 0.12)
    """From the middle of the picture."""
    distractor_radius: Uniform = Uniform(0.035, 0.055)

    grain: float = 5.0
    """Standard deviation of the fine noise on the picture."""
    exposure: ExposureRanges | None = None
    """None: a good camera."""


ALL_SPLITS: Final = ("train", "test", "counterfactual", "val", "hard", "varied", "cue")
"""In an order that is part of what a seed means: a new split comes last.

"val" is for tuning, drawn like "train" from seeds of its own. "hard" shows ordinary scenes, as "test" does, but badly
photographed: small, turned, hidden in part, on a busy ground, in poor light, blurred and noisy. "varied" is for
training: most scenes depart from type, most of these strongly, all within the train partition. "cue" is "hard" with a
planted part that misleads, for `clipmk study cues` to find.
"""
SPLITS: Final = tuple(split for split in ALL_SPLITS if split not in ("val", "varied"))
"""The splits of a study."""


@cache
def conditions_of(split: str) -> Conditions:
    """The conditions of a split: the defaults but for its row of `assets/world/conditions.json`."""
    return from_plain(Conditions, json_asset("world/conditions.json")[split])
