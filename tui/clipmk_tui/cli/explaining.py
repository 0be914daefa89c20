"""The run behind `clipmk explain`: models outside, images inside; what fails becomes a failure, the rest goes on."""

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
    from clipmk_tui.cli.choices import Choices
    from clipmk_tui.cli.progress import Stages
    from clipmk_tui.cli.sources import Source

Result = Explanation | Failure


def results(choices: Choices, sources: Sequence[Source], stages: Stages) -> Iterator[Result]:
    """Explain every image with every model, in order.

    Raises:
        ClipmkError: the vocabulary, the classes or the target that the user named cannot be used.
    """
    named = None if choices.vocabulary is None else _vocabulary(choices, choices.vocabulary)
    readable = any(source.readable for source in sources)  # before torch is imported: a typo must not take seconds
    for model in choices.models:
        if not readable:
            yield from (_failed(source, model) for source in sources)
            continue
        stages.begin(model, "loading")
        try:
            explainer = _explainer(choices, model, named, stages)
        except ClipmkError as error:
            yield from (Failure.of(error, path=source.name, model=model) for source in sources)
            continue
        yield from _explained(explainer, choices, model, sources, stages)


def _vocabulary(choices: Choices, name: str) -> Vocabulary:
    """The vocabulary with the user's classes in it; also checks the target."""
    vocabulary = load_vocabulary(name)
    if choices.classes is not None:
        vocabulary = vocabulary.with_classes(parse_classes(choices.classes))
    if choices.target is not None:
        resolve_class(vocabulary, choices.target)
    return vocabulary


def own_vocabulary(choices: Choices, model: str) -> str:
    """The vocabulary that a model brings; of a model that does not exist or lacks its tag, that is said first."""
    try:
        return default_vocabulary(model)
    except UsageError:
        from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

        if not choices.download:
            resolve(model, arch=choices.arch)
        raise


def _explainer(choices: Choices, model: str, named: Vocabulary | None, stages: Stages) -> Explainer:
    vocabulary = _vocabulary(choices, own_vocabulary(choices, model)) if named is None else named
    from clipmk.models.loading import load  # noqa: PLC0415 - torch and open_clip: seconds
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    started = time.perf_counter()
    backbone = load(
        model, device=choices.device, precision=choices.precision, arch=choices.arch, download=choices.download
    )
    return Explainer(
        backbone,
        vocabulary,
        choices.settings,
        cache=choices.cache,
        progress=stages,
        load_ms=1_000 * (time.perf_counter() - started),
    )


def _explained(
    explainer: Explainer, choices: Choices, model: str, sources: Sequence[Source], stages: Stages
) -> Iterator[Result]:
    stages.begin(subject(sources[0], 0, len(sources)))
    if len(sources) == 1:
        return _single(explainer, choices.target, model, sources[0])
    return _streamed(explainer, choices, model, sources, stages)


def _single(explainer: Explainer, target: str | None, model: str, source: Source) -> Iterator[Result]:
    """One image, each of its forwards told."""
    try:
        yield explainer.explain([source.picture()], targets=[target])[0]
    except ClipmkError as error:
        yield Failure.of(error, path=source.name, model=model)


def _streamed(
    explainer: Explainer, choices: Choices, model: str, sources: Sequence[Source], stages: Stages
) -> Iterator[Result]:
    """Many images: some are read ahead, and batched where that helps. What ends the stream fails all that are left."""
    keep = choices.form == "text" or choices.overlay is not None or choices.html is not None
    done = 0
    try:
        for one in explainer.stream(
            sources, target=choices.target, read=lambda source: source.picture(), keep_pictures=keep
        ):
            source, done = sources[done], done + 1
            yield Failure.of(one, path=source.name, model=model) if isinstance(one, ClipmkError) else one
            if done < len(sources):
                stages.begin(subject(sources[done], done, len(sources)))
    except ClipmkError as error:
        yield from (Failure.of(error, path=source.name, model=model) for source in sources[done:])


def _failed(source: Source, model: str) -> Failure:
    try:
        source.picture()
    except ClipmkError as error:
        return Failure.of(error, path=source.name, model=model)
    raise AssertionError("a source that was unreadable before is readable now")  # it remembers its failure


def subject(source: Source, index: int, count: int) -> str:
    """What is being worked on, in words."""
    return f"{source.name}  {index + 1}/{count}" if count > 1 else source.name
