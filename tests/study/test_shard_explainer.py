"""Explaining many images at once against explaining them one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedded
from clipmk.concepts.selection import language_concepts
from clipmk.concepts.superpixels import WORK_SIDE
from clipmk.explanation import Explanation
from clipmk.images.decoder import Picture, read_picture
from clipmk.pipeline.builder import ExplanationBuilder
from clipmk.pipeline.encoder import BatchEncoder, batch_slices
from clipmk.pipeline.segmentation import part_variants
from clipmk.settings import Settings
from clipmk.study.schema import TableRow
from clipmk.study.shard_worker import ShardExplainer
from clipmk.vocabulary.embeddings import load_bank


@pytest.fixture(scope="module")
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def explainer_of(
    workers: ThreadPoolExecutor, settings: Settings, *part_methods: str, batch_size: int = 4
) -> ShardExplainer:
    explainer = embedded.explainer()
    bank = load_bank(explainer.backbone, explainer.vocabulary, cache=False)
    return ShardExplainer(
        BatchEncoder(explainer.backbone, part_variants(settings, part_methods), batch_size, workers),
        ExplanationBuilder(explainer.backbone, explainer.vocabulary, bank, settings),
    )


def rows_of(
    explainer: ShardExplainer, squares: Any, groups: Sequence[int], labels: Sequence[str | None]
) -> list[list[TableRow]]:
    return [
        rows.result() for batch in explainer.explain(squares, groups, labels, copies(len(groups))) for rows in batch
    ]


def pictures(count: int) -> list[Picture]:
    return [read_picture(scene.image) for scene in embedded.scenes(count=6)[:count]]


def squares(count: int) -> Any:
    return np.stack([embedded.explainer().square(picture) for picture in pictures(count)])


def copies(count: int) -> list[Any]:
    return [embedded.explainer().builder.squares(picture)[1] for picture in pictures(count)]


def test_only_a_model_as_wide_as_the_working_copy_has_one_of_its_own() -> None:
    builder, (picture,) = embedded.explainer().builder, pictures(1)
    info = dataclasses.replace(builder.backbone.info, input_size=WORK_SIDE)
    wide: Any = SimpleNamespace(info=info, preprocessing=builder.backbone.preprocessing)
    shared = builder.working_copy(picture)
    square, copy = dataclasses.replace(builder, backbone=wide).squares(picture, lambda: shared)
    assert copy is not shared
    assert copy.pixels is square
    assert builder.squares(picture, lambda: shared)[1] is shared


def assert_says(row: TableRow, one: Explanation) -> None:
    """A row has the values of an explanation."""
    assert row["predicted"] == one.predictions[0].class_name == one.class_name
    assert row["probability"] == pytest.approx(one.predictions[0].probability, abs=1e-5)
    assert row["part_count"] == len(one.parts)
    assert row["vision_concepts"] == [concept.text for concept in one.vision_concepts]
    assert row["importance"] == pytest.approx([concept.importance for concept in one.vision_concepts], abs=1e-4)
    assert row["mutual"] == [concept.mutual for concept in one.vision_concepts]
    assert (row["vision_count"], row["language_count"]) == (len(one.vision_concepts), len(one.language_concepts))
    assert row["curve"] == list(one.mutual.curve)
    for name in ("mi_paper", "mi_textbook", "auc", "auc_unpadded", "p_value"):
        assert row[name] == getattr(one.mutual, name)
    assert (row["mutual_count"], row["chance_mi"], row["chance_auc"]) == (
        one.mutual.count,
        one.mutual.chance.mi_paper,
        one.mutual.chance.auc,
    )
    assert row["warnings"] == list(one.warnings)


def test_a_batch_gives_each_image_the_results_of_its_own_explanation(workers: ThreadPoolExecutor) -> None:
    explainer = embedded.explainer()
    made = explainer_of(workers, explainer.settings, "superpixels")
    batches = list(made.explain(squares(6), [0, 1, 2, 3, 4, 5], [None] * 6, copies(6)))
    rows = [one.result() for batch in batches for one in batch]
    expected = explainer.explain(pictures(6))
    assert [len(own) for own in rows] == [1] * 6
    for (row,), one in zip(rows, expected, strict=True):
        assert_says(row, one)
        assert (row["correct"], row["label_rank"], row["label_probability"]) == (None, None, None)
        first, second, *_ = one.predictions
        assert row["margin"] == pytest.approx(first.probability - second.probability, abs=1e-5)
    assert [len(batch) for batch in batches] == [4, 2]


@pytest.mark.parametrize("parts", ["kmeans", "pca"])
def test_groups_are_fitted_together_as_the_explainer_fits_them(workers: ThreadPoolExecutor, parts: str) -> None:
    together = embedded.explainer("paper", parts=parts, fit="batch")
    made = explainer_of(workers, together.settings, "kmeans", "pca", batch_size=7)
    rows = rows_of(made, squares(5), [0, 0, 0, 1, 1], [None] * 5)
    expected = together.explain(pictures(3)) + together.explain(pictures(5)[3:])
    for own, one in zip(rows, expected, strict=True):
        assert [row["parts"] for row in own] == ["kmeans", "pca"]
        assert_says(next(row for row in own if row["parts"] == parts), one)


def test_the_batch_size_changes_nothing_but_rounding(workers: ThreadPoolExecutor) -> None:
    settings = embedded.explainer("paper").settings
    one = explainer_of(workers, settings, "kmeans", batch_size=1)
    many = explainer_of(workers, settings, "kmeans", batch_size=64)
    arguments = (squares(3), [0, 1, 2], [None] * 3)
    for (left,), (right,) in zip(rows_of(one, *arguments), rows_of(many, *arguments), strict=True):
        assert left["vision_concepts"] == right["vision_concepts"]
        assert left["importance"] == pytest.approx(right["importance"], abs=1e-4)


def test_the_rank_of_the_true_class_counts_those_before_it(workers: ThreadPoolExecutor) -> None:
    explainer = embedded.explainer()
    one = explainer.explain(pictures(1))[0]
    made = explainer_of(workers, explainer.settings, "superpixels")
    for prediction in one.predictions:
        ((row,),) = rows_of(made, squares(1), [0], [prediction.class_name])
        assert row["label_rank"] == prediction.rank
        assert row["correct"] is (prediction.rank == 1)
        assert row["label_probability"] == pytest.approx(prediction.probability, abs=1e-5)


def test_language_concepts_are_those_of_the_class(workers: ThreadPoolExecutor) -> None:
    made = explainer_of(workers, embedded.explainer().settings, "superpixels").builder
    for number in (0, 7):
        found = made.language(number).indices.tolist()
        expected = language_concepts(made.bank.classes[number], made.bank.descriptors, count=len(found))
        assert found == expected.indices.tolist()
        assert len(found) == embedded.explainer().builder.language_count
        assert made.language(number) is made.language(number)  # looked up once


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 20))
def test_batches_are_runs_of_whole_groups(sizes: list[int], size: int) -> None:
    groups = [number for number, count in enumerate(sizes) for _ in range(count)]
    found = list(batch_slices(groups, size))
    assert [index for block in found for index in range(block.start, block.stop)] == list(range(len(groups)))
    for block in found:
        assert block.stop == len(groups) or groups[block.stop - 1] != groups[block.stop]
        assert block.stop - block.start < size + 9
    assert all(block.stop - block.start >= size for block in found[:-1])
