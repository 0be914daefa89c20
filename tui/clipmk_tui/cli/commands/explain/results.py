"""The run behind `clipmk explain` and `clipmk compare`: every model on every image; what fails becomes a `Failure`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clipmk.errors import ClipmkError, UsageError
from clipmk.explanation import Explanation
from clipmk.records import Failure
from clipmk.vocabulary.classes import parse_classes, resolve_class
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary

if TYPE_CHECKING:
    from clipmk.pipeline.explainer import Explainer
    from clipmk.worker.session import Session
    from clipmk_tui.cli.commands.explain.options import ExplainOptions
    from clipmk_tui.cli.inputs import InputImage
    from clipmk_tui.cli.progress import Stages

Result = Explanation | Failure


def results(options: ExplainOptions, images: Sequence[InputImage], stages: Stages) -> Iterator[Result]:
    """Explain every image with every model, in order.

    Raises:
        ClipmkError: the vocabulary, the classes or the target that the user named cannot be used.
    """
    name = options.session.vocabulary
    named = None if name is None else _vocabulary(options, name)
    readable = any(image.readable for image in images)  # before torch is imported: a typo must not take seconds
    for model in options.models:
        if not readable:
            failed = ((image.name, image.failure) for image in images)
            yield from (Failure.of(error, path=name, model=model) for name, error in failed if error is not None)
            continue
        stages.begin(model, "loading")
        try:
            explainer = _explainer(options, model, named, stages)
        except ClipmkError as error:
            yield from (Failure.of(error, path=image.name, model=model) for image in images)
            continue
        stages.begin(subject(images[0], 0, len(images)))
        if len(images) == 1:
            yield _single(explainer, options, model, images[0])
        else:
            yield from _streamed(explainer, options, model, images, stages)


def _vocabulary(options: ExplainOptions, name: str) -> Vocabulary:
    """The vocabulary with the user's classes in it; also checks the target."""
    vocabulary, session = load_vocabulary(name), options.session
    if session.classes is not None:
        vocabulary = parse_classes(session.classes).within(vocabulary)
    if session.added_classes:
        vocabulary = vocabulary.with_classes(dict.fromkeys((*vocabulary.classes, *session.added_classes)))
    if options.target is not None:
        resolve_class(vocabulary, options.target)
    return vocabulary


def own_vocabulary(session: Session, model: str) -> str:
    """The vocabulary that a model brings; an error about the model itself, such as a missing tag, comes first."""
    try:
        return default_vocabulary(model)
    except UsageError:
        from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

        if not session.download:
            resolve(model, arch=session.arch)
        raise


def _explainer(options: ExplainOptions, model: str, named: Vocabulary | None, stages: Stages) -> Explainer:
    vocabulary = _vocabulary(options, own_vocabulary(options.session, model)) if named is None else named
    from clipmk.models.loading import load  # noqa: PLC0415 - torch and open_clip: seconds
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    started, session = time.perf_counter(), options.session
    same = {name: getattr(session, name) for name in ("device", "precision", "arch", "download")}
    backbone = load(model, **same)
    return Explainer(
        backbone,
        vocabulary,
        session.settings,
        cache=session.cache,
        progress=stages,
        load_ms=1_000 * (time.perf_counter() - started),
    )


def _single(explainer: Explainer, options: ExplainOptions, model: str, image: InputImage) -> Result:
    """Explain one image, with progress on each of its forwards."""
    try:
        return explainer.explain([image.picture()], targets=[options.target], asks=options.asks)[0]
    except ClipmkError as error:
        return Failure.of(error, path=image.name, model=model)


def _streamed(
    explainer: Explainer, options: ExplainOptions, model: str, images: Sequence[InputImage], stages: Stages
) -> Iterator[Result]:
    """Explain many images, read ahead and batched. An error that ends the stream is that of all remaining images."""
    done = 0
    try:
        for one in explainer.stream(
            images,
            target=options.target,
            read=lambda image: image.picture(),
            keep_pictures=options.keep_pictures,
            asks=options.asks,
        ):
            image, done = images[done], done + 1
            yield Failure.of(one, path=image.name, model=model) if isinstance(one, ClipmkError) else one
            if done < len(images):
                stages.begin(subject(images[done], done, len(images)))
    except ClipmkError as error:
        yield from (Failure.of(error, path=image.name, model=model) for image in images[done:])


def subject(image: InputImage, index: int, count: int) -> str:
    """The image and its place among all, for the progress line."""
    return f"{image.name}  {index + 1}/{count}" if count > 1 else image.name
