"""The run behind `clipmk explain` and `clipmk compare`: every model on every image; what fails becomes a `Failure`.

`answers` has it done by a running server that would answer the same, `results` by this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipmk.errors import OUT_OF_MEMORY, UNEXPECTED, ClipmkError, InputError, ModelError, UsageError
from clipmk.explanation import Explanation
from clipmk.records import Failure
from clipmk.settings import GROUP_LIMIT
from clipmk.system.locations import socket_path
from clipmk.system.text import encodable, printable, quoted
from clipmk.vocabulary.classes import parse_classes, resolve_class
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary
from clipmk.worker.client import Connection, UnusableServerError, found_server
from clipmk.worker.protocol import ATTACHED_BYTES, ExplainImages, ImageExplained, RequestError
from clipmk_tui.cli.inputs import STDIN, InputImage
from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from clipmk.pipeline.explainer import Explainer
    from clipmk.worker.session import Session
    from clipmk_tui.cli.commands.explain.options import ExplainOptions
    from clipmk_tui.cli.progress import Stages

Result = Explanation | Failure

TOGETHER = 8  # images of one request, of a run of many: enough for a GPU, and other clients do not wait for long


def answers(options: ExplainOptions, images: Sequence[InputImage], stages: Stages) -> Iterator[Result]:
    """Explain every image with every model, in order (see `results` for what it raises).

    Whatever the server declines is done here: so every error is worded, and weighed, as if there were no server.
    """
    with contextlib.ExitStack() as held:
        server = _find(options, held)
        if server is None:
            yield from results(options, images, stages)
            return
        usable = True
        for model in options.models:
            own, done, note = dataclasses.replace(options, models=(model,)), 0, ""
            try:
                for result in _served(server, own, images, stages) if usable else ():
                    done += 1
                    yield result
            except UnusableServerError as reason:
                usable, note = False, f"the server is no longer used: {reason}"
            except RequestError as reason:
                note = f"the server could not do it: {reason}" if reason.reason in {OUT_OF_MEMORY, UNEXPECTED} else ""
            if note and not options.quiet:
                stages.clear()
                say("note", note)
            if done < len(images):
                yield from results(own, images[done:], stages)


def _find(options: ExplainOptions, held: contextlib.ExitStack) -> Connection | None:
    """A server that would answer as this process would; None: there is none, or it is not wanted."""
    if not options.serve:
        return None
    path = socket_path()
    try:
        session = dataclasses.replace(options.session, folder=str(Path.cwd()), download=False)
        server = held.enter_context(found_server(path, session))
    except UnusableServerError as reason:
        if not options.quiet:
            say("note", f"the server at {quoted(path)} is not used: {reason}")
        return None
    except OSError:  # our folder was removed: names relative to it mean nothing to the server
        return None
    if server is not None and options.verbose:
        say("info", f"asking the server at {quoted(path)} (process {server.peer.pid})")
    return server


def _served(
    server: Connection, options: ExplainOptions, images: Sequence[InputImage], stages: Stages
) -> Iterator[Result]:
    """The server's results for the one model, up to the image from which this process must go on by itself."""
    together = GROUP_LIMIT if options.session.settings.fit == "batch" else TOGETHER
    for start in range(0, len(images), together):
        yield from _ask(server, options, images, range(len(images))[start : start + together], stages)


def _ask(
    server: Connection, options: ExplainOptions, images: Sequence[InputImage], indices: range, stages: Stages
) -> Iterator[Result]:
    """The results of some of the images; those that are known to be unreadable are not sent."""
    model = options.models[0]
    attached = next((data for index in indices if (data := images[index].data) is not None), b"")
    if len(attached) > ATTACHED_BYTES:
        raise RequestError(InputError.code, f"more than {ATTACHED_BYTES} bytes")
    request = ExplainImages(
        model=model,
        images=tuple(images[index].name for index in indices if images[index].failure is None),
        target=options.target,
        asks=options.asks,
        attached=len(attached),
        stream=len(images) > 1,
    )
    served = server.explain(request, attached, stages) if request.images else iter(())
    for index in indices:
        image = images[index]
        stages.begin(subject(image, index, len(images)))
        if image.failure is not None:
            yield Failure.of(image.failure, path=image.name, model=model)
            continue
        answer = next(served, None)
        if answer is None:
            raise UnusableServerError("it sent fewer results than were requested")
        yield _result(options, image, answer)
    if next(served, None) is not None:
        raise UnusableServerError("it sent more results than were requested")


def _result(options: ExplainOptions, image: InputImage, answer: ImageExplained) -> Result:
    explanation = answer.explanation
    if explanation is None:
        message, code = printable(answer.message or ""), answer.code or InputError.code
        status = (ModelError if code == ModelError.code else InputError).exit_status
        return Failure(path=image.name, model=options.models[0], code=code, message=message, exit_status=status)
    nameless = image.name == STDIN or encodable(image.name) != image.name  # it cannot be read again by its name
    if nameless and options.keep_pictures:
        return dataclasses.replace(explanation, picture=image.picture().image)
    return explanation


def results(options: ExplainOptions, images: Sequence[InputImage], stages: Stages) -> Iterator[Result]:
    """Explain every image with every model, in order; raises what is wrong with the named vocabulary or classes."""
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


def own_vocabulary(session: Session, models: Sequence[str]) -> str:
    """The vocabulary that a model brings, of several the first one; `UsageError` if none does."""
    for model in models:
        with contextlib.suppress(UsageError):
            return default_vocabulary(model)
    from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

    if not session.download:  # a missing tag, say, is to be told first
        resolve(models[0], arch=session.arch)
    return default_vocabulary(models[0])


def _explainer(options: ExplainOptions, model: str, named: Vocabulary | None, stages: Stages) -> Explainer:
    vocabulary = _vocabulary(options, own_vocabulary(options.session, [model])) if named is None else named
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
