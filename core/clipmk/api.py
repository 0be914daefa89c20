"""One call from an image to an `Explanation`, with questions of one's own, or from many to a stream of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from clipmk.backbones.backbone import Backbone
from clipmk.errors import ClipmkError, UsageError
from clipmk.explanation import Explanation
from clipmk.images.decoder import ImageSource, read_picture
from clipmk.models.loading import load
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import Settings, settings_of_call
from clipmk.vocabulary.reader import ask_texts
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, from_descriptor_json, load_vocabulary

Masks: TypeAlias = NDArray[np.bool_] | Sequence[NDArray[np.bool_] | None] | None
"""Part masks of one image, bool (parts, height, width), or a list of such for a list of images."""
ModelSource: TypeAlias = Backbone | str | os.PathLike[str] | Any
"""A loaded model, or what `clipmk.load` takes; Any stands for a torch module."""
VocabularySource: TypeAlias = Vocabulary | str | os.PathLike[str] | Mapping[str, Sequence[str]] | None


class _Options(TypedDict, total=False):
    vocabulary: VocabularySource
    target: str | None
    preset: str | None
    seed: int | None
    parts: Masks
    settings: Settings | Mapping[str, Any] | None


@overload
def explain(image: list[Any], model: ModelSource, **options: Unpack[_Options]) -> list[Explanation]: ...


@overload
def explain(image: ImageSource, model: ModelSource, **options: Unpack[_Options]) -> Explanation: ...


def explain(
    image: ImageSource | list[ImageSource],
    model: ModelSource,
    *,
    vocabulary: VocabularySource = None,
    target: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    parts: Masks = None,
    settings: Settings | Mapping[str, Any] | None = None,
) -> Explanation | list[Explanation]:
    """Explain one image or a list of images.

    Args:
        image: a path, PIL image, uint8 HWC array or float CHW tensor in [0, 1], or a list of them.
        model: from `clipmk.load`, or a name or path it takes, or an open_clip module in memory.
        vocabulary: a `Vocabulary`, its name or file, or a dict of descriptors by class; None: the world's for an
            embedded model.
        target: the class to explain; None: the predicted one.
        preset: "default" (when None) or "paper".
        seed: random seed; 0 when None.
        parts: the user's own part masks, bool (parts, height, width) in the image's pixels; for a list of images a
            list of such arrays.
        settings: changes to the preset, by the names of `clipmk.Settings`; or all settings. May name preset and seed.

    Returns:
        An `Explanation`, or a list of them for a list.

    Raises:
        ClipmkError: any of its children: the input, the model, the device or an option cannot be used.
    """
    pictures = [read_picture(one) for one in (image if isinstance(image, list) else [image])]
    chosen = settings_of_call(preset, seed=seed, settings=settings)
    masks, targets = _masks(parts, len(pictures)), [_target(target)] * len(pictures)
    results = _explainer(model, vocabulary, chosen).explain(pictures, targets=targets, masks=masks)
    return results if isinstance(image, list) else results[0]


def ask(  # noqa: PLR0913 - the parameters of `explain` and two of its own
    image: ImageSource,
    model: ModelSource,
    texts: str | Sequence[str],
    *,
    add_classes: Sequence[str] = (),
    vocabulary: VocabularySource = None,
    target: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
) -> Explanation:
    """Ask for one's own words: are they seen in the image, where, and are they tied to the class?

    Any number of texts takes one forward of the image. To ask again, or for other classes, without another one, keep
    an `Explainer` and use `encode_picture` and `answer`.

    Args:
        image: as for `explain`, a single one.
        model: as for `explain`.
        texts: any words, one text or a list.
        add_classes: classes to predict beside the vocabulary's.
        vocabulary: as for `explain`; what the texts are measured against.
        target: as for `explain`; may be one of the added classes.
        preset: as for `explain`.
        seed: as for `explain`.
        settings: as for `explain`.

    Returns:
        The explanation, with an answer to each different text in `asked`.

    Raises:
        ClipmkError: as for `explain`; a text that is blank, too long or holds control characters is a
            `VocabularyError`.
    """
    asks = ask_texts([texts] if isinstance(texts, str) else texts)
    picture = read_picture(image)
    explainer = _explainer(model, vocabulary, settings_of_call(preset, seed=seed, settings=settings))
    explainer = explainer.with_classes(add_classes) if add_classes else explainer
    return explainer.explain([picture], targets=[_target(target)], asks=asks)[0]


def explain_stream(
    images: Iterable[ImageSource],
    model: ModelSource,
    *,
    vocabulary: VocabularySource = None,
    target: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
) -> Iterator[Explanation | ClipmkError]:
    """Explain many images at the speed of the model, with memory for a few; see `Explainer.stream`.

    Args:
        images: any iterable of what `explain` takes; read a few ahead.
        model: as for `explain`.
        vocabulary: as for `explain`.
        target: the class to explain; None: the predicted one of each image.
        preset: as for `explain`.
        seed: as for `explain`.
        batch_size: most images, or prompted images, per forward; None: 1 on a CPU, 32 elsewhere.
        settings: as for `explain`.

    Yields:
        In order, for each image its explanation, or in its place the `ClipmkError` that kept it from being decoded.

    Raises:
        ClipmkError: the model, the device or an option cannot be used; at once, not with the first result.
    """
    if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
        raise UsageError(f"images is {images!r:.80}; it must be a list or another iterable of images")
    if batch_size is not None and (type(batch_size) is not int or not 1 <= batch_size <= 1_000_000):
        raise UsageError(f"batch_size is {batch_size!r:.80}; it must be a whole number from 1 to 1,000,000")
    chosen = settings_of_call(preset, seed=seed, settings=settings)
    return _explainer(model, vocabulary, chosen).stream(images, target=_target(target), batch_size=batch_size)


def _explainer(model: ModelSource, vocabulary: VocabularySource, settings: Settings) -> Explainer:
    backbone = model if isinstance(model, Backbone) else load(model)
    return Explainer(backbone, _vocabulary(vocabulary, backbone), settings)


def _vocabulary(given: VocabularySource, backbone: Backbone) -> Vocabulary:
    if isinstance(given, Vocabulary):
        return given
    if not isinstance(given, Mapping):
        return load_vocabulary(default_vocabulary(backbone.info.id) if given is None else given)
    try:
        return from_descriptor_json(json.dumps(dict(given)), name="custom")
    except TypeError as error:
        raise UsageError(f"vocabulary is {given!r:.80}; it must map classes to lists of descriptors") from error


def _target(target: str | None) -> str | None:
    if target is not None and not isinstance(target, str):
        raise UsageError(f"target is {target!r:.80}; it must be the name of a class")
    return target


def _masks(parts: Masks, images: int) -> list[NDArray[np.bool_] | None] | None:
    if parts is None:
        return None
    masks = [parts] if isinstance(parts, np.ndarray) else parts
    if not isinstance(masks, list | tuple) or not all(
        one is None or (isinstance(one, np.ndarray) and one.dtype.kind in "biuf") for one in masks
    ):
        raise UsageError(
            f"parts is {parts!r:.80}; it must be a bool array (parts, height, width), or for a list of images a list "
            "of such arrays, with None where parts are to be found"
        )
    if len(masks) != images:
        raise UsageError(f"part masks are given for {len(masks)} images, but there are {images} images")
    return list(masks)
