"""The numeric columns of one model's images, and their means as rows of the tables `models` and `classes`."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmk.concepts.mutual import chance_curve
from clipmk.concepts.statistics import Estimate, mean, mean_interval, wilson
from clipmk.records import ModelInfo
from clipmk.study.schema import BEHIND, SPLIT, WITH_INTERVAL, TableRow

ImageColumns = NDArray[np.void]
"""One part method (or the mean of several) on n images, failed ones included, sorted by image; see `_dtype`."""

UNKNOWN: Final = -1  # code of a class that is not known
SIGNIFICANT: Final = 0.05

_PREDICTION: Final = ("correct", "label_rank")
_INTERVALS: Final = (*WITH_INTERVAL, "mutual_count")
_SCORES: Final = ("margin", "class_swap_p")
_COUNTS: Final = ("chance_mi", "chance_auc", "part_count", "vision_count", "language_count")
_BELOW: Final = ("above_chance", "class_swap_below", "image_swap_below")
"""By random draw, class swap and image swap; see `below`."""


def _dtype(points: int, methods: int) -> np.dtype[np.void]:
    """Fields of `ImageColumns`; NaN: unknown."""
    return np.dtype(
        [
            ("image", np.int64),
            ("group", np.int64),  # images that were fitted together
            ("explained", np.bool_),
            ("label", np.int64),  # a code, as is the prediction
            ("predicted", np.int64),
            *((name, np.float64) for name in (*_PREDICTION, *_SCORES, *_INTERVALS, *_COUNTS, *_BELOW)),
            ("beats_all", np.float64),  # 1 or 0; NaN: there is a single class
            ("curve", np.float64, (points,)),  # padded with zeros to 3L + 1 points
            ("sizes", np.int64, (methods, 2)),  # L_v and L_T under each part method
        ]
    )


def image_columns(
    rows: pa.Table, codes: dict[str, int], groups: NDArray[np.int64], *, points: int, compared: int
) -> ImageColumns:
    """The numbers in a shard's rows (`schema.images_schema`) of one part method; new classes are added to `codes`.

    `groups` are those of every image of the dataset, `compared` the number of classes of the class swap. ValueError if
    a curve has more than `points` (3L + 1) points.
    """
    rows = rows.sort_by("image")
    found = np.zeros(rows.num_rows, _dtype(points, 1))
    found["image"] = rows.column("image").to_numpy()
    found["group"] = groups[found["image"]]
    found["explained"] = rows.column("error").is_null().to_numpy()
    for name in ("label", "predicted"):
        found[name] = encode(rows.column(name), codes)
    for name in (*_PREDICTION, *_SCORES, *_INTERVALS, *_COUNTS):
        found[name] = _floats(rows, name)
    found["above_chance"] = _floats(rows, "p_value") < SIGNIFICANT
    found["class_swap_below"] = below(found["class_swap_p"], compared)
    at_least = _floats(rows, "class_swap_at_least")
    found["beats_all"] = np.where(np.isnan(at_least), at_least, at_least == 0)
    for column, name in enumerate(("vision_count", "language_count")):
        found["sizes"][:, 0, column] = np.nan_to_num(_floats(rows, name))
    curves = rows.column("curve").combine_chunks()
    lengths = pc.list_value_length(curves).fill_null(0).to_numpy(zero_copy_only=False)
    if lengths.max(initial=0) > points:
        raise ValueError(f"a curve of {lengths.max()} points does not fit into {points}")
    found["curve"][np.arange(points) < lengths[:, None]] = curves.flatten().to_numpy(zero_copy_only=False)
    return found


def below(p: NDArray[np.float64], compared: int | NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """1 where p < 0.05, else 0; NaN where it cannot be, as its floor is one over what is `compared`."""
    return np.where(SIGNIFICANT * compared > 1, p < SIGNIFICANT, np.nan)


def mean_of_methods(methods: Sequence[ImageColumns]) -> ImageColumns:
    """The mean over the part methods, image by image; an image counts as explained if every method explained it.

    The prediction does not depend on the part method; the first one's is kept.
    """
    common = reduce(np.intersect1d, [one["image"] for one in methods])
    aligned = [one[np.searchsorted(one["image"], common)] for one in methods]
    found = np.empty(len(common), _dtype(aligned[0]["curve"].shape[1], len(aligned)))
    for name in ("image", "group", "label", "predicted", *_PREDICTION):
        found[name] = aligned[0][name]
    for name in (*_SCORES, *_INTERVALS, *_COUNTS, *_BELOW, "beats_all", "curve"):
        found[name] = np.mean([one[name] for one in aligned], axis=0)
    found["explained"] = np.all([one["explained"] for one in aligned], axis=0)
    found["sizes"] = np.concatenate([one["sizes"] for one in aligned], axis=1)
    return found


def model_row(model: ModelInfo, parts: str, measured: ImageColumns, *, vocabulary_size: int) -> TableRow:
    """The row of the table `models`, but for what needs other models; means are over explained images."""
    found = measured[measured["explained"]]
    labelled = ~np.isnan(found["correct"])
    right, wrong = found["correct"] == 1, found["correct"] == 0
    count, known = len(found), int(labelled.sum())
    about = ("family", "architecture", "pretrained", "weights_sha256", "input_size")
    row = {
        "model": model.id,
        **{name: getattr(model, name) for name in about},
        "parts": parts,
        "images": count,
        "failed": len(measured) - count,
        "vocabulary_size": vocabulary_size,
        "labelled": known,
        "top5": int((found["label_rank"][labelled] <= 5).sum()) / known if known else None,
        "curve": [mean(column) or 0.0 for column in found["curve"].T] if count else None,
        "chance_curve": _mean_chance_curve(found, vocabulary_size).tolist() if count else None,
        **{name: mean(found[name][~np.isnan(found[name])]) for name in (*_BELOW, *_COUNTS)},
        **with_interval("top1", wilson(int(right.sum()), known)),
        **with_interval("beats_all", _share(found["beats_all"], found["group"])),
    }
    for name in _INTERVALS:
        row |= with_interval(name, mean_interval(found[name], found["group"]))
    for kind, chosen in (("right", right), ("wrong", wrong)):
        for name in SPLIT:
            row |= with_interval(f"{name}_{kind}", mean_interval(found[name][chosen], found["group"][chosen]))
    return row


def behind(measured: ImageColumns, reference: ImageColumns) -> TableRow:
    """A model less another one of its family, image by image, over the images that both explained."""
    _, *places = np.intersect1d(measured["image"], reference["image"], return_indices=True)
    ours, theirs = measured[places[0]], reference[places[1]]
    row: TableRow = {}
    for column, name in BEHIND.items():
        differences = ours[name] - theirs[name]
        known = ours["explained"] & theirs["explained"] & ~np.isnan(differences)
        row |= with_interval(column, mean_interval(differences[known], ours["group"][known]))
    return row


def class_rows(about: TableRow, measured: ImageColumns, classes: Sequence[str]) -> list[TableRow]:
    """The rows of the table `classes`, by name; a class whose images all failed has a row without numbers.

    `about` are the columns that are the same in all rows: model, part method, |D|.
    """
    found = measured[measured["explained"]]
    order = np.argsort(found["label"], kind="stable")
    labels = found["label"][order]
    rows = []
    for code in sorted(set(measured["label"].tolist()) - {UNKNOWN}, key=lambda code: classes[code]):
        start, end = np.searchsorted(labels, (code, code + 1))
        images = found[order[start:end]]
        instead, counts = np.unique(images["predicted"][images["correct"] == 0], return_counts=True)
        by_count = sorted((-count, classes[one]) for one, count in zip(instead, counts, strict=True))
        rows.append(
            {
                **about,
                "class": classes[code],
                "images": len(images),
                "top1": int((images["correct"] == 1).sum()) / len(images) if len(images) else None,
                "confused_with": by_count[0][1] if by_count else None,  # of equals the first by name
                **{name: mean(images[name]) for name in (*SPLIT, "language_count")},
            }
        )
    return rows


def _mean_chance_curve(measured: ImageColumns, vocabulary_size: int) -> NDArray[np.float64]:
    """Expected curve of random concepts of the same numbers, padded with zeros, averaged over images and methods."""
    total = np.zeros(measured["curve"].shape[1])
    pairs, counts = np.unique(measured["sizes"].reshape(-1, 2), axis=0, return_counts=True)
    for (seen, tied), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        total[: seen + 1] += count * np.asarray(chance_curve(seen, tied, vocabulary_size))
    return total / max(1, int(counts.sum()))


def encode(column: pa.ChunkedArray, codes: dict[str, int]) -> NDArray[np.int64]:
    """Codes of a column of names, new names numbered in order of appearance; `UNKNOWN` for null."""
    encoded = column.combine_chunks().dictionary_encode()
    own = [codes.setdefault(name, len(codes)) for name in encoded.dictionary.to_pylist()]
    indices: NDArray[np.int64] = encoded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
    return np.array([*own, UNKNOWN], dtype=np.int64)[indices]


def _share(hits: NDArray[np.float64], groups: NDArray[np.int64]) -> Estimate:
    """A share and its interval: Wilson's of 0 and 1, normal for images that were fitted together or means of methods.

    The normal interval of values that are all equal has no width; there is none then.
    """
    if not len(hits) or np.isnan(hits).all():
        return Estimate(None)
    if len(np.unique(groups)) == len(groups) and np.isin(hits, (0, 1)).all():
        return wilson(int(hits.sum()), len(hits))
    return mean_interval(hits, groups) if np.ptp(hits) else Estimate(mean(hits))


def _floats(rows: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(rows.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)


def with_interval(name: str, estimate: Estimate) -> TableRow:
    """The three columns of an interval."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
