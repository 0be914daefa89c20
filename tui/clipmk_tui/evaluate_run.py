"""What `clipmk evaluate` does: settle and check the choices, measure model by model, print tables or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clipmk import document
from clipmk.config import choose, read_config
from clipmk.errors import InputError, UsageError, suggest
from clipmk.settings import PRESETS, Grounding
from clipmk.text import quoted
from clipmk.vocabulary import Vocabulary, default_vocabulary, load_vocabulary
from clipmk_tui import present
from clipmk_tui.choices import DEFAULT_MODEL, models_from, variable
from clipmk_tui.files import check_writable, write_text
from clipmk_tui.output import say
from clipmk_tui.stages import Stages

if TYPE_CHECKING:
    from rich.console import Console

    from clipmk.backbones import Backbone
    from clipmk.evaluate.measured import MeasuredReport
    from clipmk.evaluate.samples import DataSet
    from clipmk.evaluate.truth import TruthReport

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
    no_color: bool


@dataclass(slots=True)
class Found:
    """Reports so far, one per model; None for what was not asked for."""

    truth: list[TruthReport] | None = None
    faithfulness: list[MeasuredReport] | None = None
    zero_shot: list[MeasuredReport] | None = None
    skipped: list[str] = field(default_factory=list)
    """Images that could not be used."""


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
    models = models_from(flags, config) or (DEFAULT_MODEL,)
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
        json=present.wants_json(flags["json"]),
        quiet=choose(flags["quiet"], variable("quiet"), config.quiet, False),
        no_color=choose(flags["no_color"], variable("no_color"), config.no_color, False),
    )


def run(choices: Evaluation) -> int:
    """Measure and print.

    Returns:
        Exit status: 0, or 3 where images could not be used.
    """
    with present.for_people(choices.no_color) as console, Stages(shown=not choices.quiet) as stages:
        found = _measured(choices, stages)
        stages.clear()
        content = _content(found)
        if choices.output is not None:  # first, for whoever reads the tables may stop reading
            write_text(document.dump(document.versioned(content)) + "\n", choices.output)
        if not choices.json:
            _print(console, found)
    if choices.json:
        present.put_json(content)
    _say(found, choices)
    return InputError.exit_status if found.skipped else 0


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[tuple[list[str], list[Any]]]:
    """A wide table as several that fit: each has the first column and as many others, in order, as there is room for.

    Args:
        columns: headings; the first stands over the names of the rows.
        rows: cells.
        width: columns of the terminal; two blanks part cells. Every table has at least one of the other columns, and
            rows that are empty in all of a table's columns are left out of it.
    """
    sizes = [max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(columns)]
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
        from clipmk.world.sampling import ALL_SPLITS  # noqa: PLC0415 - numpy

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


def _measured(choices: Evaluation, stages: Stages) -> Found:
    """Check everything that can be checked, then measure every model."""
    vocabularies = [load_vocabulary(name) for name in choices.vocabularies]
    data = {vocabulary.name: _data(choices, vocabulary) for vocabulary in vocabularies}
    if not choices.quiet:
        for text in dict.fromkeys(text for sets in data.values() for one in sets for text in one.warnings):
            say("warning", text)
    stages.begin("", "checking the models")
    from clipmk.backbones import load  # noqa: PLC0415 - torch and open_clip: seconds
    from clipmk.backbones.recipe import resolve  # noqa: PLC0415

    for model in choices.models:  # a typo in the last name must not be found after hours
        resolve(model, arch=choices.arch, download=choices.download)
    found = Found(**{name: [] for name in choices.measures})
    for model, vocabulary in zip(choices.models, vocabularies, strict=True):
        stages.begin(model, "loading")
        backbone = load(
            model, device=choices.device, precision=choices.precision, arch=choices.arch, download=choices.download
        )
        _measure(backbone, vocabulary, data[vocabulary.name], choices=choices, stages=stages, found=found)
    return found


def _data(choices: Evaluation, vocabulary: Vocabulary) -> list[DataSet]:
    """The data sets.

    Raises:
        ClipmkError: the data set cannot be used, or rendered scenes have classes that the vocabulary has not.
    """
    from clipmk import world  # noqa: PLC0415 - numpy and OpenCV
    from clipmk.evaluate.samples import Scenes, open_images  # noqa: PLC0415

    if choices.dataset is not None:
        return [open_images(choices.dataset, vocabulary, limit=choices.limit)]
    missing = [name for name in world.class_names() if name not in vocabulary.classes]
    if missing and choices.measures != ("truth",):
        raise UsageError(
            f"rendered scenes show {quoted(missing[0])}, no class of the vocabulary {quoted(vocabulary.name)}; "
            "leave --vocab out, or name a data set"
        )
    return [Scenes(split, choices.scenes, choices.seed) for split in choices.splits]


def _measure(
    backbone: Backbone,
    vocabulary: Vocabulary,
    data: list[DataSet],
    *,
    choices: Evaluation,
    stages: Stages,
    found: Found,
) -> None:
    """Add one model's reports."""
    if found.truth is not None:
        found.truth.append(_truth(backbone, choices, stages))
    measures = [name for name in choices.measures if name != "truth"]
    if not measures:
        return
    from clipmk.evaluate import looking, running  # noqa: PLC0415

    chosen = looking.ways_of(_listed(choices.preset), _listed(choices.grounding), seed=choices.seed)
    made = running.run(
        backbone,
        vocabulary,
        data,
        chosen=chosen,
        measures=measures,
        seed=choices.seed,
        cache=choices.cache,
        progress=stages,
    )
    if found.faithfulness is not None and made.faithfulness is not None:
        found.faithfulness.append(made.faithfulness)
    if found.zero_shot is not None and made.zero_shot is not None:
        found.zero_shot.append(made.zero_shot)
    found.skipped += made.skipped


def _truth(backbone: Backbone, choices: Evaluation, stages: Stages) -> TruthReport:
    from clipmk.evaluate import truth  # noqa: PLC0415

    chosen = [
        way
        for way in truth.ways(seed=choices.seed)
        if choices.preset in {None, way.settings.preset} and choices.grounding in {None, way.settings.grounding}
    ]
    return truth.run(
        backbone,
        scenes=choices.scenes,
        seed=choices.seed,
        splits=choices.splits,
        chosen=chosen,
        cache=choices.cache,
        progress=stages,
    )


def _print(console: Console, found: Found) -> None:
    from clipmk_tui.texts import shown  # noqa: PLC0415 - rich

    for subject, columns, rows in _tables(found):
        for headings, body in fitted(columns, rows, width=console.width):
            made = present.table(headings, body, right=range(1, len(headings)))
            made.title, made.title_justify = shown(subject), "left"
            present.put_table(console, made)
            console.print()


def _tables(found: Found) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, headings, rows) of every report."""
    from clipmk.evaluate import faithfulness, zero_shot  # noqa: PLC0415

    for truth in found.truth or ():
        for title, columns, rows in truth.table():
            yield f"{truth.model}, {title}", columns, rows
    for reports, tables in ((found.faithfulness, faithfulness.tables), (found.zero_shot, zero_shot.tables)):
        for report in reports or ():
            for title, columns, rows in tables(report):
                yield f"{report.model}, {title}", columns, rows


def _content(found: Found) -> dict[str, Any]:
    """The JSON document without its version."""
    reports = {name: getattr(found, name) for name in MEASURES}
    return {name: None if each is None else [report.to_dict() for report in each] for name, each in reports.items()}


def _say(found: Found, choices: Evaluation) -> None:
    """How to read the numbers, and what could not be used."""
    if choices.quiet:
        return
    for text in dict.fromkeys(found.skipped):
        say("warning", text)
    if choices.json:
        return
    for report in [*(found.faithfulness or ())[:1], *(found.zero_shot or ())[:1]]:
        for note in report.notes:
            say("note", note)


def _listed(name: str | None) -> list[str]:
    return [] if name is None else [name]
