"""What `clipmk evaluate` does: check the choices, measure model after model, print tables or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clipmk.errors import ClipmkError, InputError, UsageError, suggest
from clipmk.output import document
from clipmk.settings import PRESETS, Grounding
from clipmk.system.memory import memory_named, remedies
from clipmk.system.options import DEFAULT_MODEL
from clipmk.system.text import encodable, quoted
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary
from clipmk_tui.cli import tables
from clipmk_tui.cli.errors import with_origin
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import say
from clipmk_tui.show.files import check_writable, write_text

if TYPE_CHECKING:
    from rich.console import Console

    from clipmk.backbones.backbone import Backbone
    from clipmk.evaluate.report import Report, Table
    from clipmk.evaluate.samples import ImageSource


MEASURES = ("truth", "faithfulness", "zero_shot")
"""Keys of the JSON document, and the options that ask for them with `_` for `-`."""
WORLD_SPLITS = ("test", "counterfactual")
"""Measured on by default: held out, as usual and against type."""
SCENES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The options of `clipmk evaluate`."""

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
    """Print every metric, variant and margin of --truth."""
    no_color: bool


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """An error without its traceback, whose frames would keep the model in memory."""

    code: str
    message: str
    exit_status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReports:
    """One model's reports by measure, or why there are none."""

    model: str
    reports: dict[str, Report] = field(default_factory=dict)
    failure: ModelFailure | None = None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Images that could not be used, each once."""
        used = [data for report in self.reports.values() for data in report.data]
        return tuple(dict.fromkeys(text for data in used for text in data.skipped))


def evaluation_choices(flags: Mapping[str, Any]) -> Evaluation:
    """Resolve every choice; nothing heavy is imported.

    Args:
        flags: the command's parameters by name.

    Raises:
        UsageError: no measure is chosen, a value does not exist, or two exclude each other.
    """
    measures = tuple(name for name in MEASURES if flags[name])
    if not measures:
        raise UsageError("nothing to measure; name at least one of: --truth, --faithfulness, --zero-shot")
    for word, known in (("preset", tuple(PRESETS)), ("grounding", get_args(Grounding))):
        if flags[word] is not None and flags[word] not in known:
            raise UsageError(f"{word} {flags[word]!r} does not exist; {suggest(flags[word], known)}")
    _check_data(flags, measures)
    models = tuple(dict.fromkeys(flags["model"])) or (DEFAULT_MODEL,)
    return Evaluation(
        measures=measures,
        models=models,
        vocabularies=tuple(_vocabulary_name(flags["vocab"], model, flags["dataset"]) for model in models),
        dataset=flags["dataset"],
        splits=tuple(dict.fromkeys(flags["split"] or WORLD_SPLITS)),
        scenes=flags["scenes"] or SCENES,
        limit=flags["limit"],
        preset=flags["preset"],
        grounding=flags["grounding"],
        seed=flags["seed"] or 0,
        device=flags["device"],
        precision=flags["precision"],
        arch=flags["arch"],
        download=flags["download"],
        cache=not flags["no_cache"],
        output=_output(flags["output"]),
        json=flags["json"],
        quiet=flags["quiet"],
        verbose=flags["verbose"],
        no_color=flags["no_color"],
    )


def run(choices: Evaluation) -> int:
    """Measure model after model; each is printed and written as soon as it is done.

    Returns:
        Exit status: 0, the highest of all failures, or 3 if images could not be used.
    """
    done: list[ModelReports] = []
    with tables.for_people(choices.no_color) as console, Stages(shown=not choices.quiet) as stages:
        for one in measure_models(choices, stages):
            done.append(one)
            stages.clear()
            if choices.output is not None:  # first: stdout may be closed
                text = document.dump(document.versioned(_content(choices, done)))
                write_text(text + "\n", choices.output)
            if one.failure is not None:
                say("error", with_origin(f"{one.model}: {one.failure.message}"))
            elif not choices.json:
                _print(console, one, everything=choices.verbose)
    if choices.json:
        tables.put_json(_content(choices, done))
    if not choices.quiet:
        _print_notes(done, choices)
    skipped = InputError.exit_status if any(one.skipped for one in done) else 0
    return max([skipped, *(one.failure.exit_status for one in done if one.failure is not None)])


def measure_models(choices: Evaluation, stages: Stages) -> Iterator[ModelReports]:
    """Check everything that can be checked, then measure every model.

    Raises:
        ClipmkError: nothing can be measured: a name does not exist, the data cannot be used, or the only model fails.
    """
    vocabularies = [load_vocabulary(name) for name in choices.vocabularies]
    data = {vocabulary.name: _data(choices, vocabulary) for vocabulary in vocabularies}
    if not choices.quiet:
        for text in dict.fromkeys(text for sets in data.values() for one in sets for text in one.warnings):
            say("warning", text)
    stages.begin("", "checking the models")
    from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

    for model in choices.models:  # report a typo in the last name now, not after hours
        resolve(model, arch=choices.arch, download=choices.download)
    for model, vocabulary in zip(choices.models, vocabularies, strict=True):
        try:
            found = _of_model(model, vocabulary, data[vocabulary.name], choices=choices, stages=stages)
        except ClipmkError as error:
            if len(choices.models) == 1:
                raise
            failure = ModelFailure(error.code, str(error), error.exit_status)
            found = ModelReports(model=model, failure=failure)
        yield found


def split_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int
) -> list[tuple[list[str], list[Any]]]:
    """Split a wide table into several that fit: each has the first column and as many others, in order, as fit.

    Args:
        columns: headings; the first is that of the rows' names.
        rows: cells.
        width: columns of the terminal; two blanks separate cells. Every table has at least one of the other columns; it
            omits rows that are empty in all of its columns.
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
                raise UsageError(f"--{name} chooses rendered scenes; omit it if you name a dataset")
        if "truth" in measures:
            raise UsageError("--truth needs rendered scenes, whose parts are known; omit the dataset")
    elif flags["limit"] is not None:
        raise UsageError("--limit goes with a dataset; --scenes N says how many scenes are rendered")


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


def _data(choices: Evaluation, vocabulary: Vocabulary) -> list[ImageSource]:
    """The datasets.

    Raises:
        ClipmkError: the dataset cannot be used, or rendered scenes have classes that the vocabulary does not have.
    """
    from clipmk.evaluate.samples import open_images, rendered_scenes  # noqa: PLC0415
    from clipmk.world.tables import class_names  # noqa: PLC0415 - numpy and OpenCV

    if choices.dataset is not None:
        return [open_images(choices.dataset, vocabulary, limit=choices.limit)]
    missing = [name for name in class_names() if name not in vocabulary.classes]
    if missing and choices.measures != ("truth",):
        raise UsageError(
            f"rendered scenes show {quoted(missing[0])}, which is not a class of the vocabulary "
            f"{quoted(vocabulary.name)}; leave --vocab out, or name a dataset"
        )
    return [rendered_scenes(split, count=choices.scenes, seed=choices.seed) for split in choices.splits]


def _of_model(
    model: str, vocabulary: Vocabulary, data: Sequence[ImageSource], *, choices: Evaluation, stages: Stages
) -> ModelReports:
    stages.begin(model, "loading")
    from clipmk.models.loading import load  # noqa: PLC0415 - torch: seconds

    backbone = load(
        model, device=choices.device, precision=choices.precision, arch=choices.arch, download=choices.download
    )
    with memory_named(backbone.device, f"model {quoted(model)}", remedies(backbone.device, backbone.dtype)):
        return ModelReports(model=model, reports=_reports(backbone, vocabulary, data, choices=choices, stages=stages))


def _reports(
    backbone: Backbone, vocabulary: Vocabulary, data: Sequence[ImageSource], *, choices: Evaluation, stages: Stages
) -> dict[str, Report]:
    """All measures in one pass; the truth, which needs the world's vocabulary, in a separate one beside another."""
    from clipmk.evaluate import harness  # noqa: PLC0415 - torch
    from clipmk.evaluate.variants import variants  # noqa: PLC0415 - torch

    passes = [(vocabulary, choices.measures)]
    world = load_vocabulary("world")
    if "truth" in choices.measures and vocabulary != world:
        passes = [(world, ("truth",)), (vocabulary, tuple(name for name in choices.measures if name != "truth"))]
    chosen = variants(_listed(choices.preset), _listed(choices.grounding), seed=choices.seed)
    reports: dict[str, Report] = {}
    for words, measures in passes:
        if measures:
            reports |= harness.run(
                backbone,
                words,
                data,
                variants=chosen,
                measures=measures,
                seed=choices.seed,
                cache=choices.cache,
                progress=stages,
            )
    return reports


def _listed(name: str | None) -> list[str]:
    return [] if name is None else [name]


def _print(console: Console, found: ModelReports, *, everything: bool) -> None:
    from clipmk_tui.show.text import shown  # noqa: PLC0415 - rich

    for title, columns, rows in _tables(found, everything=everything):
        pieces = [piece for piece in split_table(columns, rows, width=console.width) if piece[1]]
        for number, (headings, body) in enumerate(pieces, start=1):
            made = tables.table(headings, body, right=range(1, len(headings)))
            which = f" ({number} of {len(pieces)})" if len(pieces) > 1 else ""
            console.print(shown(f"{found.model}, {title}{which}", "italic"))
            tables.put_table(console, made)
            console.print()


def _tables(found: ModelReports, *, everything: bool) -> list[Table]:
    """The tables of every report of one model; of the truth a summary, unless everything is asked for."""
    made: list[Table] = []
    for name, report in found.reports.items():
        made += report.summary() if name == "truth" and not everything else report.tables()
    return made


def _content(choices: Evaluation, done: Sequence[ModelReports]) -> dict[str, Any]:
    """The JSON document without its version."""
    content: dict[str, Any] = {
        name: [one.reports[name].to_dict() for one in done if name in one.reports] if name in choices.measures else None
        for name in MEASURES
    }
    content["failures"] = [
        {
            "model": encodable(one.model),
            "error": document.error_object(one.failure.code, one.failure.message),
        }
        for one in done
        if one.failure is not None
    ]
    return content


def _print_notes(done: Sequence[ModelReports], choices: Evaluation) -> None:
    """How to read the numbers, and what could not be used."""
    for text in dict.fromkeys(text for one in done for text in one.skipped):
        say("warning", text)
    if choices.json:
        return
    for note in dict.fromkeys(note for one in done for report in one.reports.values() for note in report.notes):
        say("note", note)
    if not choices.verbose and any("truth" in one.reports for one in done):
        text = "--truth prints a summary; --verbose prints every metric, variant and margin, JSON has them"
        say("note", text)
