"""Regions of an image as a graph, and the rules by which several of them form one part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Float, Integer
    from numpy import ndarray

ALIKE_LOOKS = 14.0  # regions closer than this (Lab units) look similar
ALIKE_SIZE = 2.5  # pieces of one kind differ in area by at most this factor
PATTERN_PIECES = 5
"""Stripes or squares of both colours together that form a pattern: fewer are two parts side by side."""
PATTERN_BORDER = 0.5  # share of a stripe's border to other regions that is with the other colour
SPOTS = 4  # spots that form a pattern: fewer are eyes, windows, buttons
SPOT_BORDER = 0.6  # share of a spot's border to other regions that is with its ground
SPOT_AREA = 0.12  # largest spot, as a share of its ground
TOUCH = 2  # pixel pairs along which two regions must touch to be neighbours in a pattern


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
    def of(
        cls, labels: Integer[ndarray, "height width"], *pictures: Float[ndarray, "height width channels"]
    ) -> Regions:
        """Measure a label map and the mean of each picture (CIE Lab, patch features); renumbered by descending area."""
        flat = labels.ravel()
        # Summing runs of one label first takes a fifth of the time.
        starts = np.concatenate([[0], 1 + np.flatnonzero(flat[1:] != flat[:-1])])
        counts = np.bincount(flat[starts], np.diff(starts, append=flat.size))
        counts[0] = 0
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        renumber = np.zeros(len(counts), dtype=np.int64)
        renumber[order] = np.arange(1, len(order) + 1)
        numbered, areas, runs = renumber.take(labels), counts[order].astype(np.float64), renumber[flat[starts]]
        channels = np.concatenate([np.add.reduceat(p.reshape(flat.size, -1), starts).T for p in pictures])
        sums = [np.bincount(runs, channel, minlength=len(order) + 1)[1:] for channel in channels]
        return cls(numbered, areas, np.stack(sums, axis=1) / areas[:, None], _borders(numbered, len(order)))

    def joined(self, pairs: Iterable[tuple[int, int]]) -> Regions:
        """The regions after joining these pairs of rows and everything that they connect."""
        groups = _groups(len(self.areas), pairs)
        if groups[-1] == len(groups) - 1:
            return self
        members = (groups == np.arange(groups.max() + 1)[:, None]).astype(np.float64)
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
    """For each point the first of its cluster: the two closest centres of mass merge until `distance` apart."""
    masses = np.maximum(mass.astype(np.float64), np.finfo(np.float64).tiny).tolist()
    family, apart = np.arange(len(points)), ((points[:, None] - points) ** 2.0).sum(axis=-1, dtype=np.float64)
    np.fill_diagonal(apart, np.inf)
    merged: list[tuple[int, int]] = []
    while len(points) > 1:
        kept, gone = divmod(int(apart.argmin()), len(points))  # of equals the first, so kept < gone
        least, one, other = float(apart[kept, gone]), masses[kept], masses[gone]
        if not least < distance**2:
            break
        masses[kept] = total = one + other
        merged.append((kept, gone))
        moved = (one * apart[kept] + other * apart[gone] - one * other / total * least) / total
        apart[kept] = apart[:, kept] = moved
        apart[gone] = apart[:, gone] = np.inf
    for kept, gone in reversed(merged):
        family[gone] = family[kept]
    return family


def join_patterns(regions: Regions) -> Regions:
    """Join the two colours of a pattern: five or more alternating pieces (stripes, checks), four or more spots."""
    families = merge_closest(regions.looks, regions.areas, distance=ALIKE_LOOKS)
    kinds = [np.flatnonzero(families == family) for family in np.unique(families)]
    pairs: list[tuple[int, int]] = []
    for first, one in enumerate(kinds):
        for second, other in enumerate(kinds):
            if first != second and len(one) >= SPOTS:
                pairs += _spots(regions, one, other)
            if first < second and min(len(one), len(other)) > 1 and len(one) + len(other) >= PATTERN_PIECES:
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
    whole = np.maximum(regions.borders.sum(axis=1), 1)
    between = regions.borders[np.ix_(one, other)]
    ones = one[between.sum(axis=1) >= PATTERN_BORDER * whole[one]]
    others = other[between.sum(axis=0) >= PATTERN_BORDER * whole[other]]
    pieces = np.concatenate([ones, others])
    if min(len(ones), len(others)) < 2 or len(pieces) < PATTERN_PIECES:
        return []
    touching = np.argwhere(regions.borders[np.ix_(ones, others)] >= TOUCH) + np.array([0, len(ones)])
    groups = _groups(len(pieces), touching.tolist())
    pairs: list[tuple[int, int]] = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        areas = regions.areas[pieces[members]]
        members = members[areas <= ALIKE_SIZE * np.median(areas)]
        first = int((members < len(ones)).sum())
        if min(first, len(members) - first) >= 2 and len(members) >= PATTERN_PIECES:
            chain = pieces[members].tolist()
            pairs += [(chain[0], piece) for piece in chain[1:]]
    return pairs


def _groups(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Number of the group of each of `count` members, from 0 in the order of the first ones; pairs are of one group."""
    groups = list(range(count))
    for pair in pairs:
        kept, gone = sorted(groups[member] for member in pair)
        if kept != gone:
            groups = [kept if group == gone else group for group in groups]
    return np.unique(groups, return_inverse=True)[1]


def _borders(labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sides = [(labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])]
    codes = np.concatenate([a[apart] * (count + 1) + b[apart] for a, b in sides for apart in [a != b]])
    table = np.bincount(codes, minlength=(count + 1) ** 2).reshape(count + 1, count + 1)[1:, 1:]
    return (table + table.T).astype(np.float64)
