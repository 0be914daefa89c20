"""`clipmk vocab`: list, show and check vocabularies; build one from a language model's answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipmk.errors import UsageError, VocabularyError
from clipmk.output import document
from clipmk.system.text import quoted
from clipmk_tui.cli import options as o
from clipmk_tui.cli import tables
from clipmk_tui.cli.streams import data_stream

if TYPE_CHECKING:
    from clipmk.vocabulary.vocabulary import Vocabulary

app = typer.Typer(help="List vocabularies, show one, check one, build one.")

PROBLEMS = 3  # exit status of `check` if it finds problems

_NAME = "A vocabulary's name, or a JSON file, such as a language model's lists of descriptors per class."
Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help=_NAME, autocompletion=o.complete_vocabulary)]
_ANSWERS = "Files with answers of a language model: JSON with a list of descriptors per class."
_TEMPLATE = "Prompt of a class, with one {}; may be repeated (default: those of ImageNet)."
_CLASSES = "All classes in their order; each must be answered."


@app.command("list")
def list_vocabularies(json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """List the shipped vocabularies."""
    from clipmk.vocabulary.vocabulary import available, load_vocabulary  # noqa: PLC0415

    found = [(load_vocabulary(name), text) for name, text in available().items()]
    if json:
        tables.put_json({"vocabularies": [_entry(vocabulary) for vocabulary, _ in found]})
        return 0
    rows = [(one.name, len(one.classes), len(one.descriptors), len(one.templates), text) for one, text in found]
    columns = ("vocabulary", "classes", "descriptors", "templates", "")
    with tables.for_people(no_color) as console:
        tables.put_listing(console, columns, rows, ("templates", "descriptors", "classes"), right=(1, 2, 3))
    return 0


@app.command("show")
def show(name: Name, json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Print a vocabulary; --json prints the form that --vocab FILE reads, without a format_version."""
    from clipmk.vocabulary.vocabulary import load_vocabulary  # noqa: PLC0415

    vocabulary = load_vocabulary(name)
    if json:
        with data_stream() as stream:
            stream.write(document.dump(vocabulary.to_dict()) + "\n")
        return 0
    with tables.for_people(no_color) as console:
        for title, texts in (
            ("templates", vocabulary.templates),
            ("template of descriptors", (vocabulary.descriptor_template,)),
            ("classes", vocabulary.classes),
            ("descriptors", vocabulary.descriptors),
        ):
            console.print(tables.table((f"{title} ({len(texts)})",), [(text,) for text in texts]))
            console.print()
    return 0


@app.command("check")
def check(name: Name, json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Find repeated texts, descriptors that name a class and classes with equal descriptors; exit status 3 if any."""
    from clipmk.vocabulary.vocabulary import load_vocabulary  # noqa: PLC0415

    skipped: list[str] = []
    return _report(load_vocabulary(name, skipped=skipped), json, no_color, skipped)


@app.command("build")
def build(
    answers: Annotated[list[str], typer.Argument(metavar="ANSWER", help=_ANSWERS)],
    output: Annotated[Path, o.flag(None, "output", "Where to write the vocabulary.", "-o", metavar="FILE.json")],
    classes: Annotated[str | None, o.flag(None, "classes", _CLASSES, metavar="a,b,c|FILE")] = None,
    template: Annotated[list[str] | None, o.flag(None, "template", _TEMPLATE, metavar="TEXT")] = None,
    force: Annotated[bool, o.flag(None, "force", "Overwrite the file, with any corrections made by hand.")] = False,
    json: o.Json = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Join a language model's answers into a vocabulary file, and check it; exit status 3 if it has problems."""
    from clipmk.system.files import read_regular, write_text  # noqa: PLC0415
    from clipmk.vocabulary.answers import as_text, from_answers  # noqa: PLC0415
    from clipmk.vocabulary.classes import parse_classes  # noqa: PLC0415
    from clipmk.vocabulary.reader import MAX_BYTES  # noqa: PLC0415
    from clipmk.vocabulary.vocabulary import IMAGENET_TEMPLATES  # noqa: PLC0415

    output = output.expanduser()
    if output.suffix.lower() != ".json":
        raise UsageError(f"--output is {quoted(output)}; --vocab reads files whose name ends in .json")
    if not force and os.path.lexists(output):
        raise UsageError(f"--output is {quoted(output)}, which exists; --force overwrites it")
    listed = parse_classes(classes) if classes else None
    vocabulary = from_answers(
        (
            (f"answer {quoted(path)}", read_regular(path, limit=MAX_BYTES, noun="answer", error=VocabularyError))
            for path in answers
        ),
        name=output.stem,
        classes=listed.names if listed else (),
        templates=template or IMAGENET_TEMPLATES,
    )
    write_text(as_text(vocabulary), output)
    return _report(vocabulary if listed is None else listed.within(vocabulary), json, no_color)


def _report(vocabulary: Vocabulary, json: bool, no_color: bool, left_out: Sequence[str] = ()) -> int:
    """Print what a check finds; what had to be left out comes first."""
    from clipmk.vocabulary.lint import check as check_vocabulary  # noqa: PLC0415
    from clipmk.vocabulary.lint import context_notes  # noqa: PLC0415
    from clipmk.vocabulary.reader import join_faults  # noqa: PLC0415

    unusable = [f"cannot be used as it is: {join_faults(left_out)}"] if left_out else []
    cut, notes = context_notes(vocabulary)
    problems = [*unusable, *vocabulary.notes, *cut, *check_vocabulary(vocabulary).problems]
    if json:
        tables.put_json({"vocabulary": _entry(vocabulary), "problems": problems, "notes": notes})
    else:
        with tables.for_people(no_color) as console:
            counts = f"{len(vocabulary.classes)} classes, {len(vocabulary.descriptors)} descriptors"
            line = f"{vocabulary.name}: {counts}, {len(vocabulary.templates)} templates"
            console.print(tables.table(("",), [(line,)]))
            found = [("!", line) for line in problems] or [("ok", "no problems found")]
            console.print(tables.table(("", ""), found + [("-", line) for line in notes]))
    return PROBLEMS if problems else 0


def _entry(vocabulary: Vocabulary) -> dict[str, object]:
    return {
        "name": vocabulary.name,
        "classes": len(vocabulary.classes),
        "descriptors": len(vocabulary.descriptors),
        "templates": len(vocabulary.templates),
        "sha256": vocabulary.sha256,
    }
