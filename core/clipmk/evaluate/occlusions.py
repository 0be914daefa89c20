"""Images with regions blurred, encoded in batches that cross images; equal ones of an image once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64
from clipmk.concepts.prompts import blurred

if TYPE_CHECKING:
    from clipmk.evaluate.variants import VariantRunner

IMAGES_HELD = 384
"""Occluded images that wait until they are encoded together."""


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
    """Square inputs that wait until there are enough of them for the encoder.

    Args:
        runner: the model and its classes.
    """

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
