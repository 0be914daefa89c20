"""What explanations are compared with: regions of the feature maps, a sparse decomposition, k-means on the pixels.

**Feature maps**, from the paper's appendix D.2: every channel of the patch features is a map over the grid; channels
are ranked by their norm over the patches; the one with the highest norm shows the main object, the next L are the
visual concepts; each map is scaled to [0, 1] and what lies below 0.9 is masked out. The paper names such regions by a
classifier trained on the data set; here they are grounded and named like any other parts, so that only the regions
differ.

**Sparse decomposition** of the image embedding over the vocabulary, after SpLiCE (Bhalla et al., NeurIPS 2024): the
image is written as a sparse non-negative sum of descriptors; the weights rank them. It sees the whole image at once and
no parts: the strongest baseline that needs nothing but the two embeddings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import Lasso

from clipmk.concepts.float64 import host64
from clipmk.evaluate.metrics import average_precision
from clipmk.pipeline.segmentation import PartFinder, Segmentation, enlarge

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Encoded

THRESHOLD = 0.9  # of a map scaled to [0, 1] (the paper's)
NO_CHANNEL = "no channel of the feature map varies; the whole image is one part"

PENALTIES = (0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
"""Values of lambda that `fit_splice` tries, strongest first. With unit vectors lambda is in units of cosine: a
descriptor takes part only if its product with what the others leave unexplained reaches it, so from lambda = 1 on
nothing does."""
TOLERANCE = 1e-5  # of the dual gap, relative to |z|^2 = 1
MOST_ROUNDS = 20_000  # of coordinate descent
BASELINE_CLUSTERS = 12  # k of the pixel k-means baseline: as many as the `default` preset may find


def channel_regions(
    patches: Float[Tensor, "patches channels"], *, grid: tuple[int, int], count: int
) -> NDArray[np.bool_]:
    """Regions of the `count` channels of highest norm |f_c| = sqrt(sum_n f_nc^2), highest first, bool (some, *grid).

    Region of channel c: (f_nc - min_n f_nc) / (max_n f_nc - min_n f_nc) >= 0.9. Channels that are the same everywhere
    show nothing and are passed over; equal norms in order of the channel. Regions may overlap.
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


@dataclass(frozen=True, slots=True, eq=False)
class Splice:
    """A dictionary and a penalty, ready to decompose images."""

    atoms: NDArray[np.float64]
    """(descriptors, embed): normalise(d - mean over the vocabulary)."""
    image_mean: NDArray[np.float64]
    """(embed,): mean embedding of the images it was fitted on."""
    penalty: float
    """lambda."""
    score: float
    """Mean average precision on the images it was fitted on, the highest of all penalties."""

    def weights(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """The weights that `decompose` gives z = normalise(image - mean image): (images, descriptors), mostly 0."""
        found: NDArray[np.float64] = decompose(
            centred(embeddings, self.image_mean), self.atoms, penalties=[self.penalty]
        )[0]
        return found


def centred(embeddings: NDArray[np.floating], mean: NDArray[np.floating]) -> NDArray[np.float64]:
    """normalise(x - mean) of every row, float64, 0 for the mean itself: it closes the gap between images and texts."""
    moved = np.asarray(embeddings, dtype=np.float64) - mean
    lengths = np.linalg.norm(moved, axis=-1, keepdims=True)
    return np.asarray(np.where(lengths > 0, moved / np.maximum(lengths, np.finfo(np.float64).tiny), 0.0))


def decompose(
    targets: NDArray[np.float64], atoms: NDArray[np.float64], *, penalties: Sequence[float]
) -> NDArray[np.float64]:
    """(penalties, images, descriptors): w = argmin over w >= 0 of 1/2 |z - A^T w|^2 + lambda · sum w.

    scikit-learn's coordinate descent, whose objective is this one divided by the dimension (alpha = lambda / embed),
    along the penalties, which must fall. Targets z and atoms A have unit rows.
    """
    dictionary = np.asfortranarray(atoms.T)
    model = Lasso(
        fit_intercept=False,
        precompute=atoms @ atoms.T,
        positive=True,
        warm_start=True,
        tol=TOLERANCE,
        max_iter=MOST_ROUNDS,
    )
    found = []
    for penalty in penalties:
        model.set_params(alpha=penalty / atoms.shape[1]).fit(dictionary, targets.T)
        found.append(model.coef_.reshape(len(targets), len(atoms)).copy())
    return np.stack(found)


def ranked(weights: NDArray[np.floating], *, most: int) -> tuple[int, ...]:
    """Rows with a weight above 0, heaviest first, ties in order; at most `most`. What has no weight is not listed."""
    order = np.argsort(-weights, kind="stable")[:most]
    return tuple(int(i) for i in order if weights[i] > 0)


def fit_splice(
    embeddings: NDArray[np.floating], descriptors: NDArray[np.floating], true: Sequence[Collection[int]], *, most: int
) -> Splice:
    """Centre the dictionary and choose lambda: of `PENALTIES` the one with the highest mean average precision.

    `true` has for each image the rows of its true descriptors. So the baseline is given the truth of these images to be
    as good as it can be; use images that nothing is reported on. The strongest penalty on a tie.
    """
    image_mean = np.asarray(embeddings, dtype=np.float64).mean(axis=0)
    atoms = centred(descriptors, np.asarray(descriptors, dtype=np.float64).mean(axis=0))
    weights = decompose(centred(embeddings, image_mean), atoms, penalties=PENALTIES)
    scores = [
        np.mean([average_precision(ranked(row, most=most), rows) for row, rows in zip(each, true, strict=True)])
        for each in weights
    ]
    best = int(np.argmax(scores))
    return Splice(atoms, image_mean, PENALTIES[best], float(scores[best]))


def pixel_clusters(
    image: NDArray[np.uint8], foreground: NDArray[np.bool_], *, count: int = BASELINE_CLUSTERS, seed: int
) -> NDArray[np.bool_]:
    """Baseline parts, bool (k, S, S): k-means on Lab colour / 50 and position / (S/2) * 0.6 of foreground pixels."""
    side = image.shape[0]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 50
    place = np.indices((side, side)).transpose(1, 2, 0) * (0.6 * 2 / side)
    points = np.concatenate([lab, place], -1)[foreground]
    labels = KMeans(min(count, len(points)), n_init=1, random_state=seed).fit_predict(points)
    masks = np.zeros((labels.max() + 1, side, side), dtype=bool)
    for cluster, mask in enumerate(masks):
        mask[foreground] = labels == cluster
    return masks
