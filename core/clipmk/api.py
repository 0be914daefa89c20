"""One call from an image to an `Explanation`, or from many to a stream of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from clipmk.backbones.base import Backbone
from clipmk.errors import ClipmkError, UsageError
from clipmk.images.decoder import ImageSource, read_picture
from clipmk.models.loading import load
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset as settings_of
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.settings import Settings

Masks = NDArray[np.bool_] | Sequence[NDArray[np.bool_] | None] | None
"""Part masks of one image, bool (parts, height, width), or a list of such for a list of images."""


@overload
def explain(
    image: ImageSource,
    model: Backbone | str | Any,
    *,
    vocabulary: Vocabulary | str | None = ...,
    target: str | None = ...,
    preset: str = ...,
    seed: int = ...,
    parts: Masks = ...,
    settings: Mapping[str, Any] | None = ...,
) -> Explanation: ...


@overload
def explain(
    image: list[ImageSource],
    model: Backbone | str | Any,
    *,
    vocabulary: Vocabulary | str | None = ...,
    target: str | None = ...,
    preset: str = ...,
    seed: int = ...,
    parts: Masks = ...,
    settings: Mapping[str, Any] | None = ...,
) -> list[Explanation]: ...


def explain(
    image: ImageSource | list[ImageSource],
    model: Backbone | str | Any,
    *,
    vocabulary: Vocabulary | str | None = None,
    target: str | None = None,
    preset: str = "default",
    seed: int = 0,
    parts: Masks = None,
    settings: Mapping[str, Any] | None = None,
) -> Explanation | list[Explanation]:
    """Explain one image or a list of images.

    Args:
        image: a path, PIL image, uint8 HWC array or float CHW tensor in [0, 1], or a list of them.
        model: from `clipmk.load`, or a name it takes, or an open_clip module in memory.
        vocabulary: a `Vocabulary`, its name or file; None: the world's for an embedded model.
        target: the class to explain; None: the predicted one.
        preset: "default" or "paper".
        seed: of k-means and whatever else is drawn.
        parts: the user's own part masks, bool (parts, height, width) in the image's pixels; for a list of images a
            list of such arrays.
        settings: changes to the preset, by the names of `clipmk.Settings`.

    Returns:
        An `Explanation`, or a list of them for a list.

    Raises:
        ClipmkError: any of its children: the input, the model, the device or an option cannot be used.
    """
    many = isinstance(image, list)
    pictures = [read_picture(one) for one in (image if isinstance(image, list) else [image])]
    explainer = _explainer(model, vocabulary, settings_of(preset, seed=seed, **(settings or {})))
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    if parts is not None:
        masks = [parts] if isinstance(parts, np.ndarray) else list(parts)
        if len(masks) != len(pictures):
            raise UsageError(f"part masks are given for {len(masks)} images, but there are {len(pictures)} images")
    results = explainer.explain(pictures, targets=[target] * len(pictures), masks=masks)
    return results if many else results[0]


def explain_stream(
    images: Iterable[ImageSource],
    model: Backbone | str | Any,
    *,
    vocabulary: Vocabulary | str | None = None,
    target: str | None = None,
    preset: str = "default",
    seed: int = 0,
    batch_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Explanation | ClipmkError]:
    """Explain many images at the speed of the model, with memory for a few; see `Explainer.stream`.

    Args:
        images: any iterable of what `explain` takes; read a few ahead.
        model: as for `explain`.
        vocabulary: as for `explain`.
        target: the class to explain; None: the predicted one of each image.
        preset: "default" or "paper".
        seed: of k-means and whatever else is drawn.
        batch_size: images, or prompted images, per forward; None: 1 on a CPU, 32 elsewhere.
        settings: changes to the preset, by the names of `clipmk.Settings`.

    Yields:
        In order, for each image its explanation, or in its place the `ClipmkError` that kept it from being decoded.

    Raises:
        ClipmkError: the model, the device or an option cannot be used; at once, not with the first result.
    """
    explainer = _explainer(model, vocabulary, settings_of(preset, seed=seed, **(settings or {})))
    return explainer.stream(images, target=target, batch_size=batch_size)


def _explainer(model: Backbone | str | Any, vocabulary: Vocabulary | str | None, settings: Settings) -> Explainer:
    backbone = model if isinstance(model, Backbone) else load(model)
    words = default_vocabulary(backbone.info.id) if vocabulary is None else vocabulary
    return Explainer(backbone, load_vocabulary(words) if isinstance(words, str) else words, settings)
