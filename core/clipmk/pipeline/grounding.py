"""Part embeddings: by drawn prompts (3L forwards), or by masked pooling (no further forward)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from clipmk.backbones.devices import upload
from clipmk.concepts.prompts import compose_prompts, draw_prompts, mark
from clipmk.pipeline.segmentation import masks_at

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.backbones.base import Encoded
    from clipmk.settings import Grounding

Arguments = ParamSpec("Arguments")
Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[str, int, int], None]  # called with (stage, done, total); raise from it to cancel

CPU_PIXELS = 4 * 224 * 224
"""Pixels per forward on a CPU, where small matrices waste time: 16 images in fours take ViT-B/16 on two threads an
eighth less time than one by one (docs/performance.md)."""

ACCELERATOR_BATCH = 32  # images, or prompted images, per forward where batches help


def no_progress(stage: str, done: int, total: int) -> None:
    """Report no progress."""


class _InPlace(Executor):
    """Runs what is submitted at once, in the calling thread."""

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(work(*args, **kwargs))
        return future


IN_PLACE: Final = _InPlace()  # in place of threads


def begun_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], workers: Executor, *, ahead: int
) -> Iterator[Result]:
    """Yield what `work` makes of each item, in order; at most `ahead` are begun before they are needed."""
    left = iter(items)
    futures = deque(workers.submit(work, item) for item in islice(left, ahead))
    while futures:
        done = futures.popleft().result()
        futures.extend(workers.submit(work, item) for item in islice(left, 1))
        yield done


def embed_parts(
    backbone: Backbone,
    grounding: Grounding,
    *,
    squares: Sequence[NDArray[np.uint8]],
    forwards: Sequence[Encoded],
    masks: Sequence[NDArray[np.bool_]],
    batch_size: int = 1,
    workers: Executor = IN_PLACE,
    progress: Progress = no_progress,
) -> Iterator[Float[Tensor, "parts embed"]]:
    """Embed the parts of each image (docs/method.md, 2.5 and section 5): float32 on the backbone's device, in order.

    `squares` are uint8 RGB (S, S, 3), `masks` bool (parts, side, side) of any side. The `forwards` of the same images,
    any number in each, are read by "attend" alone. `batch_size` counts prompts per forward, across image borders; 1:
    each image's prompts by themselves, as many per forward as suit the device. `workers` draw prompts.
    """
    if grounding == "attend":
        left = iter(masks)
        for encoded in forwards:
            yield from pooled_embeddings(backbone, encoded, [next(left) for _ in encoded.embeddings])
        return
    masks = [masks_at(own, len(square)) for own, square in zip(masks, squares, strict=True)]
    if batch_size > 1:
        yield from prompt_embeddings(backbone, squares, masks, batch_size=batch_size, workers=workers)
    else:
        for square, own in zip(squares, masks, strict=True):
            yield from prompt_embeddings(backbone, [square], [own], workers=workers, progress=progress)


def prompt_embeddings(
    backbone: Backbone,
    squares: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.bool_]],
    *,
    batch_size: int | None = None,
    workers: Executor = IN_PLACE,
    progress: Progress = no_progress,
) -> Iterator[Float[Tensor, "parts embed"]]:
    """Part embedding = mean of the L2-normalised embeddings of its three prompted images, not renormalised.

    So a row is shorter than 1 where its prompts disagree. Batches cross image borders; the next prompts are drawn while
    a batch is encoded. All squares have one S. `batch_size` None: `images_per_forward`.
    """
    total = 3 * sum(map(len, masks))
    size = batch_size or images_per_forward(backbone, side=squares[0].shape[0])
    images = zip(squares, masks, strict=True)
    draw = _drawing(backbone)
    drawn = begun_ahead(lambda pair: (pair[0], draw(*pair)), images, workers, ahead=2 + size // 8)
    counts, done = deque(map(len, masks)), 0
    waiting: Tensor | None = None
    for batch in _batched((_prompts(backbone, square, marks) for square, marks in drawn), size):
        embedded = backbone.encode_images(backbone.normalise(batch))
        waiting = embedded if waiting is None else torch.cat([waiting, embedded])
        done += len(batch)
        progress("prompts", done, total)
        while counts and len(waiting) >= 3 * counts[0]:
            count = counts.popleft()
            yield waiting[: 3 * count].reshape(count, 3, -1).mean(dim=1)
            waiting = waiting[3 * count :]


def images_per_forward(backbone: Backbone, *, side: int, most: int = ACCELERATOR_BATCH) -> int:
    """Square inputs per forward: `most`, on a CPU no more than have `CPU_PIXELS`."""
    return min(most, max(1, CPU_PIXELS // side**2)) if backbone.device.type == "cpu" else most


def _drawing(backbone: Backbone) -> Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]:
    """What threads draw: whole prompts for a CPU, where OpenCV is fastest; only marks for another device."""
    return draw_prompts if backbone.device.type == "cpu" else marks_of


def marks_of(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`mark` of each part, uint8 (parts, S, S)."""
    del image  # grey and blur are computed on the device
    return np.stack([mark(mask) for mask in masks])


def _prompts(
    backbone: Backbone, image: NDArray[np.uint8], drawn: NDArray[np.uint8]
) -> UInt8[Tensor, "prompts side side 3"]:
    """The prompts of one image; composed on the backbone's device from marks, bit for bit the same as drawn."""
    if drawn.ndim == image.ndim + 1:
        return torch.from_numpy(drawn)
    square, marks = (upload(torch.from_numpy(values), backbone.device) for values in (image, drawn))
    return compose_prompts(square, marks)


def _batched(
    drawn: Iterable[UInt8[Tensor, "prompts side side 3"]], size: int
) -> Iterator[UInt8[Tensor, "batch side side 3"]]:
    """Regroup stacks of images into batches of `size`; the last may be shorter."""
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


def pooled_embeddings(
    backbone: Backbone, encoded: Encoded, masks: Sequence[NDArray[np.bool_]]
) -> list[Float[Tensor, "parts embed"]]:
    """Masked pooling over each part of all images of a forward: a patch counts by the share that the part covers."""
    weights = torch.zeros(len(masks), max(map(len, masks)), encoded.patches.shape[1])
    for row, own in zip(weights, masks, strict=True):
        row[: len(own)] = coverage(own, grid=encoded.grid)
    pooled = backbone.pool_regions(encoded, upload(weights, backbone.device))
    return [rows[: len(own)] for rows, own in zip(pooled, masks, strict=True)]


def coverage(masks: NDArray[np.bool_], *, grid: tuple[int, int]) -> Float[Tensor, "parts patches"]:
    """w_kn = share of patch n's pixels that lie in mask k, in [0, 1]; float32.

    Exact if the side is a multiple of the grid; otherwise each patch averages the pixels it touches.
    """
    values = torch.from_numpy(np.ascontiguousarray(masks)).float()
    return functional.adaptive_avg_pool2d(values, grid).flatten(1)
