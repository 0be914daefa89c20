"""Part embeddings, by drawn prompts and by masked pooling, against plain loops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import embedded
from clipmk.concepts.prompts import draw_prompts
from clipmk.pipeline import grounding
from clipmk.pipeline.grounding import coverage, pooled_embeddings, prompt_embeddings


@pytest.fixture(scope="module")
def seen() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    scene = embedded.scenes()[0]
    return scene.image, np.stack([part.mask_pixels for part in scene.parts])


def test_a_part_is_the_plain_mean_of_its_three_unit_prompts(seen: tuple[np.ndarray, np.ndarray]) -> None:
    image, masks = seen
    backbone = embedded.backbone()
    found = next(prompt_embeddings(backbone, [image], [masks]))
    assert len(masks) >= 3
    for row, mask in zip(found, masks, strict=True):
        each = [
            backbone.encode_images(backbone.normalise(torch.from_numpy(drawn)[None]))[0]
            for drawn in draw_prompts(image, mask)
        ]
        expected = torch.stack([vector / vector.norm() for vector in each]).mean(0)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
        assert expected.norm() < 0.9999  # the mean is not scaled back to unit length
    assert found.dtype == torch.float32


@pytest.mark.parametrize("per_forward", [1, 4])
def test_micro_batches_do_not_change_part_embeddings(seen: tuple[np.ndarray, np.ndarray], per_forward: int) -> None:
    image, masks = seen
    calls: list[tuple[str, int, int]] = []
    whole = next(prompt_embeddings(embedded.backbone(), [image], [masks]))
    with mock.patch.object(grounding, "CPU_PIXELS", per_forward * image.shape[0] ** 2):
        cut = next(prompt_embeddings(embedded.backbone(), [image], [masks], progress=lambda *told: calls.append(told)))
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=0)
    total = 3 * len(masks)
    assert calls == [
        ("prompts", min(done, total), total) for done in range(per_forward, total + per_forward, per_forward)
    ]


def test_a_part_that_covers_everything_is_the_image(seen: tuple[np.ndarray, np.ndarray]) -> None:
    image, _ = seen
    encoded = embedded.explainer().encode(image)
    pooled = pooled_embeddings(embedded.backbone(), encoded, [np.ones((2, 64, 64), dtype=bool)])[0]
    torch.testing.assert_close(pooled, encoded.embeddings.expand(2, -1), atol=1e-5, rtol=0)


def test_parts_are_pooled_each_by_its_own_coverage(seen: tuple[np.ndarray, np.ndarray]) -> None:
    image, masks = seen
    encoded = embedded.explainer().encode(image)
    pooled = pooled_embeddings(embedded.backbone(), encoded, [masks])[0]
    for row, mask in zip(pooled, masks, strict=True):
        weights = torch.tensor(mask.reshape(8, 8, 8, 8).mean((1, 3)).ravel(), dtype=torch.float32)
        expected = embedded.backbone().pool_regions(encoded, weights[None, None])[0, 0]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
    assert (pooled @ pooled.T).min() < 0.9  # the parts do look different


def shares(mask: NDArray[np.bool_], grid: tuple[int, int]) -> list[float]:
    """Share of covered pixels among those that each cell touches."""
    values = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            inside = [
                bool(mask[y, x])
                for y in range(mask.shape[0])
                for x in range(mask.shape[1])
                if y < (row + 1) * mask.shape[0] / grid[0]
                and y + 1 > row * mask.shape[0] / grid[0]
                and x < (column + 1) * mask.shape[1] / grid[1]
                and x + 1 > column * mask.shape[1] / grid[1]
            ]
            values.append(sum(inside) / len(inside))
    return values


@settings(max_examples=60)
@given(st.integers(4, 13), st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(0, 2**32 - 1))
def test_coverage_is_the_share_of_each_patchs_pixels(side: int, grid: tuple[int, int], seed: int) -> None:
    masks = np.random.default_rng(seed).random((2, side, side)) < 0.5
    found = coverage(masks, grid=grid)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), [shares(mask, grid) for mask in masks], atol=1e-6)


def test_coverage_follows_the_patch_order_row_by_row() -> None:
    mask = np.zeros((1, 6, 6), dtype=bool)
    mask[0, :3, 3:] = True
    mask[0, 5, 0] = True
    np.testing.assert_allclose(coverage(mask, grid=(2, 2)).numpy(), [[0, 1, 1 / 9, 0]], atol=1e-6)


def test_prompts_put_together_on_the_device_embed_alike(
    seen: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, masks = seen
    drawn = next(prompt_embeddings(embedded.backbone(), [image], [masks]))
    monkeypatch.setattr(grounding, "_drawing", lambda _: grounding.marks_of)
    torch.testing.assert_close(next(prompt_embeddings(embedded.backbone(), [image], [masks])), drawn, atol=0, rtol=0)


def test_the_prompts_of_many_parts_are_encoded_a_batch_at_a_time_on_an_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OnAccelerator:
        """The embedded model, which says that it is on a GPU."""

        device = torch.device("cuda")
        embed_dim = embedded.backbone().embed_dim
        batches: list[int] = []  # noqa: RUF012

        def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
            return embedded.backbone().normalise(pixels)

        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            self.batches.append(len(pixels))
            return embedded.backbone().encode_images(pixels)

    monkeypatch.setattr(grounding, "upload", lambda values, _: values)
    image = embedded.scenes()[0].image
    masks = np.zeros((23, *image.shape[:2]), dtype=bool)
    for index, mask in enumerate(masks):
        mask[index : index + 9, 8:40] = True
    model: Any = OnAccelerator()
    found = next(prompt_embeddings(model, [image], [masks]))
    assert model.batches == [32, 32, 5]
    expected = next(prompt_embeddings(embedded.backbone(), [image], [masks]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [2, 7, 100])
def test_prompts_of_many_images_embed_as_those_of_each(seen: tuple[np.ndarray, np.ndarray], batch_size: int) -> None:
    image, masks = seen
    images = [(image, masks), (image[::-1].copy(), masks[:1]), (image, masks[1:])]
    with ThreadPoolExecutor(2) as drawers:
        found = list(
            prompt_embeddings(embedded.backbone(), *zip(*images, strict=True), batch_size=batch_size, workers=drawers)
        )
    for rows, (own, parts) in zip(found, images, strict=True):
        torch.testing.assert_close(
            rows, next(prompt_embeddings(embedded.backbone(), [own], [parts])), atol=1e-5, rtol=0
        )
