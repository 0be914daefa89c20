"""`clipmk evaluate`: how correct, how faithful and how useful explanations are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from clipmk.errors import ClipmkError, InputError, UsageError
from clipmk.output import document
from clipmk.records import Failure
from clipmk.settings import PRESETS
from clipmk.settings import Grounding as Groundings
from clipmk.system.config import DEFAULT_MODEL
from clipmk.system.files import write_text
from clipmk.system.text import encodable, quoted
from clipmk_tui.cli import options as o
from clipmk_tui.cli import tables
from clipmk_tui.cli.errors import with_origin
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from rich.console import Console

    from clipmk.evaluate.report import Report, Table
    from clipmk.evaluate.samples import ImageSource
    from clipmk.vocabulary.vocabulary import Vocabulary

MEASURES = ("truth", "reasons", "path", "sanity", "faithfulness", "zero_shot")
"""Keys of the JSON document, and the options that ask for them with `_` for `-`."""
OF_SCENES = ("truth", "reasons", "path", "sanity")  # need rendered scenes and the vocabulary of their world
WORLD_SPLITS = ("test", "counterfactual")  # measured on by default: held out, as usual and against type
SCENES = 500

ModelReports = tuple[str, "dict[str, Report] | Failure"]
"""A model, and its reports by measure, or why there are none: without a traceback, which would keep the model."""

_WHAT = "What to measure"

_TRUTH = "Compare with the known parts and descriptors of rendered scenes."
_REASONS = (
    "Remove each part of rendered scenes: what does the prediction lose, and which ranking of the parts knows it?"
)
_PATH = "Change one setting after the other from preset paper to default; compare each with the known parts."
_SANITY = "Shuffle the model's weights, and the descriptors: does what explains it fall to chance?"
_FAITHFULNESS = "Deletion and insertion curves and accuracies, entropy with and without transport, CorLoc."
_ZERO_SHOT = "Accuracy gained by the descriptors found, against random descriptors and random words."
_SPLIT = "Split of the rendered world; may be repeated (default: test and counterfactual)."
Scenes = Annotated[int | None, o.flag(None, "scenes", "Scenes of each split (default: 500).", metavar="N", min=1)]
Limit = Annotated[int | None, o.flag(None, "limit", "Only N images of DATASET, spread evenly.", metavar="N", min=1)]
Output = Annotated[str | None, o.flag(o.OUTPUT, "output", "Write the JSON there as well.", "-o", metavar="FILE.json")]
_VERBOSE = "Print every metric, variant and margin of --truth; JSON always has them."
Preset = Annotated[str | None, o.flag(o.SETTINGS, "preset", "Measure only this preset.", metavar="|".join(PRESETS))]


@o.takes(
    "dataset model truth reasons path sanity faithfulness zero_shot split scenes limit image_column label_column vocab "
    "arch download preset grounding seed device precision no_cache json output quiet verbose no_color debug"
)
def evaluate(  # noqa: PLR0913, PLR0917 - one parameter per option
    ctx: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Images instead of rendered scenes: a folder of class folders (as `clipmk world export` writes them), "
            "a flat folder, a table, tar or Parquet shards.",
        ),
    ] = None,
    truth: Annotated[bool, o.flag(_WHAT, "truth", _TRUTH)] = False,
    reasons: Annotated[bool, o.flag(_WHAT, "reasons", _REASONS)] = False,
    path: Annotated[bool, o.flag(_WHAT, "path", _PATH)] = False,
    sanity: Annotated[bool, o.flag(_WHAT, "sanity", _SANITY)] = False,
    faithfulness: Annotated[bool, o.flag(_WHAT, "faithfulness", _FAITHFULNESS)] = False,
    zero_shot: Annotated[bool, o.flag(_WHAT, "zero_shot", _ZERO_SHOT)] = False,
    split: Annotated[list[str] | None, o.flag(None, "split", _SPLIT, metavar="NAME")] = None,
    scenes: Scenes = None,
    limit: Limit = None,
    preset: Preset = None,
    grounding: Annotated[
        str | None, o.flag(o.SETTINGS, "grounding", "Measure only this grounding.", metavar="prompts|attend")
    ] = None,
    output: Output = None,
    verbose: Annotated[bool, o.option(o.MESSAGES, "verbose", _VERBOSE, "-v")] = False,
    **_: Any,
) -> int:
    """Measure explanations on the same images in every variant: both presets, both groundings, and baselines.

    Numbers are means with 95 % bootstrap intervals over images. --preset and --grounding select variants. Of several
    models, each is compared with the first one, image by image.

    --truth prints a summary: AP, hits, IoU, top-1 and margins over two baselines. --verbose prints everything.
    """
    # rendered scenes have a vocabulary of their own, whatever the usual one is
    unused = dataset is None and not o.on_command_line(ctx, "vocab")
    return _run(resolved_options(ctx.params | {"vocab": None} if unused else ctx.params))


def resolved_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check the command's parameters, fill in defaults, add `measures` and load the vocabulary of each model.

    Nothing heavy is imported. Raises `UsageError` where no measure is chosen, a value does not exist or two exclude
    each other.
    """
    from clipmk.vocabulary.vocabulary import default_vocabulary, load_vocabulary  # noqa: PLC0415 - not for the help
    from clipmk_tui.show.files import check_writable  # noqa: PLC0415

    measures = tuple(name for name in MEASURES if params[name])
    if not measures:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in MEASURES)
        raise UsageError(f"nothing to measure; name at least one of: {options}")
    for name, known in (("preset", PRESETS), ("grounding", get_args(Groundings))):
        o.check_known(name, params[name], known)
    _check_data(params)
    output = o.output_path("output", params["output"], ".json")
    if output is not None:
        check_writable(output, inputs=())
    models = tuple(dict.fromkeys(params["model"])) or (DEFAULT_MODEL,)
    named = params["vocab"] or ("world" if params["dataset"] is None else None)
    return {
        **params,
        "measures": measures,
        "model": models,
        "vocab": [load_vocabulary(named or default_vocabulary(model)) for model in models],
        "split": tuple(dict.fromkeys(params["split"] or WORLD_SPLITS)),
        "scenes": params["scenes"] or SCENES,
        "seed": params["seed"] or 0,
        "output": output,
    }


def _run(options: Mapping[str, Any]) -> int:
    """Measure every model; print what is found, and write it after each."""
    json, quiet, verbose = options["json"], options["quiet"], options["verbose"]
    done: list[ModelReports] = []
    with tables.for_people(options["no_color"]) as console, Stages(shown=not quiet) as stages:
        for model, found in measure_models(options, stages):
            done.append((model, found))
            stages.clear()
            if options["output"] is not None:  # first: stdout may be closed
                text = document.dump(document.versioned(_content(options["measures"], done)))
                write_text(text + "\n", options["output"])
            if isinstance(found, Failure):
                say("error", with_origin(f"{model}: {found.message}"))
            elif not json:
                _print(console, model, found, everything=verbose)
    if json:
        tables.put_json(_content(options["measures"], done))
    reports = [report for _, found in done if isinstance(found, dict) for report in found.values()]
    skipped = dict.fromkeys(text for report in reports for data in report.data for text in data.skipped)
    if not quiet:
        for text in skipped:
            say("warning", text)
        for note in dict.fromkeys(note for report in reports for note in report.notes if not json):
            say("note", note)
        if not (json or verbose) and any(report.measure == "truth" for report in reports):
            say("note", "--truth prints a summary; --verbose prints every metric, variant and margin, JSON has them")
    failed = [found.exit_status for _, found in done if isinstance(found, Failure)]
    return max([InputError.exit_status if skipped else 0, *failed])


def measure_models(options: Mapping[str, Any], stages: Stages) -> Iterator[ModelReports]:
    """Check everything that can be checked, then measure every model, by `resolved_options`.

    Raises `ClipmkError` where nothing can be measured: a name does not exist, the data cannot be used, or the only
    model fails.
    """
    models, vocabularies = options["model"], options["vocab"]
    data = {vocabulary.name: _data(options, vocabulary) for vocabulary in vocabularies}
    if not options["quiet"]:
        for text in dict.fromkeys(text for sets in data.values() for one in sets for text in one.warnings):
            say("warning", text)
    stages.begin("", "checking the models")
    from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

    for model in models:  # report a typo in the last name now, not after hours
        resolve(model, arch=options["arch"], download=options["download"])
    first: dict[str, Report] = {}
    for model, vocabulary in zip(models, vocabularies, strict=True):
        try:
            stages.begin(model, "loading")
            reports = _reports(model, vocabulary, data[vocabulary.name], options, stages)
            first = first or reports
            yield model, {name: report.less(first[name]) for name, report in reports.items()}
        except ClipmkError as error:
            if len(models) == 1:
                raise
            yield model, Failure.of(error, path="", model=model)


def split_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int
) -> list[tuple[list[str], list[Any]]]:
    """Split a wide table into several that fit: each has the first column and as many others, in order, as fit.

    Two blanks separate cells. Every table has at least one of the other columns; it omits rows that are empty in all of
    them.
    """
    sizes = [max(map(len, texts)) for texts in zip(columns, *rows, strict=True)]
    groups: list[list[int]] = [[]]
    for index in range(1, len(columns)):
        if groups[-1] and sizes[0] + sum(2 + sizes[i] for i in (*groups[-1], index)) > width:
            groups.append([])
        groups[-1].append(index)
    return [
        (
            [columns[0], *(columns[i] for i in group)],
            [[row[0], *(row[i] for i in group)] for row in rows if any(row[i] for i in group)],
        )
        for group in groups
    ]


def _check_data(params: Mapping[str, Any]) -> None:
    if params["dataset"] is not None:
        for name in ("split", "scenes"):
            if params[name]:
                raise UsageError(f"--{name} chooses rendered scenes; omit it if you name a dataset")
        for name in OF_SCENES:
            if params[name]:
                raise UsageError(f"--{name} needs rendered scenes, whose parts are known; omit the dataset")
    elif params["limit"] is not None:
        raise UsageError("--limit goes with a dataset; --scenes N says how many scenes are rendered")


def _data(options: Mapping[str, Any], vocabulary: Vocabulary) -> list[ImageSource]:
    """The datasets; `ClipmkError` where they cannot be used, or the vocabulary lacks classes of rendered scenes."""
    from clipmk.datasets.tables import Columns  # noqa: PLC0415
    from clipmk.evaluate.samples import open_images, rendered_scenes  # noqa: PLC0415
    from clipmk.world.tables import class_names  # noqa: PLC0415 - numpy and OpenCV

    if options["dataset"] is not None:
        columns = Columns(options["image_column"], options["label_column"])
        return [open_images(options["dataset"], vocabulary, limit=options["limit"], columns=columns)]
    missing = [name for name in class_names() if name not in vocabulary.classes]
    if missing and not set(options["measures"]) <= set(OF_SCENES):
        raise UsageError(
            f"rendered scenes show {quoted(missing[0])}, which is not a class of the vocabulary "
            f"{quoted(vocabulary.name)}; leave --vocab out, or name a dataset"
        )
    return [rendered_scenes(split, count=options["scenes"], seed=options["seed"]) for split in options["split"]]


def _reports(
    model: str, vocabulary: Vocabulary, data: Sequence[ImageSource], options: Mapping[str, Any], stages: Stages
) -> dict[str, Report]:
    """All measures in one pass; those that need the world's vocabulary in a separate one beside another."""
    from clipmk.evaluate import harness  # noqa: PLC0415 - torch
    from clipmk.evaluate.variants import variants  # noqa: PLC0415 - torch
    from clipmk.models.loading import load  # noqa: PLC0415 - torch: seconds
    from clipmk.system.memory import memory_named, remedies  # noqa: PLC0415
    from clipmk.vocabulary.vocabulary import load_vocabulary  # noqa: PLC0415

    passes = [(vocabulary, options["measures"])]
    world = load_vocabulary("world")
    if vocabulary != world:
        of_scenes = tuple(name for name in options["measures"] if name in OF_SCENES)
        others = tuple(name for name in options["measures"] if name not in OF_SCENES)
        passes = [(world, of_scenes), (vocabulary, others)]
    presets, groundings = ([options[name]] if options[name] else () for name in ("preset", "grounding"))
    how = {name: options[name] for name in ("device", "precision", "arch", "download")}
    backbone = load(model, **how)
    reports: dict[str, Report] = {}
    with memory_named(backbone.device, f"model {quoted(model)}", remedies(backbone.device, backbone.dtype)):
        for words, measures in passes:
            if measures:
                reports |= harness.run(
                    backbone,
                    words,
                    data,
                    variants=variants(presets, groundings, seed=options["seed"]),
                    measures=measures,
                    seed=options["seed"],
                    cache=not options["no_cache"],
                    progress=stages,
                )
    return reports


def _print(console: Console, model: str, reports: Mapping[str, Report], *, everything: bool) -> None:
    """Print the tables of every report of one model; of the truth a summary, unless everything is asked for."""
    from clipmk_tui.show.text import shown  # noqa: PLC0415 - rich

    drawn: list[Table] = []
    for name, report in reports.items():
        drawn += report.summary() if name == "truth" and not everything else report.tables()
    for title, columns, rows in drawn:
        pieces = [piece for piece in split_table(columns, rows, width=console.width) if piece[1]]
        for number, (headings, body) in enumerate(pieces, start=1):
            made = tables.table(headings, body, right=range(1, len(headings)))
            which = f" ({number} of {len(pieces)})" if len(pieces) > 1 else ""
            console.print(shown(f"{model}, {title}{which}", "italic"))
            tables.put_table(console, made)
            console.print()


def _content(measures: Sequence[str], done: Sequence[ModelReports]) -> dict[str, Any]:
    """The JSON document without its version."""
    content: dict[str, Any] = {
        name: [one[name].to_dict() for _, one in done if isinstance(one, dict) and name in one]
        if name in measures
        else None
        for name in MEASURES
    }
    content["failures"] = [
        {"model": encodable(model), "error": document.error_object(one.code, one.message)}
        for model, one in done
        if isinstance(one, Failure)
    ]
    return content
