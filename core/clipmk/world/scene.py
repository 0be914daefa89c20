"""Scenes: the picture of one object, with its class, its descriptors and the mask of each visible part."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from clipmk.errors import UsageError, suggest
from clipmk.world.conditions import ALL_SPLITS, conditions_of
from clipmk.world.render import REFERENCE_SIZE, VISIBLE_PIXELS, Drawing, draw, part_labels, render
from clipmk.world.sampling import plan_scene
from clipmk.world.tables import grammar

SMALLEST_SIZE: Final = 16
Images = list[npt.NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class ScenePart:
    """A visible part of a scene."""

    descriptor: str
    part: str
    """Kind of part: the noun of the descriptor."""
    mask_pixels: npt.NDArray[np.bool_]
    """Visible pixels, bool (size, size)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A rendered scene and the truth about it."""

    split: str
    index: int
    seed: int
    class_name: str
    kind: str
    """"typical", "recoloured", "missing", "swapped", "chimera" or "planted"."""
    framing: str
    """"whole" or "close-up"."""
    missing: tuple[str, ...]
    """Parts (nouns) that every typical scene of the class has and this one does not."""
    image: npt.NDArray[np.uint8]
    """sRGB, uint8 (size, size, 3)."""
    parts: tuple[ScenePart, ...]
    """Parts with at least 12 visible pixels when the scene is 64 pixels wide, in painting order."""
    object_mask: npt.NDArray[np.bool_]
    """Visible pixels of all parts, tiny ones included, bool (size, size)."""

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Descriptors of the visible parts; no two are the same."""
        return tuple(part.descriptor for part in self.parts)

    @property
    def part_masks(self) -> npt.NDArray[np.bool_]:
        """Visible pixels of each part, bool (parts, size, size); there must be one."""
        return np.stack([part.mask_pixels for part in self.parts])


def render_scene(split: str, index: int, *, size: int = 64, seed: int = 0) -> Scene:
    """Scene number `index` of the split, always the same bytes; UsageError if the arguments do not name a scene."""
    if split not in ALL_SPLITS:
        raise UsageError(f"split {split!r} is unknown; {suggest(split, ALL_SPLITS)}")
    if index < 0:
        raise UsageError(f"index is {index}; scenes count from 0")
    if size < SMALLEST_SIZE:
        raise UsageError(f"size is {size} px, at least {SMALLEST_SIZE} needed")
    drawing = _drawing(split, index, seed)
    planned = drawing.plan
    image, labels = render(drawing, size)
    reference = labels if size == REFERENCE_SIZE else part_labels(drawing, REFERENCE_SIZE)
    visible = np.bincount(reference.ravel(), minlength=len(planned.placed) + 1) >= VISIBLE_PIXELS
    parts = tuple(
        ScenePart(placed.descriptor, placed.part.noun, labels == k)
        for k, placed in enumerate(planned.placed, start=1)
        if visible[k]
    )
    return Scene(
        split=split,
        index=index,
        seed=seed,
        class_name=planned.class_name,
        kind=planned.kind,
        framing="whole" if planned.camera.target is None else "close-up",
        missing=planned.missing,
        image=image,
        parts=parts,
        object_mask=labels > 0,
    )


def _drawing(split: str, index: int, seed: int) -> Drawing:
    planned, rng = plan_scene(split, index, seed=seed)
    grain = np.random.default_rng([seed, ALL_SPLITS.index(split), index])
    return draw(planned, rng, grain, conditions_of(split))


def redraw_parts(scene: Scene) -> tuple[Images, Images]:
    """The scene again for each of its visible parts, in order; every other random choice stays as it was.

    Gives images without the part, where what it hid is seen; and with the part in another colour of its kind.
    """
    drawing, size = _drawing(scene.split, scene.index, scene.seed), len(scene.image)
    rng = np.random.default_rng([scene.seed, ALL_SPLITS.index(scene.split), scene.index, 1])
    descriptors = [placed.descriptor for placed in drawing.plan.placed]
    without, recoloured = [], []
    for index in map(descriptors.index, scene.descriptors):
        part, look = drawing.plan.placed[index].part, drawing.plan.placed[index].look
        others = [colour for colour in grammar()[part.noun].colours if colour != look.colour]
        changed = drawing.with_look(index, replace(look, colour=others[rng.integers(len(others))]))
        without.append(render(replace(drawing, left_out=index), size)[0])
        recoloured.append(render(changed, size)[0])
    return without, recoloured


def render_scenes(split: str, *, count: int, size: int = 64, seed: int = 0, start: int = 0) -> Iterator[Scene]:
    """Scenes `start` to `start + count` of the split; every class comes equally often."""
    for index in range(start, start + count):
        yield render_scene(split, index, size=size, seed=seed)
