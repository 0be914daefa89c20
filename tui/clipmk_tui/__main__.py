"""The entry point `clipmk`: the one place where errors become a line on stderr and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clipmk_tui.cli.errors import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 ok, 1 run-time, 2 usage, 3 input, 4 model, 5 device, 130 interrupted.
    """
    return guarded(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
