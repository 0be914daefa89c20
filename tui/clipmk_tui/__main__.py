"""The entry point `clipmk`: opens the app or runs the command line; errors become an exit status."""

import os
import sys
from collections.abc import Sequence

from clipmk_tui.cli.errors import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (None: the process's own arguments), and return its exit status."""
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> int:
    """Imported late, so that Ctrl-C is handled during the imports too."""
    if not argv and "_CLIPMK_COMPLETE" not in os.environ:  # a shell that asks for completions gives no argument either
        from clipmk_tui.app.launch import launch  # noqa: PLC0415 - without Typer: the first paint waits for this
        from clipmk_tui.app.start_options import resolve_start_options  # noqa: PLC0415

        return launch(resolve_start_options((), {}))
    from clipmk_tui.cli.main import run  # noqa: PLC0415

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
