"""`clipmk explain` by a server where one would answer the same, by this process otherwise, with the same results."""

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
from clipmk.worker.client import Connection, DeclinedError, UnusableServerError, find_server
from clipmk.worker.protocol import ATTACHED_BYTES, ExplainImages, Progress
from clipmk.worker.session import Session
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


def answers(choices: ExplainOptions, sources: Sequence[InputImage], stages: Stages) -> Iterator[Result]:
    """Explain every image with every model, in order, as `explaining.results` does (see there for what it raises).

    Whatever the server declines is done here: so every error is worded, and weighed, as if there were no server.
    """
    with contextlib.ExitStack() as held:
        server = _found(held, choices)
        if server is None:
            yield from results(choices, sources, stages)
            return
        asker = _Asker(choices, stages, server)
        for model in choices.models:
            yield from asker.explained(model, sources)


def _found(held: contextlib.ExitStack, choices: ExplainOptions) -> Connection | None:
    """A server that would answer as we would, told what all requests share."""
    if not choices.serve:
        return None
    path = socket_path()
    try:
        server = find_server(path)
        if server is None:
            return None
        held.callback(server.close)
        server.begin(_session(choices))
    except UnusableServerError as reason:
        if not choices.quiet:
            say("note", f"the server at {quoted(path)} is not used: {reason}")
        return None
    except OSError:  # our folder was removed: names relative to it mean nothing to the server
        return None
    if choices.verbose:
        say("info", f"asking the server at {quoted(path)} (process {server.peer.pid})")
    return server


def _session(choices: ExplainOptions) -> Session:
    return Session(
        folder=str(Path.cwd()),
        vocabulary=choices.vocabulary,
        classes=choices.classes,
        settings=choices.settings,
        device=choices.device,
        precision=choices.precision,
        arch=choices.arch,
        cache=choices.cache,
    )


class _Asker:
    """Asks the server as long as there is one."""

    def __init__(self, choices: ExplainOptions, stages: Stages, server: Connection) -> None:
        self._choices = choices
        self._stages = stages
        self._server: Connection | None = server

    def explained(self, model: str, sources: Sequence[InputImage]) -> Iterator[Result]:
        """Explain every image with one model."""
        done = 0
        for result in self._served(model, sources):
            done += 1
            yield result
        if done < len(sources):
            yield from results(dataclasses.replace(self._choices, models=(model,)), sources[done:], self._stages)

    def _served(self, model: str, sources: Sequence[InputImage]) -> Iterator[Result]:
        """The server's results, up to where we must go on ourselves."""
        together = GROUP_LIMIT if self._choices.settings.fit == "batch" else TOGETHER
        try:
            for start in range(0, len(sources), together):
                if self._server is None:
                    return
                yield from self._asked(self._server, model, sources, range(len(sources))[start : start + together])
        except UnusableServerError as reason:
            self._server = None
            self._note(f"the server is not used any more: {reason}")
        except DeclinedError as reason:
            if reason.reason in {OUT_OF_MEMORY, UNEXPECTED}:
                self._note(f"the server could not do it: {reason}")

    def _asked(self, server: Connection, model: str, sources: Sequence[InputImage], indices: range) -> Iterator[Result]:
        """The results of some of the sources; one that cannot be read here is not asked about."""
        attached = b""
        for source in (sources[index] for index in indices):
            if source.name == STDIN:
                with contextlib.suppress(InputError):  # remembered as its failure
                    attached = source.data()
        if len(attached) > ATTACHED_BYTES:
            raise DeclinedError(InputError.code, f"more than {ATTACHED_BYTES} bytes")
        request = ExplainImages(
            model=model,
            images=tuple(sources[index].name for index in indices if sources[index].failure is None),
            target=self._choices.target,
            attached=len(attached),
            stream=len(sources) > 1,
        )
        served = server.explain(request, attached, self._progress) if request.images else iter(())
        for index in indices:
            source = sources[index]
            self._stages.begin(subject(source, index, len(sources)))
            if source.failure is not None:
                yield Failure.of(source.failure, path=source.name, model=model)
            elif (one := next(served, None)) is not None:
                yield self._result(model, source, one)
        if next(served, None) is not None:
            raise UnusableServerError("it says more than it was asked")

    def _result(self, model: str, source: InputImage, served: ImageExplained) -> Result:
        made = served.explanation
        if made is None:
            message, code = printable(served.message or ""), served.code or InputError.code
            status = (ModelError if code == ModelError.code else InputError).exit_status
            return Failure(path=source.name, model=model, code=code, message=message, exit_status=status)
        return dataclasses.replace(made, picture=source.picture().image) if self._must_carry(source) else made

    def _must_carry(self, source: InputImage) -> bool:
        """Whether the picture is wanted and cannot be read again by the name that the explanation has."""
        nameless = source.name == STDIN or encodable(source.name) != source.name
        return nameless and self._choices.keep_pictures

    def _progress(self, progress: Progress) -> None:
        self._stages(progress.stage, progress.done, progress.total)

    def _note(self, message: str) -> None:
        self._stages.clear()
        if not self._choices.quiet:
            say("note", message)
