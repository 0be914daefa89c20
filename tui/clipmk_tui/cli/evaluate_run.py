"""What `clipmk evaluate` does: settle and check the choices, print tables or JSON; the work is in `evaluating`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clipmk.errors import InputError, UsageError, suggest
from clipmk.output import document
from clipmk.settings import PRESETS, Grounding
from clipmk.system.config import choose, read_config
from clipmk.system.options import DEFAULT_MODEL, variable
from clipmk.system.text import encodable, quoted
from clipmk.vocabulary.vocabulary import default_vocabulary
from clipmk_tui.cli import tables as present
from clipmk_tui.cli.errors import with_origin
from clipmk_tui.cli.evaluating import Measured, measured
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import say
from clipmk_tui.show.files import check_writable, write_text

if TYPE_CHECKING:
    from rich.console import Console

MEASURES = ("truth", "faithfulness", "zero_shot")
"""Keys of the JSON document, and the options that ask for them with `_` for `-`."""
WORLD_SPLITS = ("test", "counterfactual")
"""What is measured on where nobody names a split: held out, as usual and against type."""
SCENES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that `clipmk evaluate` was asked for."""

    measures: tuple[str, ...]
    models: tuple[str, ...]
    vocabularies: tuple[str, ...]
    """Of each model."""
    dataset: str | None
    splits: tuple[str, ...]
    scenes: int
    limit: int | None
    preset: str | None
    grounding: str | None
    seed: int
    device: str
    precision: str
    arch: str | None
    download: bool
    cache: bool
    output: Path | None
    json: bool
    quiet: bool
    verbose: bool
    """Print every metric, way and margin of --truth."""
    no_color: bool


def evaluation_choices(flags: Mapping[str, Any]) -> Evaluation:
    """Settle every choice; nothing heavy is imported.

    Args:
        flags: the command's parameters by name.

    Raises:
        UsageError: nothing is to be measured, a value does not exist, or two exclude each other.
    """
    config = read_config()
    measures = tuple(name for name in MEASURES if flags[name])
    if not measures:
        raise UsageError("say what to measure: --truth, --faithfulness, --zero-shot (several at once are possible)")
    for word, known in (("preset", tuple(PRESETS)), ("grounding", get_args(Grounding))):
        if flags[word] is not None and flags[word] not in known:
            raise UsageError(f"{word} {flags[word]!r} does not exist; {suggest(flags[word], known)}")
    _check_data(flags, measures)
    models = tuple(dict.fromkeys(flags["model"])) or (DEFAULT_MODEL,)
    named = flags["vocab"]
    if flags["dataset"] is not None:  # rendered scenes have a vocabulary of their own, whatever is usual here
        named = choose(named, variable("vocab"), config.vocabulary, None)
    return Evaluation(
        measures=measures,
        models=models,
        vocabularies=tuple(_vocabulary_name(named, model, flags["dataset"]) for model in models),
        dataset=flags["dataset"],
        splits=tuple(dict.fromkeys(flags["split"] or WORLD_SPLITS)),
        scenes=flags["scenes"] or SCENES,
        limit=flags["limit"],
        preset=flags["preset"],
        grounding=flags["grounding"],
        seed=choose(flags["seed"], variable("seed"), config.seed, 0),
        device=choose(flags["device"], variable("device"), config.device, "auto"),
        precision=choose(flags["precision"], variable("precision"), config.precision, "fp32"),
        arch=choose(flags["arch"], variable("arch"), None, None),
        download=choose(flags["download"], variable("download"), config.download, False),
        cache=not choose(flags["no_cache"], variable("no_cache"), None, False),
        output=_output(flags["output"]),
        json=flags["json"],
        quiet=choose(flags["quiet"], variable("quiet"), config.quiet, False),
        verbose=choose(flags["verbose"], variable("verbose"), config.verbose, False),
        no_color=choose(flags["no_color"], variable("no_color"), config.no_color, False),
    )


def run(choices: Evaluation) -> int:
    """Measure model after model; each is printed and written as soon as it is done.

    Returns:
        Exit status: 0, that of the gravest failure, or 3 where images could not be used.
    """
    done: list[Measured] = []
    with present.for_people(choices.no_color) as console, Stages(shown=not choices.quiet) as stages:
        for one in measured(choices, stages):
            done.append(one)
            stages.clear()
            content = _content(choices, done)
            if choices.output is not None:  # first, for whoever reads the tables may stop reading
                write_text(document.dump(document.versioned(content)) + "\n", choices.output)
            if one.failure is not None:
                say("error", with_origin(f"{one.model}: {one.failure}"))
            elif not choices.json:
                _print(console, one, everything=choices.verbose)
    if choices.json:
        present.put_json(_content(choices, done))
    _say(done, choices)
    skipped = InputError.exit_status if any(one.skipped for one in done) else 0
    return max([skipped, *(one.failure.exit_status for one in done if one.failure is not None)])


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[tuple[list[str], list[Any]]]:
    """A wide table as several that fit: each has the first column and as many others, in order, as there is room for.

    Args:
        columns: headings; the first stands over the names of the rows.
        rows: cells.
        width: columns of the terminal; two blanks part cells. Every table has at least one of the other columns, and
            rows that are empty in all of a table's columns are left out of it.
    """
    sizes = [max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(columns)]
    groups: list[list[int]] = [[]]
    used = sizes[0]
    for index in range(1, len(columns)):
        if groups[-1] and used + 2 + sizes[index] > width:
            groups.append([])
            used = sizes[0]
        groups[-1].append(index)
        used += 2 + sizes[index]
    return [
        (
            [columns[0], *(columns[i] for i in group)],
            [[row[0], *(row[i] for i in group)] for row in rows if any(row[i] for i in group)],
        )
        for group in groups
    ]


def _check_data(flags: Mapping[str, Any], measures: Sequence[str]) -> None:
    if flags["dataset"] is not None:
        for name in ("split", "scenes"):
            if flags[name]:
                raise UsageError(f"--{name} chooses rendered scenes; leave it out where a data set is named")
        if "truth" in measures:
            raise UsageError("--truth needs rendered scenes, whose parts are known; name no data set")
    elif flags["limit"] is not None:
        raise UsageError("--limit goes with a data set; --scenes N says how many scenes are rendered")
    if flags["split"]:
        from clipmk.world.conditions import ALL_SPLITS  # noqa: PLC0415

        for name in flags["split"]:
            if name not in ALL_SPLITS:
                raise UsageError(f"split {quoted(name)} does not exist; {suggest(name, ALL_SPLITS)}")


def _vocabulary_name(named: str | None, model: str, dataset: str | None) -> str:
    """The vocabulary of one model: the rendered world's for its scenes, whatever the model."""
    if named is not None:
        return named
    return "world" if dataset is None else default_vocabulary(model)


def _output(text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.suffix.lower() != ".json":
        raise UsageError(f"--output {text!r} must end in .json")
    check_writable(path, inputs=())
    return path


def _print(console: Console, found: Measured, *, everything: bool) -> None:
    from clipmk_tui.show.text import shown  # noqa: PLC0415 - rich

    for subject, columns, rows in _tables(found, everything=everything):
        pieces = [piece for piece in fitted(columns, rows, width=console.width) if piece[1]]
        for number, (headings, body) in enumerate(pieces, start=1):
            made = present.table(headings, body, right=range(1, len(headings)))
            which = f" ({number} of {len(pieces)})" if len(pieces) > 1 else ""
            console.print(shown(subject + which, "italic"))
            present.put_table(console, made)
            console.print()


def _tables(found: Measured, *, everything: bool) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, headings, rows) of every report of one model; of the truth a summary, unless everything is asked for."""
    from clipmk.evaluate import faithfulness, zero_shot  # noqa: PLC0415

    made = [] if found.truth is None else found.truth.table() if everything else found.truth.summary()
    for report, tables in ((found.faithfulness, faithfulness.tables), (found.zero_shot, zero_shot.tables)):
        made += [] if report is None else tables(report)
    for title, columns, rows in made:
        if rows:
            yield f"{found.model}, {title}", columns, rows


def _content(choices: Evaluation, done: Sequence[Measured]) -> dict[str, Any]:
    """The JSON document without its version."""
    content: dict[str, Any] = {}
    for name in MEASURES:
        reports = (getattr(one, name) for one in done)
        content[name] = [each.to_dict() for each in reports if each] if name in choices.measures else None
    failures = [(one.model, one.failure) for one in done if one.failure is not None]
    content["failures"] = [
        {"model": encodable(model), "error": document.error_object(failure.code, str(failure))}
        for model, failure in failures
    ]
    return content


def _say(done: Sequence[Measured], choices: Evaluation) -> None:
    """How to read the numbers, and what could not be used."""
    if choices.quiet:
        return
    for text in dict.fromkeys(text for one in done for text in one.skipped):
        say("warning", text)
    if choices.json:
        return
    for note in dict.fromkeys(
        note for one in done for report in (one.faithfulness, one.zero_shot) if report for note in report.notes
    ):
        say("note", note)
    if not choices.verbose and any(one.truth for one in done):
        say(
            "note", "--truth is summed up; --verbose prints every metric, way and margin, --json and --output hold them"
        )
