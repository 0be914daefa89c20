"""`clipmk explain` by a running server that would answer the same, else by this process, with the same results."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipmk.errors import OUT_OF_MEMORY, UNEXPECTED, InputError, ModelError
from clipmk.records import Failure
from clipmk.settings import GROUP_LIMIT
from clipmk.system.locations import socket_path
from clipmk.system.text import encodable, printable, quoted
from clipmk.worker.client import Connection, UnusableServerError, found_server
from clipmk.worker.protocol import ATTACHED_BYTES, ExplainImages, RequestError
from clipmk_tui.cli.commands.explain.results import Result, results, subject
from clipmk_tui.cli.inputs import STDIN
from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from clipmk.worker.protocol import ImageExplained
    from clipmk_tui.cli.commands.explain.options import ExplainOptions
    from clipmk_tui.cli.inputs import InputImage
    from clipmk_tui.cli.progress import Stages

TOGETHER = 8
"""Images of one request, of a run of many: enough for a GPU, and other clients do not wait for long."""


def answers(options: ExplainOptions, images: Sequence[InputImage], stages: Stages) -> Iterator[Result]:
    """Explain every image with every model, in order (see `commands.explain.results` for what it raises).

    Whatever the server declines is done here: so every error is worded, and weighed, as if there were no server.
    """
    with contextlib.ExitStack() as held:
        server = _find(options, held)
        if server is None:
            yield from results(options, images, stages)
            return
        asker = _ServerRun(options, stages, server)
        for model in options.models:
            yield from asker.explain(model, images)


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


class _ServerRun:
    """A run that asks the server as long as there is one."""

    def __init__(self, options: ExplainOptions, stages: Stages, server: Connection) -> None:
        self._options = options
        self._stages = stages
        self._server: Connection | None = server

    def explain(self, model: str, images: Sequence[InputImage]) -> Iterator[Result]:
        """Explain every image with one model."""
        done = 0
        for result in self._server_results(model, images):
            done += 1
            yield result
        if done < len(images):
            yield from results(dataclasses.replace(self._options, models=(model,)), images[done:], self._stages)

    def _server_results(self, model: str, images: Sequence[InputImage]) -> Iterator[Result]:
        """The server's results, up to the image from which this process must go on by itself."""
        together = GROUP_LIMIT if self._options.session.settings.fit == "batch" else TOGETHER
        try:
            for start in range(0, len(images), together):
                if self._server is None:
                    return
                yield from self._ask(self._server, model, images, range(len(images))[start : start + together])
        except UnusableServerError as reason:
            self._server = None
            self._note(f"the server is no longer used: {reason}")
        except RequestError as reason:
            if reason.reason in {OUT_OF_MEMORY, UNEXPECTED}:
                self._note(f"the server could not do it: {reason}")

    def _ask(self, server: Connection, model: str, images: Sequence[InputImage], indices: range) -> Iterator[Result]:
        """The results of some of the images; those that are known to be unreadable are not sent."""
        attached = next((data for index in indices if (data := images[index].data) is not None), b"")
        if len(attached) > ATTACHED_BYTES:
            raise RequestError(InputError.code, f"more than {ATTACHED_BYTES} bytes")
        request = ExplainImages(
            model=model,
            images=tuple(images[index].name for index in indices if images[index].failure is None),
            target=self._options.target,
            asks=self._options.asks,
            attached=len(attached),
            stream=len(images) > 1,
        )
        served = server.explain(request, attached, self._stages) if request.images else iter(())
        for index in indices:
            image = images[index]
            self._stages.begin(subject(image, index, len(images)))
            if image.failure is not None:
                yield Failure.of(image.failure, path=image.name, model=model)
                continue
            answer = next(served, None)
            if answer is None:
                raise UnusableServerError("it sent fewer results than were requested")
            yield self._result(model, image, answer)
        if next(served, None) is not None:
            raise UnusableServerError("it sent more results than were requested")

    def _result(self, model: str, image: InputImage, answer: ImageExplained) -> Result:
        explanation = answer.explanation
        if explanation is None:
            message, code = printable(answer.message or ""), answer.code or InputError.code
            status = (ModelError if code == ModelError.code else InputError).exit_status
            return Failure(path=image.name, model=model, code=code, message=message, exit_status=status)
        nameless = image.name == STDIN or encodable(image.name) != image.name  # it cannot be read again by its name
        if nameless and self._options.keep_pictures:
            return dataclasses.replace(explanation, picture=image.picture().image)
        return explanation

    def _note(self, message: str) -> None:
        self._stages.clear()
        if not self._options.quiet:
            say("note", message)
