"""One pass over the images for all measures: an image is decoded once, and looked at once in each way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmk.errors import ImageError, InputError, UsageError, suggest
from clipmk.evaluate import faithfulness, zero_shot
from clipmk.evaluate.faithfulness import Faithfulness
from clipmk.evaluate.looking import Looker
from clipmk.evaluate.measured import DataUsed, MeasuredReport, MeasuredRow
from clipmk.evaluate.samples import DataSet
from clipmk.evaluate.ways import Way
from clipmk.evaluate.zero_shot import ZeroShot
from clipmk.records import plain
from clipmk.text import printable, quoted

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone
    from clipmk.grounding import Progress
    from clipmk.vocabulary import Vocabulary

MEASURES = ("faithfulness", "zero_shot")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pass found; None for a measure that was not asked for."""

    faithfulness: MeasuredReport | None
    zero_shot: MeasuredReport | None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Images that could not be decoded, and why."""
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
        InputError: no image of a data set can be decoded.
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
    """Show every image to every consumer; what cannot be decoded is noted."""
    tell = _stage(f"{data.name}: images", progress)
    skipped: list[str] = []
    for done, sample in enumerate(data.samples(), 1):
        if isinstance(sample, ImageError):
            skipped.append(printable(str(sample)))
        else:
            looks = looker.look(sample.picture)
            for consumer in consumers:
                consumer.add(sample, looks)
        tell(done, len(data))
    if len(skipped) == len(data):
        raise InputError(f"no image of {quoted(data.name)} can be used; the first: {skipped[0]}")
    return DataUsed(data.name, len(data) - len(skipped), data.labelled, tuple(skipped))


def _stage(name: str, progress: Progress | None) -> Callable[[int, int], None]:
    """Progress of one stage."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total)

    return tell
