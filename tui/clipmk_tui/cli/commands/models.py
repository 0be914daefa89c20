"""`clipmk models`: list models, look one up, download one, and name the user's own."""

from __future__ import annotations

import json as json_text
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from clipmk.errors import ModelError, UsageError, suggest
from clipmk.records import FAMILIES, ModelEntry
from clipmk.system.text import byte_size, quoted
from clipmk_tui.cli import options as o
from clipmk_tui.cli import tables
from clipmk_tui.cli.default_commands import did_you_mean
from clipmk_tui.cli.streams import data_stream, logging_to_stderr, say

if TYPE_CHECKING:
    from rich.console import Console

    from clipmk import records

T = TypeVar("T", bound=str)

app = typer.Typer(help="List models, look one up, download one, name your own.")

SOURCES: tuple[records.Source, ...] = ("embedded", "local", "cached", "remote")
_RANDOM = "random"  # the tag of random weights, as `clipmk.models.catalog` has it
_GENERATED = "random weights are generated when the model is loaded"

_PRETRAINED = "Only weights with this in their tag or training data, such as laion2b."
_MOST = "Only models with at most this many parameters, such as 200M or 1.5B."
Model = Annotated[str, typer.Argument(metavar="MODEL", help="As for -m.", autocompletion=o.complete_model)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="New name of the model.")]
# a variable that is meant for one run must not end up in the config
ArchToKeep = Annotated[str | None, o.flag(None, "arch", o.ARCH_HELP, metavar="NAME")]
Path_ = Annotated[str, typer.Argument(metavar="PATH", help="A folder, a checkpoint file, or a model as for -m.")]
Registered = Annotated[
    str, typer.Argument(metavar="NAME", help="A registered name.", autocompletion=o.complete_registered)
]


@app.command("list")
def list_models(  # noqa: PLR0913, PLR0917 - an option each
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD...]", help="Only models with all these words in id, family, source or data."),
    ] = None,
    source: Annotated[
        list[str] | None, o.flag(None, "source", "Only these sources. May be repeated.", metavar="|".join(SOURCES))
    ] = None,
    family: Annotated[
        list[str] | None, o.flag(None, "family", "Only these families. May be repeated.", metavar="|".join(FAMILIES))
    ] = None,
    pretrained: Annotated[str | None, o.flag(None, "pretrained", _PRETRAINED, metavar="TEXT")] = None,
    cached: Annotated[bool, o.flag(None, "cached", "Only models on this machine.")] = False,
    max_parameters: Annotated[str | None, o.flag(None, "max_parameters", _MOST, metavar="N")] = None,
    json: o.Json = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """List embedded, registered, cached and downloadable models. `clipmk models WORD` does the same."""
    from clipmk.models.catalog import list_models as listed  # noqa: PLC0415
    from clipmk_tui.show.text import matches  # noqa: PLC0415 - rich

    sources = [name for name in _known("source", source, SOURCES) if not (cached and name == "remote")]
    families = _known("family", family, tuple(FAMILIES))
    most = None if max_parameters is None else parameter_count(max_parameters)
    query, part = " ".join(words or ()), (pretrained or "").casefold()
    with tables.for_people(no_color) as console, logging_to_stderr(quiet=False, verbose=False):
        entries = [
            entry
            for entry in listed(sources)
            if entry.family in families
            and matches(query, f"{entry.id} {entry.family} {entry.source} {entry.data or ''}")
            and part in f"{entry.pretrained or ''} {entry.data or ''}".casefold()
            and (most is None or (entry.parameters is not None and entry.parameters <= most))
        ]
        if not json:
            _print_list(console, entries)
    if json:
        tables.put_json({"models": [asdict(entry) for entry in entries]})
    elif not entries:
        commands = [one.name or "" for one in app.registered_commands]
        what = f" {quoted(query)}{did_you_mean('models', words[0], commands)}" if words else ""
        say("note", f"no model matches{what}")
    return 0


@app.command("info")
def info(model: Model, json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Show what is known about one model; `models list NAME` lists the tags that NAME has."""
    with data_stream(), logging_to_stderr(quiet=False, verbose=False):
        entry = _find(model)
    return _put(entry, json=json, no_color=no_color)


@app.command("pull")
def pull(
    model: Model, quiet: o.Quiet = False, json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False
) -> int:
    """Download a model's weights, configuration and tokenizer to the Hugging Face cache; run again to resume."""
    from clipmk_tui.cli.progress import download_progress  # noqa: PLC0415

    with data_stream():
        if not quiet:
            _warn_if_too_large(model)
        from clipmk.models.loading import pull as download  # noqa: PLC0415 - torch and open_clip: seconds

        with download_progress(quiet=quiet) as progress, logging_to_stderr(quiet=quiet, verbose=False):
            entry = download(model, progress=progress)
    if entry.pretrained == _RANDOM and not quiet:
        say("note", f"{entry.id} has no weights to download: {_GENERATED}")
    return _put(entry, json=json, no_color=no_color)


@app.command("add")
def add(name: Name, path: Path_, arch: ArchToKeep = None, debug: o.Debug = False) -> int:
    """Register NAME for a folder, a checkpoint or a model in the config file."""
    from clipmk.models.registry import register  # noqa: PLC0415

    with logging_to_stderr(quiet=False, verbose=False):
        target = register(name, path, arch=arch)
    say("note", f"{name} stands for {target}")
    return 0


@app.command("remove")
def remove(name: Registered, debug: o.Debug = False) -> int:
    """Remove a registered name; its files stay."""
    from clipmk.models.registry import unregister  # noqa: PLC0415

    say("note", f"{name} no longer stands for {unregister(name)}")
    return 0


def _known(what: str, given: list[str] | None, known: Sequence[T]) -> list[T]:
    """The given names in the usual order, or all names if none is given."""
    for name in given or ():
        o.check_known(what, name, known)
    return [name for name in known if not given or name in given]


def parameter_count(text: str) -> int:
    """Read a number of parameters: "86M", "1.5B", "900k", "1000000"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmb]?)", text.strip().lower())
    if found is None:
        raise UsageError(f"--max-parameters is {text!r}; it must be a number such as 200M or 1.5B")
    return int(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[found[2]])


def _warn_if_too_large(model: str) -> None:
    """Warn before a long download that this machine cannot load the model."""
    from clipmk.models.catalog import list_models as listed  # noqa: PLC0415
    from clipmk.models.inventory import canonical  # noqa: PLC0415
    from clipmk.system.memory import machine_memory  # noqa: PLC0415

    known = {entry.id: entry.parameters for entry in listed(("cached", "remote"))}
    needed, present = 4 * (known.get(canonical(model)) or 0), machine_memory()
    if needed > present:
        has = f"this machine has {byte_size(present)}"
        say("warning", f"{canonical(model)} needs {byte_size(needed)} of memory to load; {has}")


def _find(model: str) -> ModelEntry:
    """The entry of a model, whether its weights are here or not."""
    from clipmk.models.catalog import list_models as listed  # noqa: PLC0415
    from clipmk.models.inventory import canonical  # noqa: PLC0415

    entries = {entry.id: entry for entry in listed(("embedded", "local"))}
    if model not in entries:
        entries |= {entry.id: entry for entry in listed(("cached", "remote"))}
        model = model if model in entries and model.startswith("hf-hub:") else canonical(model)
    if model in entries:
        return entries[model]
    from clipmk.models.spec import resolve  # noqa: PLC0415 - knows folders, checkpoints and near misses

    try:
        return resolve(model).entry
    except ModelError as error:
        if ":" not in model or model.partition(":")[0] not in {name.partition(":")[0] for name in entries}:
            raise
        raise ModelError(f"model {model!r} does not exist; {suggest(model, entries)}") from error


def _put(entry: ModelEntry, *, json: bool, no_color: bool) -> int:
    """Print everything known about a model, and how it was trained if it is embedded."""
    path = Path(entry.path or "", "card.json")
    card: dict[str, Any] | None = None
    if entry.source == "embedded" and path.is_file():
        card = json_text.loads(path.read_text(encoding="utf-8"))
    rows: list[tuple[str, object]] = list(_facts(entry).items())
    for key, value in (card or {}).items():
        rows.append((key, value if isinstance(value, str | int | float) else json_text.dumps(value)))
    return tables.put_facts({"model": asdict(entry), "card": card}, rows, json=json, no_color=no_color)


def _print_list(console: Console, entries: Iterable[ModelEntry]) -> None:
    rows = [
        (one.id, one.source, one.family, one.input_size, _count(one.parameters), data)
        for one in entries
        for data in [f"= {one.alias_of}" if one.alias_of else one.data or "-"]
    ]
    columns = ("model", "source", "family", "px", "parameters", "trained on")
    unbroken = max((len(word) for row in rows for word in row[-1].split()), default=0)  # an alias names a model, too
    droppable = ("px", "family", "trained on", "parameters", "source")
    tables.put_listing(console, columns, rows, droppable, right=(3, 4), fewest=max(16, unbroken))


def _count(number: int | None) -> str:
    """151,277,313 as "151 M"; "-" if unknown."""
    if number is None:
        return "-"
    unit, size = ("B", 1e9) if number >= 999.5e6 else ("M", 1e6)
    return f"{number / size:.3g} {unit}"


def _facts(entry: ModelEntry) -> dict[str, str]:
    """Everything known about a model but how it was trained."""
    from clipmk.models.local import config_in  # noqa: PLC0415

    random = entry.pretrained == _RANDOM
    # the name of a folder is not one of open_clip's
    own = entry.id.startswith("hf-hub:") or (entry.path is not None and Path(entry.path).is_dir())
    weights = Path(entry.weights or "-")
    config = config_in(weights.parent).name
    size, count = "unknown until the model is loaded", entry.parameters
    if count is not None:
        size = f"{_count(count)}, {count * 4 / 1e9:.2g} GB in fp32"
    licence = f"{entry.licence} ({entry.licence_source})" if entry.licence else "not known here; see the model card"
    pairs = "" if entry.data_pairs is None else f", {_count(entry.data_pairs)} image-text pairs"
    samples = "" if entry.samples_seen is None else f", {_count(entry.samples_seen)} seen"
    training = "unknown" if entry.data is None else f"{entry.data}{pairs}{samples}"
    place = entry.path or "not on this machine; clipmk models pull downloads it"
    return {
        "model": entry.id,
        "source": entry.source,
        "architecture": f"its own configuration, {config}" if own else entry.architecture,
        "pretrained": entry.pretrained or "-",
        "family": entry.family,
        "input": f"{entry.input_size} px",
        "embedding": f"{entry.embed_dim} numbers",
        "parameters": size,
        "trained on": "nothing" if random else training,
        "licence": "-" if random else licence,
        "needs transformers": "yes" if entry.needs_transformers else "no",
        "repository": entry.repository or "-",
        "weights": weights.name,
        "path": f"none: {_GENERATED}" if random else place,
    }
