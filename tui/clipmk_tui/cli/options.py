"""The options that commands share, as types: their names, help and completion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from clipmk.errors import ClipmkError
from clipmk.settings import PRESETS

_WORDS, _HOW, _OUT, _SAY = "What to explain with", "How", "Output", "Manners"


def _starting(known: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Embedded and registered models: those that are known without importing open_clip."""
    from clipmk.models.catalog import embedded_names, registered_models  # noqa: PLC0415

    try:
        return _starting([*embedded_names(), *registered_models()], incomplete)
    except ClipmkError:  # a broken config must not break the shell
        return _starting(embedded_names(), incomplete)


def complete_registered(incomplete: str) -> list[str]:
    """Models registered in the config."""
    from clipmk.models.catalog import registered_models  # noqa: PLC0415

    try:
        return _starting(registered_models(), incomplete)
    except ClipmkError:  # a broken config must not break the shell
        return []


def complete_vocabulary(incomplete: str) -> list[str]:
    """Shipped vocabularies."""
    from clipmk.vocabulary.vocabulary import available  # noqa: PLC0415

    return _starting(available(), incomplete)


Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help="Files, folders (not recursive), patterns, or - for standard input."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="embedded/NAME, NAME:TAG as open_clip prints it, hf-hub:ORG/REPO, local-dir:FOLDER, a checkpoint file "
        "(with --arch) or a name from the config; may be repeated.",
        autocompletion=complete_model,
        rich_help_panel=_WORDS,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="a,b,c|FILE", help="Classes instead of the vocabulary's; descriptors stay.", rich_help_panel=_WORDS
    ),
]
Vocabulary = Annotated[
    str | None,
    typer.Option(
        "--vocab",
        metavar="NAME|FILE",
        help="Vocabulary; embedded models bring their own.",
        autocompletion=complete_vocabulary,
        rich_help_panel=_WORDS,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="CLASS", help="Explain this class, not the predicted one.", rich_help_panel=_WORDS),
]
Arch = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="open_clip's architecture, for a checkpoint file.", rich_help_panel=_WORDS),
]
Download = Annotated[
    bool | None,
    typer.Option("--download", help="Fetch missing weights; nothing downloads without.", rich_help_panel=_WORDS),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(PRESETS),
        help="All settings at once; paper is the published method to the letter.",
        autocompletion=lambda incomplete: _starting(PRESETS, incomplete),
        rich_help_panel=_HOW,
    ),
]
Grounding = Annotated[
    str | None,
    typer.Option(
        metavar="prompts|attend",
        help="How parts are looked at: drawn prompts, or masked pooling (faster).",
        autocompletion=lambda incomplete: _starting(("prompts", "attend"), incomplete),
        rich_help_panel=_HOW,
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of every drawn number.", rich_help_panel=_HOW)]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where the model runs.",
        autocompletion=lambda incomplete: _starting(("auto", "cpu", "cuda", "mps"), incomplete),
        rich_help_panel=_HOW,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|bf16|fp16",
        help="Of the model's weights.",
        autocompletion=lambda incomplete: _starting(("fp32", "bf16", "fp16"), incomplete),
        rich_help_panel=_HOW,
    ),
]
NoCache = Annotated[
    bool | None,
    typer.Option("--no-cache", help="Neither read nor write embedded vocabularies.", rich_help_panel=_HOW),
]
Serve = Annotated[
    bool | None,
    typer.Option(
        "--serve/--no-serve",
        help="Ask a running `clipmk serve` (the default); or do the work here in any case.",
        rich_help_panel=_HOW,
    ),
]
Json = Annotated[bool | None, typer.Option("--json", help="One JSON document.", rich_help_panel=_OUT)]
Jsonl = Annotated[bool | None, typer.Option("--jsonl", help="One JSON line per result.", rich_help_panel=_OUT)]
Overlay = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.png",
        help="Write the picture with its parts; several results: FILE-<image>[-<model>].png.",
        rich_help_panel=_OUT,
    ),
]
Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE.html", help="Write one self-contained page.", rich_help_panel=_OUT),
]
Top = Annotated[int | None, typer.Option(metavar="N", help="How many classes to report.", rich_help_panel=_OUT)]
NoPicture = Annotated[
    bool | None, typer.Option("--no-picture", help="No picture in the terminal.", rich_help_panel=_OUT)
]
Quiet = Annotated[
    bool | None, typer.Option("--quiet", "-q", help="No notes, warnings or progress.", rich_help_panel=_SAY)
]
Verbose = Annotated[
    bool | None, typer.Option("--verbose", "-v", help="All concepts, and a log on stderr.", rich_help_panel=_SAY)
]
NoColor = Annotated[bool | None, typer.Option("--no-color", help="No colours.", rich_help_panel=_SAY)]
Debug = Annotated[bool | None, typer.Option("--debug", help="Show where an error comes from.", rich_help_panel=_SAY)]
