"""One pass over the images for all measures: an image is decoded once, and looked at once in each way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmk.errors import ClipmkError, ImageError, InputError, ModelError, NotFiniteError, UsageError, suggest
from clipmk.evaluate import faithfulness, zero_shot
from clipmk.evaluate.faithfulness import Faithfulness
from clipmk.evaluate.looking import Look, Looker
from clipmk.evaluate.measured import DataUsed, MeasuredReport, MeasuredRow
from clipmk.evaluate.samples import DataSet, Sample
from clipmk.evaluate.ways import Way
from clipmk.evaluate.zero_shot import ZeroShot
from clipmk.system.serialization import plain
from clipmk.system.text import printable, quoted

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone
    from clipmk.pipeline.grounding import Progress
    from clipmk.vocabulary.vocabulary import Vocabulary

MEASURES = ("faithfulness", "zero_shot")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pass found; None for a measure that was not asked for."""

    faithfulness: MeasuredReport | None
    zero_shot: MeasuredReport | None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Images that could not be decoded or embedded, and why."""
        report = self.faithfulness or self.zero_shot
        return () if report is None else tuple(text for data in report.data for text in data.skipped)


def run(
    backbone: Backbone,
    vocabulary: Vocabulary,
    data: Sequence[DataSet],
    *,
    chosen: Sequence[Way],
    measures: Collection[str] = MEASURES,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> Measured:
    """Measure every way of explaining on the same images.

    Args:
        backbone: the model.
        vocabulary: classes and descriptors.
        data: data sets, each measured on its own.
        chosen: ways of explaining; `looking.ways_of()` gives all.
        measures: of `MEASURES`.
        seed: of the bootstrap and of what is drawn.
        cache: keep the embedded texts on disk.
        progress: called with (stage, done, total); an exception raised in it cancels the work.

    Raises:
        UsageError: a measure does not exist, or the zero-shot gain is asked for on images without labels.
        InputError: no image of a data set can be used, and some cannot be decoded.
        ModelError: what the model makes of every image, or of one with regions hidden, is not finite.
    """
    _check(data, measures)
    looker = Looker(backbone, vocabulary, chosen, cache=cache)
    rows: dict[str, list[MeasuredRow]] = {name: [] for name in measures}
    used: list[DataUsed] = []
    gain = ZeroShot(looker.any, seed=seed)
    for one in data:
        faithful, gain = Faithfulness(seed=seed), ZeroShot(looker.any, seed=seed)
        consumers = [m for name, m in (("faithfulness", faithful), ("zero_shot", gain)) if name in measures]
        used.append(_pass(one, looker, consumers, progress))
        if "faithfulness" in measures:
            rows["faithfulness"] += faithful.finish(one.name)
        if "zero_shot" in measures:
            rows["zero_shot"] += gain.finish(one.name, progress=_stage(f"{one.name}: class prompts", progress))

    def report(name: str, notes: tuple[str, ...]) -> MeasuredReport | None:
        if name not in measures:
            return None
        settings = {way.name: plain(way.settings) for way in chosen}
        return MeasuredReport(backbone.info.id, vocabulary.name, seed, tuple(used), tuple(rows[name]), notes, settings)

    return Measured(
        faithfulness=report("faithfulness", faithfulness.NOTES),
        zero_shot=report("zero_shot", zero_shot.notes(gain.prompt)) if "zero_shot" in measures else None,
    )


def _check(data: Sequence[DataSet], measures: Collection[str]) -> None:
    for name in measures:
        if name not in MEASURES:
            raise UsageError(f"measure {quoted(name)} does not exist; {suggest(name, MEASURES)}")
    for one in data:
        if "zero_shot" in measures and not one.labelled:
            raise UsageError(
                f"{quoted(one.name)} has no labels, which the zero-shot gain needs; put the images into folders that "
                "are named after their classes"
            )


def _pass(
    data: DataSet, looker: Looker, consumers: Sequence[Faithfulness | ZeroShot], progress: Progress | None
) -> DataUsed:
    """Show every image to every consumer; what cannot be decoded or embedded is noted."""
    tell = _stage(f"{data.name}: images", progress)
    errors: list[ClipmkError] = []
    for done, sample in enumerate(data.samples(), 1):
        looks = _looks(looker, sample)
        if isinstance(looks, ClipmkError):
            errors.append(looks)
        elif isinstance(sample, Sample):
            for consumer in consumers:
                consumer.add(sample, looks)
        tell(done, len(data))
    skipped = tuple(printable(str(error)) for error in errors)
    if len(skipped) == len(data):
        blamed = InputError if any(isinstance(error, ImageError) for error in errors) else ModelError
        raise blamed(f"no image of {quoted(data.name)} can be used; the first: {skipped[0]}")
    return DataUsed(data.name, len(data) - len(skipped), data.labelled, skipped)


def _looks(looker: Looker, sample: Sample | ImageError) -> dict[str, Look] | ClipmkError:
    """Every way's look at an image, or why there is none; what is wrong with the model itself is raised."""
    if isinstance(sample, ImageError):
        return sample
    try:
        return looker.look(sample.picture)
    except NotFiniteError as error:
        path = sample.picture.info.path
        named = f"image {sample.index + 1}" if path is None else f"image {quoted(path)}"
        return NotFiniteError(f"{named}: {error}")


def _stage(name: str, progress: Progress | None) -> Callable[[int, int], None]:
    """Progress of one stage."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total)

    return tell
