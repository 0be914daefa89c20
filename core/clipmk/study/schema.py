"""The columns of everything a study writes, as Apache Arrow schemas: the contract between engine, tables and report.

A study folder:

    study.json                        the manifest: dataset, models, settings, versions, hashes (see `manifest`)
    plan.parquet                      one row per image (PLAN)
    language/<model>.parquet          D_y of every class, per model (LANGUAGE)
    shards/<model>/00000.parquet      one row per image and part method (IMAGE), one file per unit of work
    tables/models.parquet, .csv       one row per model and part method (MODELS)
    tables/classes.parquet, .csv      one row per model, part method and true class (CLASSES)
    tables/concepts.parquet           one row per model, part method and descriptor (CONCEPTS)
    tables/asked.parquet              one row per model and text of one's own (ASKED); only where there are texts
    tables/images.parquet             all shards in the order of the plan, model by model (IMAGE)
    report/                           index.html and PNG files, written by `clipmk study report`

`<model>` is the model's id made safe for a file name (see `paths.file_name`). A column that does not apply is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

TableRow = dict[str, Any]
"""A value (or None) per column of a schema."""

MEAN = "mean"
"""In the column `parts`: the mean over a model's part methods (the paper plots that of PCA and k-means)."""

PLAN = pa.schema([
    ("image", pa.int64()),  # 0-based position in the dataset
    ("key", pa.string()),  # its name in the dataset
    ("label", pa.string()),  # true class as the vocabulary spells it; null: unknown
    ("path", pa.string()),  # file that holds it, below the dataset's root; null: rendered
    ("offset", pa.int64()),  # of its bytes in a tar file; null: the whole file
    ("size", pa.int64()),  # bytes at the offset
    ("group", pa.int64()),  # images whose parts are found together
    ("shard", pa.int64()),  # unit of work
])  # fmt: skip

LANGUAGE = pa.schema([
    ("class", pa.string()),
    ("rank", pa.int32()),  # 1-based
    ("descriptor", pa.string()),
    ("cosine", pa.float64()),  # between the class embedding and the templated descriptor
])  # fmt: skip

IMAGE = pa.schema([
    ("image", pa.int64()),
    ("key", pa.string()),
    ("label", pa.string()),
    ("model", pa.string()),
    ("parts", pa.string()),  # how parts were found: "superpixels", "kmeans" or "pca"
    ("error", pa.string()),  # why there is no explanation; then everything below is null
    ("predicted", pa.string()),
    ("correct", pa.bool_()),  # null: the label is unknown
    ("label_rank", pa.int32()),  # 1-based rank of the true class
    ("probability", pa.float64()),  # of the predicted class
    ("label_probability", pa.float64()),  # of the true class
    ("part_count", pa.int32()),
    ("vision_count", pa.int32()),  # L_v
    ("language_count", pa.int32()),  # L_T
    ("mutual_count", pa.int32()),  # m
    ("mi_paper", pa.float64()),
    ("mi_textbook", pa.float64()),
    ("auc", pa.float64()),  # padded to 3L + 1 points
    ("auc_unpadded", pa.float64()),
    ("chance_mi", pa.float64()),
    ("chance_auc", pa.float64()),
    ("p_value", pa.float64()),
    ("curve", pa.list_(pa.float64())),  # the L_v + 1 points of its own
    ("vision_concepts", pa.list_(pa.string())),  # D_v, most important first
    ("importance", pa.list_(pa.float64())),
    ("mutual", pa.list_(pa.bool_())),  # for each vision concept
    ("warnings", pa.list_(pa.string())),
])  # fmt: skip

ASKED_IMAGE = pa.schema([
    *IMAGE,
    # one value for each text of the manifest's `asks`; the same for every part method
    ("asked_p_values", pa.list_(pa.float64())),  # of its cosine with the image among the vocabulary's
    ("asked_seen", pa.list_(pa.bool_())),  # p at most `concepts.relevance.SEEN_LEVEL`
    ("asked_ranks", pa.list_(pa.int32())),  # of its cosine with the predicted class, among the vocabulary's
    ("asked_tied", pa.list_(pa.bool_())),  # rank within D_y
])  # fmt: skip


def image_schema(asks: Sequence[str]) -> pa.Schema:
    """`IMAGE`, or `ASKED_IMAGE` where images are asked for texts."""
    return ASKED_IMAGE if asks else IMAGE


WITH_INTERVAL = ("mi_paper", "mi_textbook", "auc", "auc_unpadded")
SPLIT = ("mi_paper", "auc", "mutual_count")
_INTERVAL = ("", "_low", "_high")

MODELS = pa.schema([
    ("model", pa.string()),
    ("family", pa.string()),
    ("architecture", pa.string()),
    ("pretrained", pa.string()),
    ("weights_sha256", pa.string()),
    ("input_size", pa.int32()),
    ("parts", pa.string()),  # a part method, or MEAN where there are several
    ("images", pa.int64()),  # explained
    ("failed", pa.int64()),  # with an error
    ("labelled", pa.int64()),  # explained and with a known label
    ("top1", pa.float64()),
    ("top1_low", pa.float64()),  # 95 % interval over images (Wilson)
    ("top1_high", pa.float64()),
    ("top5", pa.float64()),
    # mean over images and its 95 % normal interval
    *((f"{name}{end}", pa.float64()) for name in WITH_INTERVAL for end in _INTERVAL),
    ("chance_mi", pa.float64()),
    ("chance_auc", pa.float64()),
    ("above_chance", pa.float64()),  # share of images with p < 0.05
    ("part_count", pa.float64()),
    ("vision_count", pa.float64()),
    ("mutual_count", pa.float64()),
    ("curve", pa.list_(pa.float64())),  # 3L + 1 points: curves padded with zeros, averaged point by point
    ("chance_curve", pa.list_(pa.float64())),  # the same for random concepts of the same numbers
    # the same over images predicted right, and over those predicted wrong
    *((f"{name}_{kind}{end}", pa.float64()) for name in SPLIT for kind in ("right", "wrong") for end in _INTERVAL),
])  # fmt: skip

CLASSES = pa.schema([
    ("model", pa.string()),
    ("parts", pa.string()),
    ("class", pa.string()),  # true class
    ("images", pa.int64()),
    ("top1", pa.float64()),
    ("mi_paper", pa.float64()),
    ("auc", pa.float64()),
    ("mutual_count", pa.float64()),
    ("confused_with", pa.string()),  # the most frequent wrong prediction; null: none
])  # fmt: skip

CONCEPTS = pa.schema([
    ("model", pa.string()),
    ("parts", pa.string()),
    ("descriptor", pa.string()),
    ("seen", pa.int64()),  # images whose D_v holds it
    ("tied", pa.int64()),  # images whose predicted class's D_y holds it
    ("mutual", pa.int64()),  # both
    ("missed", pa.int64()),  # tied but not seen
    ("mutual_right", pa.int64()),  # mutual, among images predicted right
    ("mutual_wrong", pa.int64()),
])  # fmt: skip

ASKED = pa.schema([
    ("model", pa.string()),
    ("text", pa.string()),
    ("images", pa.int64()),  # explained
    ("seen", pa.float64()),  # share of them in which it is seen
    ("seen_low", pa.float64()),  # 95 % interval over images (Wilson)
    ("seen_high", pa.float64()),
    ("seen_by_chance", pa.float64()),  # of the descriptors of the vocabulary, the share that counts as seen
    ("tied", pa.float64()),  # share of images whose predicted class it is tied to
    ("tied_by_chance", pa.float64()),  # of the descriptors, the share that is tied
    ("mutual", pa.float64()),  # share of images with both
])  # fmt: skip
