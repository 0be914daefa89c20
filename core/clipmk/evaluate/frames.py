"""Pictures with regions hidden, encoded in batches that cross images; equal ones of an image once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.prompts import blurred
from clipmk.pipeline.grounding import CPU_PIXELS

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone

ACCELERATOR_BATCH = 256
"""Pictures per forward on an accelerator."""


@dataclass(slots=True, eq=False)
class Frames:
    """The variants of one square input, numbered in the order in which they were asked for."""

    square: NDArray[np.uint8]
    """uint8 RGB (S, S, 3)."""
    hidden: list[NDArray[np.bool_]] = field(default_factory=list)
    """What is blurred in each, bool (S, S)."""
    _known: dict[bytes, int] = field(default_factory=dict)

    def add(self, hidden: NDArray[np.bool_]) -> list[int]:
        """Numbers of the variants with these regions blurred, bool (variants, S, S); known ones keep their number."""
        return [self._number(mask) for mask in hidden]

    def pictures(self) -> NDArray[np.uint8]:
        """All variants, uint8 RGB (variants, S, S, 3): blurred (11 x 11, sigma 2) where hidden, else untouched."""
        chosen = np.stack(self.hidden)[..., None]
        return np.where(chosen, blurred(self.square), self.square)

    def _number(self, mask: NDArray[np.bool_]) -> int:
        key = np.packbits(mask).tobytes()
        if key not in self._known:
            self._known[key] = len(self.hidden)
            self.hidden.append(mask)
        return self._known[key]


def batch_size(backbone: Backbone, side: int) -> int:
    """Pictures per forward: many on an accelerator; on a CPU as many as make up one picture of 224 px."""
    return max(1, CPU_PIXELS // side**2) if backbone.device.type == "cpu" else ACCELERATOR_BATCH


def embed_pictures(backbone: Backbone, pictures: NDArray[np.uint8]) -> Float[Tensor, "pictures embed"]:
    """Embed square inputs, uint8 RGB (pictures, S, S, 3), batch by batch whatever image they come from.

    Raises:
        NotFiniteError: an embedding is not finite; a `ModelError`.
    """
    size = batch_size(backbone, pictures.shape[1])
    rows = [
        backbone.encode_images(backbone.normalise(torch.from_numpy(pictures[start : start + size])))
        for start in range(0, len(pictures), size)
    ]
    embedded = torch.cat(rows).cpu()
    backbone.check_finite(embedded)
    return embedded
