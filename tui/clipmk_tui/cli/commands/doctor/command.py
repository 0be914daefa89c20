"""`clipmk doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from clipmk_tui.cli import options as o

_FULL = "Also import torch and open_clip (seconds) to list devices and cached weights."
Full = Annotated[bool, o.flag(None, "full", _FULL)]


def doctor(full: Full = False, json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Check terminal, packages, GPU, weights, cache and config; each line says what to do."""
    from rich.text import Text  # noqa: PLC0415

    from clipmk_tui.cli import tables  # noqa: PLC0415
    from clipmk_tui.cli.commands.doctor.checks import checks  # noqa: PLC0415

    with tables.for_people(no_color) as console:
        found = list(checks(full=full))
        if not json:
            for check in found:
                sign = Text("ok  ", "green") if check.status == "ok" else Text("warn", "bold yellow")
                rows: list[tuple[object, ...]] = [(sign, check.name, check.detail)]
                if check.hint is not None:
                    rows.append(("", "", f"-> {check.hint}"))
                table = tables.table(("", "", ""), rows)
                table.columns[1].min_width = 15
                console.print(table)
    if json:
        tables.put_json({"checks": [asdict(check) for check in found]})
    return 0
