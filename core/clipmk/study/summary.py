"""Rows of the tables `models` and `classes`: means and intervals over the images of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmk.concepts.statistics import Estimate, mean, mean_interval, wilson
from clipmk.records import ModelInfo
from clipmk.study.measures import UNKNOWN, Integers, Measures
from clipmk.study.schema import TableRow

_WITH_INTERVAL: Final = ("mi_paper", "mi_textbook", "auc", "auc_unpadded")
_PLAIN: Final = ("chance_mi", "chance_auc", "above_chance", "part_count", "vision_count", "mutual_count")
_SPLIT: Final = ("mi_paper", "auc", "mutual_count")
_CLASS: Final = ("mi_paper", "auc", "mutual_count")


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """A model, a part method (or their mean), and what was measured on every image."""

    model: ModelInfo
    parts: str
    measures: Measures


def model_row(measured: MeasuredModel, *, vocabulary_size: int) -> TableRow:
    """The row of the table `models`; means are over explained images."""
    found = measured.measures.at(measured.measures["explained"])
    labelled = ~np.isnan(found["correct"])
    right, wrong = found["correct"] == 1, found["correct"] == 0
    count, known = len(found), int(labelled.sum())
    row = _identity(measured) | {
        "images": count,
        "failed": len(measured.measures) - count,
        "labelled": known,
        "top5": int((found["label_rank"][labelled] <= 5).sum()) / known if known else None,
        "curve": [mean(column) or 0.0 for column in found["curve"].T] if count else None,
        "chance_curve": found.mean_chance_curve(vocabulary_size).tolist() if count else None,
    }
    row |= _with_interval("top1", wilson(int(right.sum()), known))
    for name in _WITH_INTERVAL:
        row |= _with_interval(name, mean_interval(found[name]))
    row |= {name: mean(found[name]) for name in _PLAIN}
    for kind, chosen in (("right", right), ("wrong", wrong)):
        for name in _SPLIT:
            row |= _with_interval(f"{name}_{kind}", mean_interval(found[name][chosen]))
    return row


def class_rows(measured: MeasuredModel, classes: Sequence[str]) -> list[TableRow]:
    """The rows of the table `classes`, by name; a class whose images all failed has a row without numbers.

    Args:
        measured: with codes of `classes`.
        classes: name of every code.
    """
    present = set(measured.measures["label"].tolist()) - {UNKNOWN}
    found = measured.measures.at(measured.measures["explained"])
    order = np.argsort(found["label"], kind="stable")
    labels = found["label"][order]
    rows = []
    for code in sorted(present, key=lambda code: classes[code]):
        start, end = np.searchsorted(labels, (code, code + 1))
        images = found.at(order[start:end])
        correct = images["correct"]
        rows.append(
            {
                "model": measured.model.id,
                "parts": measured.parts,
                "class": classes[code],
                "images": len(images),
                "top1": int((correct == 1).sum()) / len(images) if len(images) else None,
                "confused_with": _most_frequent(images["predicted"][correct == 0], classes),
                **{name: mean(images[name]) for name in _CLASS},
            }
        )
    return rows


def _most_frequent(predicted: Integers, classes: Sequence[str]) -> str | None:
    """The most frequent of some predictions; the first by name on a tie."""
    codes, counts = np.unique(predicted, return_counts=True)
    ranked = sorted((-count, classes[code]) for code, count in zip(codes.tolist(), counts.tolist(), strict=True))
    return ranked[0][1] if ranked else None


def _identity(measured: MeasuredModel) -> TableRow:
    same = ("family", "architecture", "pretrained", "weights_sha256", "input_size")
    about = {name: getattr(measured.model, name) for name in same}
    return {"model": measured.model.id, **about, "parts": measured.parts}


def _with_interval(name: str, estimate: Estimate) -> TableRow:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
