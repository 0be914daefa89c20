"""Rows of the tables `models` and `classes`: what the images of one model say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.statistics import Estimate, mean, mean_interval, wilson
from clipmk.records import ModelInfo
from clipmk.study.measures import UNKNOWN, Integers, Measures

Row = dict[str, Any]
"""A value per column of a schema."""

_WITH_INTERVAL: Final = ("mi_paper", "mi_textbook", "auc", "auc_unpadded")
_PLAIN: Final = ("chance_mi", "chance_auc", "above_chance", "part_count", "vision_count", "mutual_count")
_SPLIT: Final = ("mi_paper", "auc", "mutual_count")
_CLASS: Final = ("mi_paper", "auc", "mutual_count")


@dataclass(frozen=True, slots=True)
class Way:
    """A row's identity and its images."""

    model: ModelInfo
    parts: str
    measures: Measures


def model_row(way: Way, *, vocabulary_size: int) -> Row:
    """The row of the table `models`; means are over explained images."""
    found = way.measures.at(way.measures.explained)
    labelled = ~np.isnan(found.correct)
    right, wrong = found.correct == 1, found.correct == 0
    count, known = len(found.image), int(labelled.sum())
    row = _identity(way) | {
        "images": count,
        "failed": len(way.measures.image) - count,
        "labelled": known,
        "top5": int((found.label_rank[labelled] <= 5).sum()) / known if known else None,
        "curve": _mean_curve(found) if count else None,
        "chance_curve": found.mean_chance_curve(vocabulary_size).tolist() if count else None,
    }
    row |= _spread("top1", wilson(int(right.sum()), known))
    for name in _WITH_INTERVAL:
        row |= _spread(name, mean_interval(found.values[name]))
    row |= {name: mean(found.values[name]) for name in _PLAIN}
    for kind, chosen in (("right", right), ("wrong", wrong)):
        for name in _SPLIT:
            row |= _spread(f"{name}_{kind}", mean_interval(found.values[name][chosen]))
    return row


def class_rows(way: Way, classes: Sequence[str]) -> list[Row]:
    """The rows of the table `classes`, by name; a class whose images all failed has a row without numbers.

    Args:
        way: with codes of `classes`.
        classes: name of every code.
    """
    present = set(way.measures.label.tolist()) - {UNKNOWN}
    found = way.measures.at(way.measures.explained)
    order = np.argsort(found.label, kind="stable")
    labels = found.label[order]
    rows = []
    for code in sorted(present, key=lambda code: classes[code]):
        start, end = np.searchsorted(labels, (code, code + 1))
        rows.append(_class_row(way, found.at(order[start:end]), code, classes))
    return rows


def _class_row(way: Way, found: Measures, code: int, classes: Sequence[str]) -> Row:
    count = len(found.image)
    return {
        "model": way.model.id,
        "parts": way.parts,
        "class": classes[code],
        "images": count,
        "top1": int((found.correct == 1).sum()) / count if count else None,
        "confused_with": _confused(found.predicted[found.correct == 0], classes),
        **{name: mean(found.values[name]) for name in _CLASS},
    }


def _confused(predicted: Integers, classes: Sequence[str]) -> str | None:
    """The most frequent of some predictions; the first by name on a tie."""
    codes, counts = np.unique(predicted, return_counts=True)
    ranked = sorted((-count, classes[code]) for code, count in zip(codes.tolist(), counts.tolist(), strict=True))
    return ranked[0][1] if ranked else None


def _identity(way: Way) -> Row:
    model = way.model
    return {
        "model": model.id,
        "family": model.family,
        "architecture": model.architecture,
        "pretrained": model.pretrained,
        "weights_sha256": model.weights_sha256,
        "input_size": model.input_size,
        "parts": way.parts,
    }


def _spread(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _mean_curve(found: Measures) -> list[float]:
    columns: NDArray[np.float64] = found.curves.T
    return [mean(column) or 0.0 for column in columns]
