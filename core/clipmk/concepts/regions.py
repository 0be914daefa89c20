"""Regions of an image as a graph, and the rules by which several of them form one part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from jaxtyping import Float, Integer
    from numpy import ndarray

ALIKE_LOOKS = 14.0
"""Regions closer than this (Lab units) look similar."""
ALIKE_SIZE = 2.5
"""Pieces of one kind differ in area by at most this factor."""
PATTERN_PIECES = 5
"""Stripes or squares of both colours together that form a pattern: fewer are two parts side by side."""
PATTERN_BORDER = 0.5
"""Share of a stripe's border to other regions that is with the other colour."""
SPOTS = 4
"""Spots that form a pattern: fewer are eyes, windows, buttons."""
SPOT_BORDER = 0.6
"""Share of a spot's border to other regions that is with its ground."""
SPOT_AREA = 0.12
"""Largest spot, as a share of its ground."""
TOUCH = 2
"""Pixel pairs along which two regions must touch to be neighbours in a pattern."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """A label map with what the joining rules need; row r of every table is label r + 1."""

    labels: NDArray[np.int64]
    """(height, width): 0 is background, labels count from 1, by descending area."""
    areas: NDArray[np.float64]
    """Pixels."""
    looks: NDArray[np.float64]
    """Mean appearance, (regions, channels); distances are in Lab units."""
    borders: NDArray[np.float64]
    """Pairs of neighbouring pixels (4-connected) of two regions, (regions, regions), without background."""

    @classmethod
    def of(cls, labels: Integer[ndarray, "height width"], picture: Float[ndarray, "height width channels"]) -> Regions:
        """Measure a label map and the appearance of its pixels: CIE Lab, and patch features if given.

        Labels are renumbered by descending area, equal areas in their old order.
        """
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        renumber = np.zeros(len(counts), dtype=np.int64)
        renumber[order] = np.arange(1, len(order) + 1)
        numbered = renumber[labels]
        areas = counts[order].astype(np.float64)
        channels = picture.reshape(-1, picture.shape[-1]).T
        sums = [np.bincount(numbered.ravel(), channel, minlength=len(order) + 1)[1:] for channel in channels]
        return cls(numbered, areas, np.stack(sums, axis=1) / areas[:, None], _borders(numbered, len(order)))

    def joined(self, pairs: Iterable[tuple[int, int]]) -> Regions:
        """The regions after joining these pairs of rows and everything that they connect."""
        ends = np.asarray(list(pairs), dtype=np.int64).reshape(-1, 2)
        if not len(ends):
            return self
        count = len(self.areas)
        graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
        found, groups = connected_components(graph, directed=False)
        members = (groups == np.arange(found)[:, None]).astype(np.float64)
        order = np.argsort(-(members @ self.areas), kind="stable")
        members = members[order]
        areas, sums = members @ self.areas, members @ (self.looks * self.areas[:, None])
        borders = members @ self.borders @ members.T
        np.fill_diagonal(borders, 0)
        return Regions(
            np.concatenate([[0], 1 + order.argsort()[groups]])[self.labels], areas, sums / areas[:, None], borders
        )

    def at_most(self, limit: int) -> Regions:
        """Merge the pair with the lowest cost, |A||B| / (|A| + |B|) · distance(looks)^2 (Ward), until `limit` are left.

        Neighbours come first; regions that do not touch are merged only if no neighbours are left.
        """
        regions = self
        while len(regions.areas) > limit:
            areas, looks = regions.areas, regions.looks
            squared = ((looks[:, None] - looks[None]) ** 2).sum(axis=-1)
            costs = areas[:, None] * areas[None] / (areas[:, None] + areas[None]) * squared
            apart = regions.borders == 0
            costs = np.where(apart & ~apart.all(), np.inf, costs)
            np.fill_diagonal(costs, np.inf)
            one, other = divmod(int(costs.argmin()), len(areas))
            regions = regions.joined([(one, other)])
        return regions


def merge_closest(
    points: Float[ndarray, "points dim"], mass: Float[ndarray, " points"], *, distance: float
) -> NDArray[np.int64]:
    """Cluster points: merge the two closest centres of mass until the closest are `distance` apart.

    Returns:
        For each point the number of its cluster: the position of its first member.
    """
    centres, mass = points.astype(np.float64), np.maximum(mass.astype(np.float64), np.finfo(np.float64).tiny)
    family = np.arange(len(points))
    apart = ((centres[:, None] - centres[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(apart, np.inf)
    while len(points) > 1:
        kept, gone = sorted(divmod(int(apart.argmin()), len(points)))
        if not apart[kept, gone] < distance**2:
            break
        total = mass[kept] + mass[gone]
        centres[kept] = (centres[kept] * mass[kept] + centres[gone] * mass[gone]) / total
        mass[kept] = total
        family[family == gone] = kept
        apart[gone] = apart[:, gone] = np.inf
        fresh = ((centres - centres[kept]) ** 2).sum(axis=-1)
        fresh[np.isinf(apart[kept])] = np.inf
        apart[kept] = apart[:, kept] = fresh
    return family


def join_patterns(regions: Regions) -> Regions:
    """Join the two colours of a pattern: five or more alternating pieces (stripes, checks), four or more spots."""
    families = merge_closest(regions.looks, regions.areas, distance=ALIKE_LOOKS)
    kinds = [np.flatnonzero(families == family) for family in np.unique(families)]
    pairs: list[tuple[int, int]] = []
    for first, one in enumerate(kinds):
        for second, other in enumerate(kinds):
            if first != second:
                pairs += _spots(regions, one, other)
            if first < second:
                pairs += _stripes(regions, one, other)
    return regions.joined(pairs)


def join_alike(regions: Regions) -> Regions:
    """Join pieces that are apart but similar in appearance and size: two ears, four wheels."""
    apart = np.linalg.norm(regions.looks[:, None] - regions.looks[None], axis=-1)
    ratio = np.maximum(regions.areas[:, None] / regions.areas[None], regions.areas[None] / regions.areas[:, None])
    alike = (apart < ALIKE_LOOKS) & (ratio < ALIKE_SIZE) & (regions.borders == 0)
    rows, columns = np.nonzero(np.triu(alike, k=1))
    return regions.joined(zip(rows.tolist(), columns.tolist(), strict=True))


def _spots(regions: Regions, spots: NDArray[np.intp], grounds: NDArray[np.intp]) -> list[tuple[int, int]]:
    whole = np.maximum(regions.borders.sum(axis=1), 1)
    pairs: list[tuple[int, int]] = []
    for ground in grounds.tolist():
        enclosed = regions.borders[spots, ground] >= SPOT_BORDER * whole[spots]
        found = spots[enclosed & (regions.areas[spots] < SPOT_AREA * regions.areas[ground])]
        if len(found) >= SPOTS:
            pairs += [(spot, ground) for spot in found.tolist()]
    return pairs


def _stripes(regions: Regions, one: NDArray[np.intp], other: NDArray[np.intp]) -> list[tuple[int, int]]:
    if min(len(one), len(other)) < 2 or len(one) + len(other) < PATTERN_PIECES:
        return []
    whole = np.maximum(regions.borders.sum(axis=1), 1)
    between = regions.borders[np.ix_(one, other)]
    ones = one[between.sum(axis=1) >= PATTERN_BORDER * whole[one]]
    others = other[between.sum(axis=0) >= PATTERN_BORDER * whole[other]]
    pieces = np.concatenate([ones, others])
    touching = np.zeros((len(pieces), len(pieces)), dtype=bool)
    touching[: len(ones), len(ones) :] = regions.borders[np.ix_(ones, others)] >= TOUCH
    found, groups = connected_components(touching, directed=False)
    pairs: list[tuple[int, int]] = []
    for group in range(found):
        members = np.flatnonzero(groups == group)
        areas = regions.areas[pieces[members]]
        members = members[areas <= ALIKE_SIZE * np.median(areas)]
        first = int((members < len(ones)).sum())
        if min(first, len(members) - first) >= 2 and len(members) >= PATTERN_PIECES:
            chain = pieces[members].tolist()
            pairs += [(chain[0], piece) for piece in chain[1:]]
    return pairs


def _borders(labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sides = [(labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])]
    codes = np.concatenate([(a * (count + 1) + b).ravel() for a, b in sides])
    table = np.bincount(codes, minlength=(count + 1) ** 2).reshape(count + 1, count + 1)[1:, 1:]
    shared = (table + table.T).astype(np.float64)
    np.fill_diagonal(shared, 0)
    return shared
