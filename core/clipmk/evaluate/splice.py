"""Sparse decomposition of the image embedding over the vocabulary, after SpLiCE (Bhalla et al., NeurIPS 2024).

The image is written as a sparse non-negative sum of descriptors; the weights rank them. It sees the whole image at once
and no parts: the strongest baseline that needs nothing but the two embeddings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Lasso

from clipmk.evaluate import metrics

PENALTIES = (0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
"""Values of lambda that `fit` tries, strongest first. With unit vectors lambda is in units of cosine: a descriptor
takes part only if its product with what the others leave unexplained reaches it, so from lambda = 1 on nothing does."""
TOLERANCE = 1e-5
"""Of the dual gap, relative to |z|^2 = 1."""
MOST_ROUNDS = 20_000
"""Of coordinate descent."""


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
        """The weights that `decompose` gives z = normalise(image - mean image) at this penalty.

        Args:
            embeddings: of images, L2-normalised (images, embed).

        Returns:
            (images, descriptors), not negative, mostly 0.
        """
        found: NDArray[np.float64] = decompose(
            centred(embeddings, self.image_mean), self.atoms, penalties=[self.penalty]
        )[0]
        return found


def centred(embeddings: NDArray[np.floating], mean: NDArray[np.floating]) -> NDArray[np.float64]:
    """normalise(x - mean) of every row, float64: it closes the gap between the cones of images and texts.

    A row that is the mean itself stays 0.
    """
    moved = np.asarray(embeddings, dtype=np.float64) - mean
    lengths = np.linalg.norm(moved, axis=-1, keepdims=True)
    return np.asarray(np.where(lengths > 0, moved / np.maximum(lengths, np.finfo(np.float64).tiny), 0.0))


def decompose(
    targets: NDArray[np.float64], atoms: NDArray[np.float64], *, penalties: Sequence[float]
) -> NDArray[np.float64]:
    """For every target and penalty: w = argmin over w >= 0 of 1/2 |z - A^T w|^2 + lambda · sum w.

    scikit-learn's coordinate descent, whose objective is this one divided by the dimension (alpha = lambda / embed),
    along the penalties from strong to weak.

    Args:
        targets: z, unit rows (images, embed).
        atoms: A, unit rows (descriptors, embed).
        penalties: lambda, falling.

    Returns:
        (penalties, images, descriptors).
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


def fit(
    embeddings: NDArray[np.floating], descriptors: NDArray[np.floating], true: Sequence[Collection[int]], *, most: int
) -> Splice:
    """Centre the dictionary and choose lambda: of `PENALTIES` the one with the highest mean average precision.

    So the baseline is given the truth of these images to be as good as it can be; use images that nothing is reported
    on. The strongest penalty on a tie.

    Args:
        embeddings: of held-out images, L2-normalised (images, embed).
        descriptors: the embedded vocabulary, L2-normalised (descriptors, embed).
        true: for each image the rows of its true descriptors, at least one.
        most: length of the rankings that are scored.
    """
    image_mean = np.asarray(embeddings, dtype=np.float64).mean(axis=0)
    atoms = centred(descriptors, np.asarray(descriptors, dtype=np.float64).mean(axis=0))
    weights = decompose(centred(embeddings, image_mean), atoms, penalties=PENALTIES)
    scores = [
        np.mean(
            [
                metrics.average_precision(ranked(row, most=most), rows)
                for row, rows in zip(weights[column], true, strict=True)
            ]
        )
        for column in range(len(PENALTIES))
    ]
    best = int(np.argmax(scores))
    return Splice(atoms, image_mean, PENALTIES[best], float(scores[best]))
