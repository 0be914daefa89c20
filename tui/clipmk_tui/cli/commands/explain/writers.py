"""Where results go: text or JSON on stdout, files, and failures and warnings on stderr."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.records import Failure
from clipmk_tui.cli.errors import with_origin
from clipmk_tui.cli.streams import DataStream, say, text_console
from clipmk_tui.show.files import check_writable, overlay_names, write_png, write_text

if TYPE_CHECKING:
    from markupsafe import Markup

    from clipmk_tui.cli.commands.explain.options import ExplainOptions
    from clipmk_tui.cli.commands.explain.results import Result

_PICTURE_ROWS = 20


class Writer:
    """Takes results as they come."""

    def add(self, result: Result) -> None:
        """Take one more result."""

    def finish(self) -> None:
        """There are no more results."""


class TextWriter(Writer):
    """Prints a report per explanation."""

    def __init__(self, stream: DataStream, *, picture: bool, everything: bool, no_color: bool) -> None:
        self._console = text_console(stream, no_color=no_color)
        self._stream = stream
        self._everything = everything
        self._picture = picture and self._console.color_system is not None and not self._console.no_color
        self._first = True

    def add(self, result: Result) -> None:
        """Print it; failures go to stderr."""
        from clipmk_tui.cli.commands.explain.report import report  # noqa: PLC0415

        if isinstance(result, Failure):
            return
        if not self._first:
            self._console.rule(characters="─", style="dim")
        self._first = False
        width = self._console.width
        lines = []
        if self._picture:
            from clipmk_tui.show.half_blocks import explained_picture  # noqa: PLC0415 - term-image

            columns = max(16, min(2 * _PICTURE_ROWS, width * 2 // 5))
            lines = explained_picture(result, columns=columns, rows=_PICTURE_ROWS)
        self._console.print(report(result, width=width, everything=self._everything, picture=lines))
        self._stream.flush()


class JsonWriter(Writer):
    """Prints one document at the end."""

    def __init__(self, stream: DataStream) -> None:
        self._stream = stream
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        """Keep it, without its picture."""
        if isinstance(result, Explanation):
            result = dataclasses.replace(result, picture=None)
        self._results.append(result)

    def finish(self) -> None:
        """Print the document."""
        self._stream.write(document.dump(document.document(self._results)) + "\n")
        self._stream.flush()


class JsonLinesWriter(Writer):
    """Prints one JSON line per result, at once."""

    def __init__(self, stream: DataStream) -> None:
        self._stream = stream

    def add(self, result: Result) -> None:
        """Print its line."""
        self._stream.write(document.dump(document.entry(result), indent=None) + "\n")
        self._stream.flush()


class OverlayWriter(Writer):
    """Writes a PNG file per explanation; small pictures are magnified so that the numbers can be read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = iter(paths)

    def add(self, result: Result) -> None:
        """Write its overlay."""
        from clipmk.output.overlay import readable_scale  # noqa: PLC0415

        path = next(self._paths)
        if isinstance(result, Explanation):
            write_png(result.overlay(scale=readable_scale(result)), path)


class PageWriter(Writer):
    """Writes one HTML file at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sections: list[Markup] = []

    def add(self, result: Result) -> None:
        """Lay it out."""
        from clipmk.output.html import section  # noqa: PLC0415

        self._sections.append(section(result))

    def finish(self) -> None:
        """Write the file."""
        from clipmk.output.html import page  # noqa: PLC0415

        write_text(page(self._sections), self._path)


class FailureLog(Writer):
    """Prints failures on stderr at once, and warnings at the end."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = ""
        self._warnings: dict[str, list[str]] = defaultdict(list)
        self.status = 0
        """The highest exit status so far."""

    def add(self, result: Result) -> None:
        """Print a failure; that of a whole model once."""
        if isinstance(result, Failure):
            self.status = max(self.status, result.exit_status)
            if result.message != self._last:
                say("error", with_origin(result.message))
            self._last = result.message
        else:
            for warning in result.warnings:
                self._warnings[warning].append(result.image.path or "-")

    def finish(self) -> None:
        """Print each warning once."""
        if self._quiet:
            return
        for warning, images in self._warnings.items():
            more = f" and {len(images) - 1} more" if len(images) > 1 else ""
            say("warning", f"{images[0]}{more}: {warning}")


def writers(options: ExplainOptions, images: Sequence[str], stream: DataStream) -> list[Writer]:
    """The writers of every requested output.

    Raises:
        ClipmkError: a file cannot be written.
    """
    made: list[Writer] = []
    if options.form == "json":
        made.append(JsonWriter(stream))
    elif options.form == "jsonl":
        made.append(JsonLinesWriter(stream))
    else:
        made.append(TextWriter(stream, picture=options.picture, everything=options.verbose, no_color=options.no_color))
    if options.overlay is not None:
        paths = overlay_names(options.overlay, images, options.models)
        for path in paths:
            check_writable(path, inputs=images)
        made.append(OverlayWriter(paths))
    if options.html is not None:
        check_writable(options.html, inputs=images)
        made.append(PageWriter(options.html))
    return made
