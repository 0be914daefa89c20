"""The paper's "Feature Maps" baseline: channels of the last spatial map as regions, instead of parts.

From its appendix D.2: every channel of the patch features is a map over the grid; channels are ranked by their norm
over the patches; the one with the highest norm shows the main object, the next L are the visual concepts; each map is
scaled to [0, 1] and what lies below 0.9 is masked out. The paper names such regions by a classifier trained on the data
set; here they are grounded and named like any other parts, so that only the regions differ.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64
from clipmk.pipeline.segmentation import PartFinder, Segmentation, enlarge

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Encoded

THRESHOLD = 0.9
"""Of a map scaled to [0, 1] (the paper's)."""
NO_CHANNEL = "no channel of the feature map varies; the whole image is one part"


def channel_regions(
    patches: Float[Tensor, "patches channels"], *, grid: tuple[int, int], count: int
) -> NDArray[np.bool_]:
    """Regions of the `count` channels of highest norm |f_c| = sqrt(sum_n f_nc^2), highest first.

    Region of channel c: (f_nc - min_n f_nc) / (max_n f_nc - min_n f_nc) >= 0.9. Channels that are the same everywhere
    show nothing and are passed over; equal norms in order of the channel. Regions may overlap.

    Args:
        patches: features of one image, row-major over the grid.
        grid: (rows, columns).
        count: most channels taken.

    Returns:
        bool (channels taken, rows, columns), each with at least one patch.
    """
    values = host64(patches).numpy()
    low, high = values.min(axis=0), values.max(axis=0)
    order = np.argsort(-np.linalg.norm(values, axis=0), kind="stable")
    taken = order[high[order] > low[order]][:count]
    scaled = (values[:, taken] - low[taken]) / (high[taken] - low[taken])
    return np.asarray((scaled >= THRESHOLD).T.reshape(len(taken), *grid))


def feature_map_parts(
    patches: Float[Tensor, "patches channels"], *, grid: tuple[int, int], side: int, count: int
) -> Segmentation:
    """The channel of highest norm as foreground, the `count` next ones as parts, on the square input (nearest).

    With one varying channel it is both; with none the whole image is one part, with a warning.
    """
    maps = channel_regions(patches, grid=grid, count=count + 1)
    if not len(maps):
        whole = np.ones((1, side, side), dtype=bool)
        return Segmentation(masks=whole, foreground=whole[0], warnings=(NO_CHANNEL,))
    regions = np.stack([enlarge(one, side=side) for one in maps])
    return Segmentation(masks=regions[1:] if len(regions) > 1 else regions, foreground=regions[0], warnings=())


@cache
def feature_map_finder(count: int) -> PartFinder:
    """Finds the parts of any image by `feature_map_parts`; always the same object for a count."""

    def find(square: NDArray[np.uint8], encoded: Encoded) -> Segmentation:
        return feature_map_parts(encoded.patches[0], grid=encoded.grid, side=square.shape[0], count=count)

    return find
