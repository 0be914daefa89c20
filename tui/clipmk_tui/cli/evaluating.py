"""The work behind `clipmk evaluate`: model after model; where one fails, the others go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmk.errors import ClipmkError, UsageError
from clipmk.system.memory import memory_named, remedies
from clipmk.system.text import quoted
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary
from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone
    from clipmk.evaluate.measured import MeasuredReport
    from clipmk.evaluate.samples import DataSet
    from clipmk.evaluate.truth import TruthReport
    from clipmk_tui.cli.evaluate_run import Evaluation
    from clipmk_tui.cli.progress import Stages


@dataclass(frozen=True, slots=True)
class Trouble:
    """What an error says; the error itself would keep the model in memory, by the frames of its traceback."""

    code: str
    message: str
    exit_status: int

    @classmethod
    def of(cls, error: ClipmkError) -> Trouble:
        """What this one says."""
        return cls(error.code, str(error), error.exit_status)

    def __str__(self) -> str:
        """As the error itself."""
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model's reports, None for what was not asked for; or what went wrong."""

    model: str
    truth: TruthReport | None = None
    faithfulness: MeasuredReport | None = None
    zero_shot: MeasuredReport | None = None
    skipped: tuple[str, ...] = ()
    """Images that could not be used."""
    failure: Trouble | None = None


def measured(choices: Evaluation, stages: Stages) -> Iterator[Measured]:
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

    for model in choices.models:  # a typo in the last name must not be found after hours
        resolve(model, arch=choices.arch, download=choices.download)
    for model, vocabulary in zip(choices.models, vocabularies, strict=True):
        try:
            found = _of_model(model, vocabulary, data[vocabulary.name], choices=choices, stages=stages)
        except ClipmkError as error:
            if len(choices.models) == 1:
                raise
            found = Measured(model=model, failure=Trouble.of(error))
        yield found


def _data(choices: Evaluation, vocabulary: Vocabulary) -> list[DataSet]:
    """The data sets.

    Raises:
        ClipmkError: the data set cannot be used, or rendered scenes have classes that the vocabulary has not.
    """
    from clipmk.evaluate.samples import Scenes, open_images  # noqa: PLC0415
    from clipmk.world.tables import class_names  # noqa: PLC0415

    if choices.dataset is not None:
        return [open_images(choices.dataset, vocabulary, limit=choices.limit)]
    missing = [name for name in class_names() if name not in vocabulary.classes]
    if missing and choices.measures != ("truth",):
        raise UsageError(
            f"rendered scenes show {quoted(missing[0])}, no class of the vocabulary {quoted(vocabulary.name)}; "
            "leave --vocab out, or name a data set"
        )
    return [Scenes(split, choices.scenes, choices.seed) for split in choices.splits]


def _of_model(
    model: str, vocabulary: Vocabulary, data: Sequence[DataSet], *, choices: Evaluation, stages: Stages
) -> Measured:
    stages.begin(model, "loading")
    from clipmk.models.loading import load  # noqa: PLC0415 - torch: seconds

    backbone = load(
        model, device=choices.device, precision=choices.precision, arch=choices.arch, download=choices.download
    )
    with memory_named(backbone.device, f"model {quoted(model)}", remedies(backbone.device, backbone.dtype)):
        return _measured(model, backbone, vocabulary, data, choices=choices, stages=stages)


def _measured(
    model: str,
    backbone: Backbone,
    vocabulary: Vocabulary,
    data: Sequence[DataSet],
    *,
    choices: Evaluation,
    stages: Stages,
) -> Measured:
    truth = _truth(backbone, choices, stages) if "truth" in choices.measures else None
    measures = [name for name in choices.measures if name != "truth"]
    if not measures:
        return Measured(model=model, truth=truth)
    from clipmk.evaluate import looking, running  # noqa: PLC0415

    made = running.run(
        backbone,
        vocabulary,
        data,
        chosen=looking.ways_of(_listed(choices.preset), _listed(choices.grounding), seed=choices.seed),
        measures=measures,
        seed=choices.seed,
        cache=choices.cache,
        progress=stages,
    )
    return Measured(
        model=model,
        truth=truth,
        faithfulness=made.faithfulness,
        zero_shot=made.zero_shot,
        skipped=tuple(made.skipped),
    )


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


def _listed(name: str | None) -> list[str]:
    return [] if name is None else [name]
