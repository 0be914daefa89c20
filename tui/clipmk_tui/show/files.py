"""The files that a run writes: names that never collide, and checks before the work begins."""

import os
from collections.abc import Sequence
from pathlib import Path

from clipmk.errors import ClipmkError, UsageError
from clipmk.system.text import quoted, slug


def overlay_names(target: Path, images: Sequence[str], models: Sequence[str]) -> list[Path]:
    """The file of each overlay, models outside, images inside: FILE.png for one, else FILE-<image>[-<model>].png.

    Images of the same name in different folders get a number, so that no result overwrites another.
    """
    if len(images) == len(models) == 1:
        return [target]
    names: list[Path] = []
    taken: set[str] = set()
    for model in models:
        for image in images:
            shown = "stdin" if image == "-" else Path(image).stem
            stem = "-".join([target.stem, slug(shown), *([slug(model)] if len(models) > 1 else [])])
            name, number = stem, 2
            while name.casefold() in taken:  # some file systems ignore case
                name, number = f"{stem}-{number}", number + 1
            taken.add(name.casefold())
            names.append(target.with_name(name + target.suffix))
    return names


def check_writable(path: Path, *, inputs: Sequence[str]) -> None:
    """Refuse a file that cannot be written (`ClipmkError`) or is an input (`UsageError`), before any work."""
    folder = path.parent
    if not folder.is_dir():
        raise ClipmkError(f"{quoted(path)} cannot be written: the folder {quoted(folder)} does not exist")
    if path.exists() and not path.is_file():
        raise ClipmkError(f"{quoted(path)} cannot be written: it exists and is not a regular file")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ClipmkError(f"{quoted(path)} cannot be written: permission denied")
    if path.exists() and any(_same(path, name) for name in inputs):
        raise UsageError(f"{quoted(path)} is one of the images; name another file to write")


def _same(path: Path, name: str) -> bool:
    try:
        return path.samefile(name)
    except (OSError, ValueError):
        return False
