"""Embeddings of an image's parts: drawn prompts (3L forwards) or masked pooling (none)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from clipmk.concepts.prompts import draw_prompts

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.settings import Settings

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); raise from it to cancel."""

CPU_PIXELS = 224 * 224
"""Pixels per forward on a CPU. From one image of 224 px on, batching gains nothing there (ViT-B/16: 15 prompts take
3.9 s either way) and one at a time keeps cancelling quick; small inputs are bound by the overhead of a call."""


def part_embeddings(
    backbone: Backbone,
    settings: Settings,
    *,
    square: NDArray[np.uint8],
    encoded: Encoded,
    masks: NDArray[np.bool_],
    progress: Progress | None = None,
) -> Float[Tensor, "parts embed"]:
    """Embed the parts of one image in the way that `settings.grounding` names (method.md 2.5, section 5).

    Args:
        backbone: the one that made `encoded`.
        settings: only the grounding is read.
        square: uint8 RGB (S, S, 3).
        encoded: of the square (batch 1).
        masks: the parts, bool (parts, S, S).
        progress: hears of each prompted forward.
    """
    if settings.grounding == "prompts":
        return prompt_embeddings(backbone, square, masks, progress=progress)
    return pooled_embeddings(backbone, encoded, masks)


def prompt_embeddings(
    backbone: Backbone, image: NDArray[np.uint8], masks: NDArray[np.bool_], *, progress: Progress | None = None
) -> Float[Tensor, "parts embed"]:
    """Part embedding = mean of the L2-normalised embeddings of its three prompted images, not renormalised.

    Args:
        backbone: encodes the 3L prompted images: in one batch on an accelerator, few at a time on a CPU.
        image: uint8 RGB (S, S, 3), the square input.
        masks: bool (parts, S, S).
        progress: called after each forward with ("prompts", done, 3L).

    Returns:
        float32; the length of a row is below 1 where the three prompts disagree.
    """
    drawn = np.concatenate([draw_prompts(image, mask) for mask in masks])
    size = max(1, CPU_PIXELS // image.shape[0] ** 2) if backbone.device.type == "cpu" else len(drawn)
    embedded = []
    for start in range(0, len(drawn), size):
        pixels = backbone.normalise(torch.from_numpy(drawn[start : start + size]))
        embedded.append(backbone.encode_images(pixels))
        if progress is not None:
            progress("prompts", min(start + size, len(drawn)), len(drawn))
    every = torch.cat(embedded)
    return every.reshape(len(masks), 3, every.shape[1]).mean(dim=1)


def pooled_embeddings(backbone: Backbone, encoded: Encoded, masks: NDArray[np.bool_]) -> Float[Tensor, "parts embed"]:
    """Masked pooling over each part: a patch counts by the share of its pixels that the part covers.

    Args:
        backbone: the one that made `encoded`.
        encoded: of this image alone (batch 1).
        masks: bool (parts, S, S) in the square input.
    """
    weights = coverage(masks, grid=encoded.grid).to(backbone.device)
    return backbone.pool_regions(encoded, weights[None])[0]


def prompt_embeddings_of(
    backbone: Backbone,
    images: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    *,
    batch_size: int,
    drawers: Executor,
) -> Iterator[Float[Tensor, "parts embed"]]:
    """`prompt_embeddings` of many images: batches cross image borders, and are drawn while the one before is encoded.

    Args:
        backbone: encodes the prompts.
        images: (uint8 RGB (S, S, 3), bool (parts, S, S)) of each; all S alike. Read a little ahead.
        batch_size: prompts per forward.
        drawers: threads that draw.

    Yields:
        Of each image in order, float32 on the backbone's device.
    """
    counts: deque[int] = deque()

    def parts() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        for image, masks in images:
            counts.append(len(masks))
            yield from ((image, mask) for mask in masks)

    waiting = torch.empty(0, backbone.embed_dim, device=backbone.device)
    for drawn in _batched(_drawn_ahead(parts(), drawers, ahead=1 + 2 * batch_size // 3), batch_size):
        waiting = torch.cat([waiting, backbone.encode_images(backbone.normalise(torch.from_numpy(drawn)))])
        while counts and len(waiting) >= 3 * counts[0]:
            count = counts.popleft()
            yield waiting[: 3 * count].reshape(count, 3, -1).mean(dim=1)
            waiting = waiting[3 * count :]


def _drawn_ahead(
    parts: Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]], drawers: Executor, *, ahead: int
) -> Iterator[NDArray[np.uint8]]:
    """The three prompts of each part, uint8 (3, S, S, 3), at most `ahead` of them drawn before they are asked for."""
    futures: deque[Future[NDArray[np.uint8]]] = deque(
        drawers.submit(draw_prompts, *part) for part in islice(parts, ahead)
    )
    while futures:
        done = futures.popleft().result()
        futures.extend(drawers.submit(draw_prompts, *part) for part in islice(parts, 1))
        yield done


def _batched(drawn: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    """Stacks of images, uint8 (n, S, S, 3), cut anew into n = `size`; the last may be shorter."""
    held: list[NDArray[np.uint8]] = []
    count = 0
    for images in drawn:
        held.append(images)
        count += len(images)
        while count >= size:
            every = np.concatenate(held)
            yield every[:size]
            held, count = [every[size:]], count - size
    if count:
        yield np.concatenate(held)


def pooled_embeddings_of(
    backbone: Backbone, encoded: Encoded, masks: Sequence[NDArray[np.bool_]]
) -> list[Float[Tensor, "parts embed"]]:
    """`pooled_embeddings` of all images of one forward at once.

    Args:
        backbone: the one that made `encoded`.
        encoded: of several images.
        masks: for each image its parts, bool (parts, S, S); their number may differ.
    """
    weights = torch.zeros(len(masks), max(map(len, masks)), encoded.patches.shape[1])
    for row, own in zip(weights, masks, strict=True):
        row[: len(own)] = coverage(own, grid=encoded.grid)
    pooled = backbone.pool_regions(encoded, weights.to(backbone.device))
    return [rows[: len(own)] for rows, own in zip(pooled, masks, strict=True)]


def coverage(masks: NDArray[np.bool_], *, grid: tuple[int, int]) -> Float[Tensor, "parts patches"]:
    """w_kn = share of patch n's pixels that lie in mask k, in [0, 1]; float32.

    Exact where the side is a multiple of the grid; otherwise each patch averages the pixels it touches.
    """
    values = torch.from_numpy(np.ascontiguousarray(masks)).float()
    return functional.adaptive_avg_pool2d(values, grid).flatten(1)
