"""What is changed to see what depends on it: damaged tokens, shifted pictures, moved regions, and blurred ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from clipmk.concepts.float64 import host64
from clipmk.concepts.prompts import blurred
from clipmk.images.masks import mask_box

if TYPE_CHECKING:
    from clipmk.backbones.base import Encoded
    from clipmk.evaluate.variants import VariantRunner

OUTLIERS = 3  # tokens made outliers in the robustness row
OUTLIER_GAIN = 8.0  # how much longer an injected outlier is than the median token; real ViTs show five to ten
INSIDE_LEAST = 0.8  # share of a moved region that lies inside the object
OVERLAP_MOST = 0.5  # share of a moved region that lies on the region itself: an IoU of 1/3
TRIES = 50  # places that are tried in each of eight orientations
NEARLY_BEST = 0.9  # a place is good enough where this share of what the best place covers is covered
INPAINT_RADIUS = 3  # pixels around a point that it is filled in from
IMAGES_HELD = 384  # occluded images that wait until they are encoded together


def inject_outliers(encoded: Encoded, *, seed: int) -> Encoded:
    """A copy with a few patch tokens replaced by long ones of one random direction, as large ViTs show them."""
    rng = np.random.default_rng(seed)
    patches = encoded.patches.clone()
    length = patches.norm(dim=-1).median() * OUTLIER_GAIN
    direction = torch.from_numpy(rng.standard_normal(patches.shape[-1])).to(patches)
    chosen = torch.from_numpy(rng.choice(patches.shape[1], size=OUTLIERS, replace=False))
    patches[:, chosen] = direction / direction.norm() * length
    return replace(encoded, patches=patches)


def shifted(image: NDArray[np.uint8], *, pixels: int) -> NDArray[np.uint8]:
    """The image moved right and down by some pixels, its edge repeated."""
    padded = np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), mode="edge")
    return padded[: image.shape[0], : image.shape[1]]


def inpainted(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with what lies in the mask, bool (H, W), filled in from its surroundings (Telea 2004)."""
    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA), dtype=np.uint8)


def painted_over(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with its mean colour in the mask, bool (H, W)."""
    return np.where(mask[..., None], image.mean(axis=(0, 1)).round().astype(np.uint8), image)


def moved_inside(region: NDArray[np.bool_], inside: NDArray[np.bool_], *, seed: int) -> NDArray[np.bool_] | None:
    """The region's shape at a random other place inside the object, both bool (S, S): the control of an effect.

    The shape is moved, and turned by quarter turns or mirrored, so its area stays exactly the same. A place is good
    where at least `INSIDE_LEAST` of it lies inside the object and at most `OVERLAP_MOST` of it on the region itself.
    The eight orientations come in random order, `TRIES` places of each are drawn uniformly from those that lie within
    the picture; the first good one is taken. None where none was found, as for a region that fills most of the object.
    """
    side, size = len(region), int(region.sum())
    if not size or np.count_nonzero(inside & ~region) < (INSIDE_LEAST - OVERLAP_MOST) * size:
        return None
    rng = np.random.default_rng(seed)
    for turn in rng.permutation(8).tolist():
        shape = np.argwhere(np.rot90(region[:, ::-1] if turn >= 4 else region, turn % 4))
        shape -= shape.min(axis=0)
        corners = rng.integers(side - shape.max(axis=0), size=(TRIES, 2))
        places = (corners[:, :1] + shape[:, 0]) * side + corners[:, 1:] + shape[:, 1]
        places = places[inside.take(places).sum(axis=1) >= INSIDE_LEAST * size]
        places = places[region.take(places).sum(axis=1) <= OVERLAP_MOST * size]
        if len(places):
            moved = np.zeros_like(region)
            moved.flat[places[0]] = True
            return moved
    return None


def moved_regions(
    masks: NDArray[np.bool_], inside: NDArray[np.bool_], *, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Random regions of the same shapes and areas as `masks`, inside the object as far as they fit.

    Largest first; each is moved, within the picture, to a place drawn uniformly from those that cover at least 0.9 of
    what the best place covers of the object's free pixels. So they hide nearly as much of the object as the method's
    own regions do. They come in the order of `masks`, bool (parts, H, W); empty masks stay empty.
    """
    moved = np.zeros_like(masks)
    free = inside.copy()
    for index in np.argsort(-masks.sum(axis=(1, 2)), kind="stable").tolist():
        moved[index] = _moved(masks[index], free if free.any() else inside, rng)
        free &= ~moved[index]
    return moved


def _moved(mask: NDArray[np.bool_], inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    if (box := mask_box(mask)) is None:
        return mask
    x0, y0, x1, y1 = box
    shape = mask[y0:y1, x0:x1]
    covered = np.rint(fftconvolve(inside.astype(np.float64), shape[::-1, ::-1].astype(np.float64), mode="valid"))
    places = np.argwhere(covered >= NEARLY_BEST * covered.max())
    top, left = places[rng.integers(len(places))].tolist()
    placed = np.zeros_like(mask)
    placed[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return placed


@dataclass(slots=True, eq=False)
class OccludedImages:
    """The occlusions of one picture or square input, numbered in the order in which they are added."""

    image: NDArray[np.uint8]
    """uint8 RGB (H, W, 3)."""
    hidden: list[NDArray[np.bool_]] = field(default_factory=list)
    """What is blurred in each, bool (H, W)."""
    _known: dict[bytes, int] = field(default_factory=dict)

    def add(self, hidden: NDArray[np.bool_]) -> list[int]:
        """Numbers of the images with these regions blurred, bool (images, H, W); known ones keep their number."""
        numbers = []
        for mask in hidden:
            numbers.append(self._known.setdefault(np.packbits(mask).tobytes(), len(self.hidden)))
            if numbers[-1] == len(self.hidden):
                self.hidden.append(mask)
        return numbers

    def images(self) -> NDArray[np.uint8]:
        """All of them, uint8 RGB (images, H, W, 3): blurred (11 x 11, sigma 2) where hidden, else untouched."""
        hidden = np.array(self.hidden, dtype=bool).reshape(-1, *self.image.shape[:2], 1)
        return np.where(hidden, blurred(self.image), self.image)


Then = Callable[[NDArray[np.float64]], None]
"""Called with cos(square input, class), float64 (images, classes)."""


class OcclusionQueue:
    """Square inputs that wait until there are enough of them for the encoder."""

    def __init__(self, runner: VariantRunner) -> None:
        self._runner = runner
        self._waiting: list[tuple[Sequence[NDArray[np.uint8]], Then]] = []

    def add(self, squares: Sequence[NDArray[np.uint8]], then: Then) -> None:
        """Queue square inputs of one image, uint8 RGB (S, S, 3), if any; encode what waits once it is enough."""
        self._waiting.append((squares, then))
        if sum(len(each) for each, _ in self._waiting) >= IMAGES_HELD:
            self.flush()

    def flush(self) -> None:
        """Encode everything that waits and pass on its cosines, in the order in which it was added."""
        waiting, self._waiting = self._waiting, []
        squares = [square for each, _ in waiting for square in each]
        classes = self._runner.explainer.bank.classes
        cosines = np.empty((0, len(classes)))
        if squares:
            cosines = host64(self._runner.embed(np.stack(squares)) @ classes.T).numpy()
        start = 0
        for each, then in waiting:
            then(cosines[start : start + len(each)])
            start += len(each)
