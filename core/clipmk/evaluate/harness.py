"""One pass over the images for all measures: an image is decoded once, and explained once by each variant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from clipmk.errors import ClipmkError, ImageError, InputError, ModelError, NotFiniteError, UsageError, suggest
from clipmk.evaluate.checks import PathTruth, Sanity
from clipmk.evaluate.faithfulness import Faithfulness
from clipmk.evaluate.reasons import ReasonTruth
from clipmk.evaluate.report import DataUsed, Report, Row, measure_texts
from clipmk.evaluate.truth import TruthEvaluator, calibrate
from clipmk.evaluate.variants import Measure, Variant, VariantRunner
from clipmk.evaluate.zero_shot import ZeroShot
from clipmk.system.text import printable, quoted

if TYPE_CHECKING:
    from clipmk.backbones.backbone import Backbone
    from clipmk.evaluate.samples import ImageSource, Sample
    from clipmk.pipeline.grounding import Progress
    from clipmk.vocabulary.vocabulary import Vocabulary


OF_SCENES = {"truth", "reasons", "path", "sanity"}  # measures that compare with the truth of rendered scenes


def run(
    backbone: Backbone,
    vocabulary: Vocabulary,
    data: Sequence[ImageSource],
    *,
    variants: Sequence[Variant],
    measures: Collection[str],
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> dict[str, Report]:
    """Measure variants of explaining on the same images: a report for each of the `report.measure_texts` named.

    Each dataset is measured on its own. `OF_SCENES` need the vocabulary of the rendered world; variants that are given
    their parts are measured by the truth only. An exception raised in `progress` cancels the work.

    UsageError if a measure does not exist or cannot be taken on the images; InputError if none of the images of a
    dataset can be used, and some cannot be decoded; ModelError if the model's output is not finite for each image, for
    one with regions hidden, or for any with one of `OF_SCENES` among the measures (rendered scenes have no odd pixels).
    """
    _check(data, measures)
    runner = VariantRunner(backbone, vocabulary, cache=cache, patchwise=not OF_SCENES.isdisjoint(measures))
    makers: dict[str, Callable[[], Measure]] = {
        "reasons": partial(ReasonTruth, runner, variants, seed=seed),
        "path": partial(PathTruth, seed=seed),
        "sanity": partial(Sanity, runner, variants, seed=seed, progress=progress),
        "faithfulness": partial(Faithfulness, runner, variants, seed=seed),
        "zero_shot": partial(ZeroShot, runner.explainer, variants, seed=seed, progress=progress),
    }
    if "truth" in measures:
        fitted, thresholds = calibrate(runner, variants, seed=seed)
        makers = {"truth": partial(TruthEvaluator, runner, variants, fitted, thresholds, seed=seed)} | makers
    rows: dict[str, list[Row]] = {name: [] for name in measures}
    used: list[DataUsed] = []
    for one in data:
        taken = {name: make() for name, make in makers.items() if name in measures}
        used.append(_pass(one, runner, taken, progress))
        for name, measure in taken.items():
            rows[name] += measure.finish(one.name)
    return {
        name: Report(
            measure=name,
            model=backbone.info.id,
            vocabulary=vocabulary.name,
            seed=seed,
            data=tuple(used),
            rows=tuple(rows[name]),
            settings=measure.settings,
            notes=measure.notes,
        )
        for name, measure in taken.items()
    }


def _check(data: Sequence[ImageSource], measures: Collection[str]) -> None:
    for name in measures:
        if name not in measure_texts():
            raise UsageError(f"measure {quoted(name)} does not exist; {suggest(name, measure_texts())}")
    for one in data:
        if "zero_shot" in measures and not one.labelled:
            raise UsageError(
                f"{quoted(one.name)} has no labels, which the zero-shot gain needs; put the images into folders that "
                "are named after their classes"
            )


def _pass(
    data: ImageSource, runner: VariantRunner, measures: Mapping[str, Measure], progress: Progress | None
) -> DataUsed:
    """Show every image to every measure; what cannot be decoded or embedded is noted."""
    errors: list[ClipmkError] = []
    for done, sample in enumerate(data.samples(), 1):
        error = sample if isinstance(sample, ImageError) else _measured(sample, runner, measures)
        if error is not None:
            errors.append(error)
        if progress is not None:
            progress(f"{data.name}: images", done, data.count)
    skipped = tuple(printable(str(error)) for error in errors)
    if len(skipped) == data.count:
        blamed = InputError if any(isinstance(error, ImageError) for error in errors) else ModelError
        raise blamed(f"no image of {quoted(data.name)} can be used; the first: {skipped[0]}")
    return DataUsed(data.name, data.count - len(skipped), data.labelled, skipped)


def _measured(sample: Sample, runner: VariantRunner, measures: Mapping[str, Measure]) -> NotFiniteError | None:
    """Explain one image and measure it, or why it was skipped; what is wrong with the model itself is raised."""
    taking = [measure for measure in measures.values() if measure.takes(sample)]
    variants = dict.fromkeys(variant for measure in taking for variant in measure.variants)
    if not taking:
        return None
    try:
        results = runner.run(sample.picture, variants, true_masks=sample.true_masks)
    except NotFiniteError as error:
        if not OF_SCENES.isdisjoint(measures):
            raise
        path = sample.picture.info.path
        named = f"image {sample.index + 1}" if path is None else f"image {quoted(path)}"
        return NotFiniteError(f"{named}: {error}")
    for measure in taking:
        measure.add(sample, results)
    return None
