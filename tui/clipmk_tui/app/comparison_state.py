"""What the comparison screen has gathered so far: explanations and failures per model and class. No widget in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipmk.explanation import Explanation
from clipmk.pipeline.comparison import compare
from clipmk.records import Comparison, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The comparison of the models that answered or failed; the others are still awaited."""

    comparison: Comparison | None
    """None while no model has answered or failed."""
    places: tuple[int | None, ...]
    """For each model of the screen its column in the comparison; None: still awaited."""


class Gathered:
    """Answers about one image, by model as the screen names it.

    Args:
        models: in the order of the columns.
        image: path.
        known: explanations at hand, by model, whatever class they explain.
    """

    def __init__(self, models: Sequence[str], image: str, known: Mapping[str, Explanation]) -> None:
        self.models = tuple(models)
        self._image = image
        self._held: dict[str, dict[str, Explanation]] = defaultdict(dict)
        self._failed: dict[tuple[str, str | None], Failure] = {}
        for model in self.models:
            if model in known:
                self.add(model, known[model])

    def add(self, model: str, explanation: Explanation) -> None:
        """Keep an answer."""
        self._held[model][explanation.class_name] = explanation

    def fail(self, model: str, target: str | None, *, code: str, message: str) -> None:
        """Keep why a model could not answer for a class (None: its own prediction)."""
        failure = Failure(path=self._path(), model=model, code=code, message=message, exit_status=1)
        self._failed[model, target] = failure

    def explanation(self, model: str, target: str | None) -> Explanation | None:
        """What a model says of a class (None: of the one it predicts), where that needs no model any more."""
        for held in self._held[model].values():
            wanted = held.predictions[0].class_name if target is None else target
            if wanted in held.classes:
                return held.for_class(wanted)
        return None

    def missing(self, target: str | None) -> tuple[str, ...]:
        """The models that have neither answered nor failed."""
        return tuple(
            model
            for model in self.models
            if self.explanation(model, target) is None and (model, target) not in self._failed
        )

    def results(self, target: str | None) -> list[Explanation | Failure | None]:
        """One per model, in their order; None: still awaited."""
        return [self.explanation(model, target) or self._failed.get((model, target)) for model in self.models]

    def view(self, target: str | None) -> View:
        """The comparison of what is there.

        Raises:
            UsageError: the explanations at hand belong to different images, vocabularies or settings.
        """
        results = self.results(target)
        there = [result for result in results if result is not None]
        numbers = iter(range(len(there)))
        return View(
            comparison=compare(there, target=target) if there else None,
            places=tuple(None if result is None else next(numbers) for result in results),
        )

    def _path(self) -> str:
        """The image as the explanations name it."""
        paths = [one.image.path for held in self._held.values() for one in held.values()]
        return next((path for path in paths if path is not None), self._image)
