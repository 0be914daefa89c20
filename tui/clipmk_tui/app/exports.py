"""Writes one explanation to a file, as `clipmk explain` does: JSON, the picture with its parts, or a page.

Drawing needs numpy and OpenCV, which the app's process never loads: PNG and HTML are made by a short-lived child,
``python -m clipmk_tui.app.exports KIND FILE IMAGE [ASKED]``, with the explanation on its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Literal, get_args

from clipmk.errors import ClipmkError
from clipmk.output import document
from clipmk.system.files import atomic_write, write_text
from clipmk.system.text import printable, quoted
from clipmk.worker import protocol
from clipmk_tui.show.files import check_writable

if TYPE_CHECKING:
    from PIL import Image

    from clipmk.explanation import Explanation

Kind = Literal["json", "png", "html"]  # what can be written; also the file's ending

KINDS: tuple[Kind, ...] = get_args(Kind)


async def export(explanation: Explanation, kind: Kind, path: Path, *, image: str, asked: str | None = None) -> None:
    """Write an explanation (without its picture) to a file, never half of it. Cancelling stops the child.

    `image` is the picture's path, which the explanation names differently where it is beyond UTF-8. With `asked` the
    picture has the map of that text instead of the parts. Raises `ClipmkError` with the file's name.
    """
    await asyncio.to_thread(check_writable, path, inputs=[image])
    if kind == "json":
        text = await asyncio.to_thread(lambda: document.dump(document.document([explanation])) + "\n")
        await asyncio.to_thread(write_text, text, path)  # as `clipmk explain --json` prints it
    else:
        await _write_in_child(explanation, kind, str(path), image, *([] if asked is None else [asked]))


def main(argv: Sequence[str]) -> int:
    """The child: draw and write, as the arguments say; an error becomes one line on stderr and an exit status."""
    kind, path, image, *asked = argv
    try:
        _draw(sys.stdin.buffer.read(), kind, Path(path), image, *asked)
    except ClipmkError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return error.exit_status
    return 0


def _draw(line: bytes, kind: str, path: Path, image: str, asked: str | None = None) -> None:
    from clipmk.output.html import page, section  # noqa: PLC0415
    from clipmk.output.overlay import picture_of, readable_scale  # noqa: PLC0415 - numpy, OpenCV, Pillow

    message = protocol.decode(line)
    if not isinstance(message, protocol.Explained):
        raise ClipmkError("an explanation is needed on standard input")
    explanation = message.explanation
    if kind == "png" or Path(image).exists():
        there = dataclasses.replace(explanation, image=dataclasses.replace(explanation.image, path=image))
        explanation = dataclasses.replace(explanation, picture=picture_of(there))
    if kind == "html":
        write_text(page([section(explanation)]), path)
        return
    with atomic_write(path, private=False) as handle:
        drawn = explanation.overlay(scale=readable_scale(explanation), asked=asked)
        plain = explanation.what_if is None or asked is not None
        (drawn if plain else _captioned(drawn, explanation)).save(handle, format="PNG")


def _captioned(drawn: Image.Image, explanation: Explanation) -> Image.Image:
    """The picture, and below it what is left out and what that does to the class."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

    size = max(14, min(drawn.size) // 24)
    lines = [line for text in what_if_lines(explanation) for line in wrap(printable(text), 2 * drawn.width // size)]
    page = Image.new("RGB", (drawn.width, drawn.height + (len(lines) + 1) * size * 5 // 4), "white")
    page.paste(drawn)
    at, font = (size // 2, drawn.height + size // 2), ImageFont.load_default(size)
    ImageDraw.Draw(page).multiline_text(at, "\n".join(lines), "black", font, spacing=size // 4)
    return page


def what_if_lines(explanation: Explanation) -> list[str]:
    """What is left out, and what that does to the class; nothing where nothing is."""
    made, name = explanation.what_if, explanation.class_name
    if made is None:
        return []
    before, after = (
        next((f"{100 * one.probability:.1f} %" for one in ranked or () if one.class_name == name), "")
        for ranked in (explanation.predictions, made.predictions)
    )
    change = [f"{name} {after} (before: {before})"] if before and after else []
    count = f"mutual concepts: {made.mutual.count} (before: {explanation.mutual.count})"
    return [f"left out: {', '.join(made.left_out)}", ", ".join([*change, count])]


async def _write_in_child(explanation: Explanation, kind: Kind, path: str, *image: str) -> None:
    line = await asyncio.to_thread(protocol.encode, protocol.Explained(id=1, explanation=explanation))
    ours = (str(Path(file).resolve().parents[2]) for file in (__file__, document.__file__))  # not others of that name
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "clipmk_tui.app.exports", kind, path, *image),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*ours, os.environ.get("PYTHONPATH")]))},
    )
    try:
        _, errors = await child.communicate(line)
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        raise
    if child.returncode:
        lines = errors.decode("utf-8", "backslashreplace").strip().splitlines()
        why = lines[-1] if lines else f"the drawing process ended with status {child.returncode}"
        raise ClipmkError(printable(why) if quoted(path) in why else f"{quoted(path)} cannot be written: {why}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
