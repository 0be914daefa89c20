"""Where results go: text or JSON on stdout, files, and failures and warnings on stderr."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.records import Failure
from clipmk.system.files import atomic_write, write_text
from clipmk_tui.cli.errors import with_origin
from clipmk_tui.cli.streams import DataStream, say, text_console
from clipmk_tui.show.files import check_writable, overlay_names

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import Console

    from clipmk_tui.cli.commands.explain.options import ExplainOptions
    from clipmk_tui.cli.commands.explain.results import Result

_PICTURE_ROWS = 20


class Outputs:
    """Text or JSON on the real stdout, and the files that are asked for; `ClipmkError` if one cannot be written."""

    def __init__(self, options: ExplainOptions, images: Sequence[str], stream: DataStream) -> None:
        self._options, self._stream = options, stream
        self._console = text_console(stream, no_color=options.no_color) if options.form == "text" else None
        paths = overlay_names(options.overlay, images, options.models) if options.overlay is not None else []
        for path in [*paths, *([options.html] if options.html is not None else [])]:
            check_writable(path, inputs=images)
        self._overlays = iter(paths)
        self._kept: list[Result] = []
        self._sections: list[Markup] = []
        self._first = True

    def add(self, result: Result) -> None:
        """Write one more result, or keep it for the end; failures are no part of the text."""
        form, overlay = self._options.form, next(self._overlays, None)
        if form == "json":
            kept = dataclasses.replace(result, picture=None) if isinstance(result, Explanation) else result
            self._kept.append(kept)
        elif form == "jsonl":
            self._stream.write(document.dump(document.entry(result), indent=None) + "\n")
        elif self._console is not None and isinstance(result, Explanation):
            self._report(self._console, result)
        self._stream.flush()
        if overlay is not None and isinstance(result, Explanation):
            from clipmk.output.overlay import readable_scale  # noqa: PLC0415

            with atomic_write(overlay, private=False) as file:
                only = result.asked[0] if len(result.asked) == 1 and result.asked[0].map is not None else None
                drawn = result.overlay(scale=readable_scale(result), asked=None if only is None else only.text)
                drawn.save(file, format="PNG")
        if self._options.html is not None:
            from clipmk.output.html import section  # noqa: PLC0415

            self._sections.append(section(result))

    def finish(self) -> None:
        """Write what is about all results: the page and the JSON document."""
        if self._options.html is not None:
            from clipmk.output.html import page  # noqa: PLC0415

            write_text(page(self._sections), self._options.html)
        if self._options.form == "json":
            self._stream.write(document.dump(document.document(self._kept)) + "\n")
            self._stream.flush()

    def _report(self, console: Console, explanation: Explanation) -> None:
        from clipmk_tui.cli.commands.explain.report import report  # noqa: PLC0415 - rich

        lines = []
        if not self._first:
            console.rule(characters="─", style="dim")
        self._first = False
        if self._options.picture and console.color_system is not None and not console.no_color:
            from clipmk_tui.show.half_blocks import explained_picture  # noqa: PLC0415 - term-image

            columns = min(2 * _PICTURE_ROWS, console.width * 2 // 5)
            lines = explained_picture(explanation, columns=columns, rows=_PICTURE_ROWS)
        everything = self._options.verbose
        console.print(report(explanation, width=console.width, everything=everything, picture=lines))


class FailureLog:
    """Prints failures on stderr at once, and at the end warnings, with the names of all models if `by_model`."""

    def __init__(self, *, quiet: bool, by_model: bool = False) -> None:
        self._quiet, self._by_model = quiet, by_model
        self._last = ""
        self._warnings: dict[str, list[str]] = defaultdict(list)
        self.status = 0  # the highest exit status so far

    def add(self, result: Result) -> None:
        """Print a failure; that of a whole model once."""
        if isinstance(result, Failure):
            self.status = max(self.status, result.exit_status)
            if result.message != self._last:
                say("error", with_origin(result.message))
            self._last = result.message
        else:
            for warning in result.warnings:
                self._warnings[warning].append(result.model.id if self._by_model else result.image.path or "-")

    def finish(self) -> None:
        """Print each warning once."""
        if self._quiet:
            return
        for warning, names in self._warnings.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            say("warning", f"{', '.join(names) if self._by_model else names[0] + more}: {warning}")
