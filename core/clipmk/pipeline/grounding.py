"""Embeddings of an image's parts: drawn prompts (3L forwards) or masked pooling (none)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from clipmk.backbones.devices import upload
from clipmk.concepts.composition import compose_prompts
from clipmk.concepts.prompts import draw_prompts, mark

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.settings import Settings

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); raise from it to cancel."""

CPU_PIXELS = 224 * 224
"""Pixels per forward on a CPU. From one image of 224 px on, batching gains nothing there (ViT-B/16: 15 prompts take
3.9 s either way) and one at a time keeps cancelling quick; small inputs are bound by the overhead of a call."""

ACCELERATOR_BATCH = 32
"""Images, or prompted images, per forward where batches help."""


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
        backbone: encodes the 3L prompted images: `ACCELERATOR_BATCH` at a time, fewer on a CPU.
        image: uint8 RGB (S, S, 3), the square input.
        masks: bool (parts, S, S).
        progress: called after each forward with ("prompts", done, 3L).

    Returns:
        float32; the length of a row is below 1 where the three prompts disagree.
    """
    drawn = _prompts(backbone, image, _drawing(backbone)(image, masks))
    size = max(1, CPU_PIXELS // image.shape[0] ** 2) if backbone.device.type == "cpu" else ACCELERATOR_BATCH
    embedded = []
    for start in range(0, len(drawn), size):
        embedded.append(backbone.encode_images(backbone.normalise(drawn[start : start + size])))
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
    weights = upload(coverage(masks, grid=encoded.grid), backbone.device)
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

    def prompts() -> Iterator[UInt8[Tensor, "prompts side side 3"]]:
        for image, drawn in _drawn_ahead(_drawing(backbone), iter(images), drawers, ahead=2 + batch_size // 8):
            made = _prompts(backbone, image, drawn)
            counts.append(len(made))
            yield made

    waiting = torch.empty(0, backbone.embed_dim, device=backbone.device)
    for batch in _batched(prompts(), batch_size):
        waiting = torch.cat([waiting, backbone.encode_images(backbone.normalise(batch))])
        while counts and len(waiting) >= counts[0]:
            count = counts.popleft()
            yield waiting[:count].reshape(count // 3, 3, -1).mean(dim=1)
            waiting = waiting[count:]


def _drawing(backbone: Backbone) -> Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]:
    """What threads draw: whole prompts for a CPU, where OpenCV is fastest; else only marks for the device."""
    return draw_prompts if backbone.device.type == "cpu" else marks_of


def marks_of(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`mark` of each part, uint8 (parts, S, S)."""
    del image  # grey and blur are made where the model is
    return np.stack([mark(mask) for mask in masks])


def _prompts(
    backbone: Backbone, image: NDArray[np.uint8], drawn: NDArray[np.uint8]
) -> UInt8[Tensor, "prompts side side 3"]:
    """The prompts of one image, on the backbone's device if they are put together there; equal to the last bit."""
    if drawn.ndim == image.ndim + 1:
        return torch.from_numpy(drawn)
    square, marks = (upload(torch.from_numpy(values), backbone.device) for values in (image, drawn))
    return compose_prompts(square, marks)


def _drawn_ahead(
    draw: Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]],
    images: Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    drawers: Executor,
    *,
    ahead: int,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Each image with what is drawn of its parts, for at most `ahead` images before it is asked for."""
    futures: deque[tuple[NDArray[np.uint8], Future[NDArray[np.uint8]]]] = deque()
    for image, masks in images:
        futures.append((image, drawers.submit(draw, image, masks)))
        if len(futures) > ahead:
            first, drawn = futures.popleft()
            yield first, drawn.result()
    for first, drawn in futures:
        yield first, drawn.result()


def _batched(
    drawn: Iterable[UInt8[Tensor, "prompts side side 3"]], size: int
) -> Iterator[UInt8[Tensor, "batch side side 3"]]:
    """Stacks of images cut anew into batches of `size`; the last may be shorter."""
    held: list[Tensor] = []
    count = 0
    for images in drawn:
        held.append(images)
        count += len(images)
        if count >= size:
            every = torch.cat(held)
            whole = count - count % size
            yield from torch.split(every[:whole], size)
            held, count = [every[whole:]], count % size
    if count:
        yield torch.cat(held)


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
    pooled = backbone.pool_regions(encoded, upload(weights, backbone.device))
    return [rows[: len(own)] for rows, own in zip(pooled, masks, strict=True)]


def coverage(masks: NDArray[np.bool_], *, grid: tuple[int, int]) -> Float[Tensor, "parts patches"]:
    """w_kn = share of patch n's pixels that lie in mask k, in [0, 1]; float32.

    Exact where the side is a multiple of the grid; otherwise each patch averages the pixels it touches.
    """
    values = torch.from_numpy(np.ascontiguousarray(masks)).float()
    return functional.adaptive_avg_pool2d(values, grid).flatten(1)
