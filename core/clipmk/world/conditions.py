"""Under which conditions the scenes of a split are seen: one table of numbers per split.

`sampling`, `background` and `render` read them and draw lots; nothing there asks for a split by its name. Lengths are
image shares unless said otherwise; colours and their changes count 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal, TypeAlias

Half: TypeAlias = Literal["train", "counterfactual"]


@dataclass(frozen=True, slots=True)
class Spread:
    """An even spread of numbers, from `least` to `least + span`."""

    least: float
    span: float

    def draw(self, lots: Random) -> float:
        """One number: least + span * u, u even in [0, 1)."""
        return self.least + self.span * lots.random()


@dataclass(frozen=True, slots=True)
class Share:
    """How often something happens."""

    of_one: float

    def draw(self, lots: Random) -> bool:
        """Whether it happens; what never or always happens costs no lot."""
        return self.of_one >= 1 or (self.of_one > 0 and lots.random() < self.of_one)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a bad camera does to the whole picture: blur, then contrast and uneven, dim light; noise comes last."""

    blur: Spread
    """Standard deviation, in pixels of a picture 64 pixels wide."""
    contrast: Spread
    """Factor on the distance from middle gray."""
    gain: Spread
    """Light in the middle of the picture, as a factor."""
    fall: Spread
    """How much of that factor is lost or gained towards two opposite borders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a split shows and how it is seen. The defaults are those of ordinary scenes."""

    departs: Share = Share(0.0)
    """Share of scenes that depart from type."""
    half: Half = "train"
    """From which half of the unusual combinations they draw."""
    close_ups: Share = Share(0.0)
    """Share of scenes that show one part large."""

    scale: Spread = Spread(0.88, 0.32)
    """Size of the object; 1 makes it about 0.9 wide. What it leaves free is room for its place to vary."""
    stretch: Spread = Spread(0.92, 0.16)
    """Width times this, height divided by it."""
    degrees: Spread = Spread(-12, 24)

    sun: Spread = Spread(0.04, 0.1)
    """Strength of the light's slope over the object."""
    brightness: Spread = Spread(0.9, 0.14)
    """Of the object's paint."""

    occluders: tuple[Share, ...] = (Share(0.15),)
    """Of each patch that may lie over the object."""
    occluder_radius: Spread = Spread(0.05, 0.05)
    occluders_follow: float = 0.0
    """0: occluders lie around the middle of the picture; 1: of the object."""

    clutter: Spread = Spread(3, 6)
    """Number of blobs, blades or ripples of the background, rounded down."""
    clutter_change: float = 50.0
    """Most that their colours range over, around that of their surroundings."""
    distractors: Spread = Spread(0, 3.6)
    """Number of small shapes in any colour, rounded down; few are likelier than many."""
    distractor_distance: Spread = Spread(0.4, 0.12)
    """From the middle of the picture."""
    distractor_radius: Spread = Spread(0.035, 0.055)

    grain: float = 5.0
    """Standard deviation of the fine noise on the picture."""
    exposure: Exposure | None = None
    """None: a good camera."""


_TRAINING: Final = Conditions(departs=Share(0.2), close_ups=Share(0.1))

CONDITIONS: Final[dict[str, Conditions]] = {
    "train": _TRAINING,
    "test": Conditions(),
    "counterfactual": Conditions(departs=Share(1.0), half="counterfactual"),
    "val": _TRAINING,
    "hard": Conditions(
        scale=Spread(0.78, 0.36),
        stretch=Spread(0.86, 0.3),
        degrees=Spread(-20, 40),
        sun=Spread(0.05, 0.15),
        brightness=Spread(0.86, 0.18),
        occluders=(Share(0.6), Share(0.3), Share(0.15)),
        occluder_radius=Spread(0.05, 0.06),
        occluders_follow=1.0,
        clutter=Spread(4, 8),
        clutter_change=70.0,
        distractors=Spread(1, 4),
        distractor_distance=Spread(0.36, 0.16),
        grain=6.5,
        exposure=Exposure(
            blur=Spread(0.1, 0.5), contrast=Spread(0.7, 0.3), gain=Spread(0.7, 0.36), fall=Spread(0.0, 0.25)
        ),
    ),
}
"""Every split, in an order that is part of what a seed means: a new one comes last.

"val" is for tuning, drawn like "train" from seeds of its own. "hard" shows ordinary scenes, as "test" does, but badly
photographed: small, turned, hidden in part, on a busy ground, in poor light, blurred and noisy.
"""
