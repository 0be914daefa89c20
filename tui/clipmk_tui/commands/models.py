"""`clipmk models`: what exists, what one is, and fetching one."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmk.errors import ModelError, UsageError, suggest
from clipmk_tui import options as o
from clipmk_tui.output import say

if TYPE_CHECKING:
    from clipmk import records
    from clipmk.records import ModelEntry

app = typer.Typer(help="List models, look one up, fetch one.")

SOURCES: tuple[records.Source, ...] = ("embedded", "local", "cached", "remote")

Filter = Annotated[
    list[str] | None,
    typer.Argument(metavar="[WORD...]", help="Only models with all these words in id, family or source."),
]
Source = Annotated[
    list[str] | None,
    typer.Option(metavar="|".join(SOURCES), help="Only these sources; may be repeated."),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="As for -m.", autocompletion=o.complete_model)]


@app.command("list")
def list_models(
    words: Filter = None,
    source: Source = None,
    json: o.Json = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """List embedded, registered, cached and downloadable models. `clipmk models WORD` does the same."""
    from clipmk.backbones.catalog import list_models as listed  # noqa: PLC0415
    from clipmk_tui import present  # noqa: PLC0415

    for name in source or ():
        if name not in SOURCES:
            raise UsageError(f"source {name!r} does not exist; choose from: {', '.join(SOURCES)}")
    wanted = [name for name in SOURCES if not source or name in source]
    with present.for_people(no_color) as console:
        entries = [entry for entry in listed(wanted) if _matches(entry, words or ())]
        if not present.wants_json(json):
            present.put_table(console, _table(entries))
    if present.wants_json(json):
        present.put_json({"models": [asdict(entry) for entry in entries]})
    elif not entries:
        say("note", f"no model matches {' '.join(words or ())!r}")
    return 0


@app.command("info")
def info(model: Model, json: o.Json = None, no_color: o.NoColor = None, debug: o.Debug = None) -> int:
    """Show what is known about one model; a bare NAME lists its tags."""
    from clipmk_tui import present  # noqa: PLC0415

    with present.for_people(no_color) as console:
        entry = _find(model)
        card = _card(entry)
        if not present.wants_json(json):
            console.print(present.table(("", ""), _facts(entry, card)))
    if present.wants_json(json):
        present.put_json({"model": asdict(entry), "card": card})
    return 0


@app.command("pull")
def pull(
    model: Model,
    quiet: o.Quiet = None,
    json: o.Json = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Download a model's weights, configuration and tokenizer into the Hugging Face cache."""
    from clipmk_tui import present  # noqa: PLC0415

    with present.for_people(no_color) as console:
        _mind_the_terminal(quiet=bool(quiet))
        from clipmk.backbones import pull as fetch  # noqa: PLC0415 - torch and open_clip: seconds

        entry = fetch(model)
        if not present.wants_json(json):
            console.print(present.table(("", ""), _facts(entry, None)))
    if present.wants_json(json):
        present.put_json({"model": asdict(entry), "card": None})
    return 0


def _mind_the_terminal(*, quiet: bool) -> None:
    """No download bars where nobody watches."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # noqa: PLC0415

    if quiet or not sys.stderr.isatty():
        disable_progress_bars()


def _matches(entry: ModelEntry, words: Iterable[str]) -> bool:
    text = f"{entry.id} {entry.family} {entry.source}".casefold()
    return all(word.casefold() in text for word in words)


def _find(model: str) -> ModelEntry:
    """The entry of a model, whether its weights are here or not.

    Raises:
        ModelError: there is no such model.
    """
    from clipmk.backbones.catalog import list_models as listed  # noqa: PLC0415

    entries = {entry.id: entry for entry in listed(("embedded", "local"))}
    if model not in entries:
        entries |= {entry.id: entry for entry in listed(("cached", "remote"))}
    if model in entries:
        return entries[model]
    from clipmk.backbones.recipe import resolve  # noqa: PLC0415 - knows folders, checkpoints and near misses

    try:
        return resolve(model).entry
    except ModelError as error:
        if ":" not in model or model.partition(":")[0] not in {name.partition(":")[0] for name in entries}:
            raise
        raise ModelError(f"model {model!r} does not exist; {suggest(model, entries)}") from error


def _card(entry: ModelEntry) -> dict[str, Any] | None:
    """How an embedded model was made."""
    if entry.source != "embedded" or entry.path is None:
        return None
    path = Path(entry.path) / "card.json"
    if not path.is_file():
        return None
    content: dict[str, Any] = json_text.loads(path.read_text(encoding="utf-8"))
    return content


def _table(entries: Iterable[ModelEntry]) -> Any:
    from clipmk_tui import present  # noqa: PLC0415

    rows = [(entry.id, entry.source, entry.family, entry.input_size, entry.embed_dim) for entry in entries]
    return present.table(("model", "source", "family", "px", "dim"), rows, right=(3, 4))


def _facts(entry: ModelEntry, card: dict[str, Any] | None) -> list[tuple[str, object]]:
    """Two columns: what, and its value."""
    rows: list[tuple[str, object]] = [
        ("model", entry.id),
        ("source", entry.source),
        ("architecture", entry.architecture),
        ("pretrained", entry.pretrained or "-"),
        ("family", entry.family),
        ("input", f"{entry.input_size} px"),
        ("embedding", f"{entry.embed_dim} numbers"),
        ("needs transformers", "yes" if entry.needs_transformers else "no"),
        ("path", entry.path or "not on this machine; clipmk models pull fetches it"),
    ]
    for key, value in (card or {}).items():
        rows.append((key, value if isinstance(value, str | int | float) else json_text.dumps(value)))
    return rows
