"""Encoding batches, and the threads beside the model."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

import embedded
from clipmk.backbones.base import Encoded
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch, fetch, one_thread, worker_threads
from clipmk.pipeline.segmentation import PartVariant, Segmentation, given_parts, part_variants

PATIENCE = 60.0
"""Seconds until a thread that waits for another gives up, instead of hanging forever."""


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("error", [None, KeyError("stop")])
def test_what_has_begun_is_waited_for_and_what_has_not_is_dropped(error: Exception | None) -> None:
    begun, dropped = threading.Event(), threading.Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        assert dropped.wait(PATIENCE)  # the one behind it is dropped while the block is being left
        with threadpool_limits(1, user_api="blas"):  # as k-means does
            ended.append("work")

    def leave() -> None:
        with worker_threads(1, 1) as (_, workers):
            workers.submit(work)
            pending = workers.submit(ended.append, "pending")
            pending.add_done_callback(lambda _: dropped.set())
            assert begun.wait(PATIENCE)
            if error is not None:
                raise error

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        if error is None:
            leave()
        else:
            with pytest.raises(KeyError):
                leave()
        assert ended == ["work"]
        assert blas_threads() == before


def assert_equal(found: list[EncodedImage], expected: list[EncodedImage]) -> None:
    """Bit for bit."""
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.embedding, other.embedding)
        for left, right in zip(one.segmentations, other.segmentations, strict=True):
            np.testing.assert_array_equal(left.masks, right.masks)
        for ours, theirs in zip(one.part_embeddings, other.part_embeddings, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_a_batch_is_encoded_alike_alone_in_a_stream_and_image_by_image(grounding: str) -> None:
    explainer = embedded.explainer("paper", grounding=grounding)
    squares = np.stack([scene.image for scene in embedded.scenes()[:3]])
    batch = ImageBatch(squares, [0, 1, 2])
    encoder = BatchEncoder(explainer.backbone, part_variants(explainer.settings, ("kmeans", "pca")))
    expected = encoder.encode(batch)
    assert all(one.error is None and len(one.segmentations) == 2 for one in expected)
    with ThreadPoolExecutor(2) as workers:
        threaded = dataclasses.replace(encoder, workers=workers)
        for found in threaded.encode_all([batch, batch]):
            assert_equal(found, expected)
    alone = [one for square in squares for one in encoder.encode(ImageBatch(square[None], [0]))]
    assert_equal(alone, expected)


def test_given_masks_replace_the_parts_that_would_be_found() -> None:
    explainer = embedded.explainer()
    squares = np.stack([scene.image for scene in embedded.scenes()[:2]])
    own = np.zeros((2, 64, 64), dtype=bool)
    own[0, :32], own[1, 32:] = True, True
    encoder = BatchEncoder(explainer.backbone, (PartVariant(explainer.settings),))
    given, found = encoder.encode(ImageBatch(squares, [0, 0], [own, None]))
    np.testing.assert_array_equal(given.segmentations[0].masks, own)
    assert given.part_embeddings[0].shape == (2, explainer.backbone.embed_dim)
    assert_equal([found], encoder.encode(ImageBatch(squares, [0, 0]))[1:])


def test_variants_share_the_forward_and_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = embedded.explainer("paper", grounding="attend")
    backbone: Any = explainer.backbone
    calls: list[str] = []
    for name in ("encode_with_patches", "pool_regions"):
        real = getattr(backbone, name)
        monkeypatch.setitem(vars(backbone), name, lambda *a, _n=name, _r=real, **k: (calls.append(_n), _r(*a, **k))[1])

    def halves(square: np.ndarray, encoded: Encoded) -> Segmentation:
        calls.append("halves")
        assert len(encoded.patches) == 1
        left = np.indices(square.shape[:2])[1] < 32
        return given_parts(np.stack([left, ~left]))

    settings = explainer.settings
    named = dataclasses.replace(settings, descriptors_per_part=1)  # the same parts
    drawn = dataclasses.replace(settings, grounding="prompts")
    variants = [PartVariant(one) for one in (settings, named, drawn)]
    variants += [PartVariant(one, halves) for one in (settings, named)]
    squares = np.stack([scene.image for scene in embedded.scenes()[:2]])
    encoded = BatchEncoder(backbone, tuple(variants), 2).encode(ImageBatch(squares, [0, 1]))
    assert sorted(calls) == ["encode_with_patches", "halves", "halves", "pool_regions", "pool_regions"]
    for image in encoded:
        assert len({id(one) for one in image.segmentations}) == 2
        assert image.part_embeddings[0] is image.part_embeddings[1]
        assert image.part_embeddings[3] is image.part_embeddings[4]
    for index, variant in enumerate(variants):
        for image, alone in zip(
            encoded, BatchEncoder(backbone, (variant,), 2).encode(ImageBatch(squares, [0, 1])), strict=True
        ):
            assert torch.equal(image.part_embeddings[index], alone.part_embeddings[0])


def test_tensors_are_fetched_in_their_order_and_sizes() -> None:
    tensors = [torch.rand(rows, 3) for rows in (2, 1, 4)]
    for one, other in zip(fetch(iter(tensors)), tensors, strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("two_threads")
def test_a_product_is_the_same_in_a_fresh_thread_in_a_used_one_and_in_the_calling_thread() -> None:
    seeded = torch.Generator().manual_seed(0)
    for parts in range(1, 13):  # of some sizes the last bits depend on the number of threads
        left, right = torch.randn(parts, 128, generator=seeded), torch.randn(128, 1_051, generator=seeded)
        with worker_threads(1) as (workers,):
            assert torch.equal(workers.submit(torch.matmul, left, right).result(), left @ right)
            workers.submit(torch.sin, torch.zeros(100_000)).result()  # in parallel: torch sets up the thread
            assert torch.equal(workers.submit(torch.matmul, left, right).result(), left @ right)


@pytest.mark.usefixtures("two_threads")
def test_what_follows_a_forward_has_one_thread_of_its_own() -> None:
    with one_thread(), worker_threads(1) as (workers,):
        assert torch.get_num_threads() == 1
        assert workers.submit(torch.get_num_threads).result() == 2
    assert torch.get_num_threads() == 2
