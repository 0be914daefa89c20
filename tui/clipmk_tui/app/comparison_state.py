"""What the comparison screen shows: explanations and failures per model, and the class compared. No widget in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipmk.explanation import Explanation
from clipmk.pipeline.comparison import compare
from clipmk.records import ComparedConcept, ComparedModel, Comparison, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """The comparison of the models that answered or failed; the others are still awaited."""

    models: tuple[str, ...]
    """As the screen names them."""
    comparison: Comparison | None
    """None while no model has answered or failed."""
    places: tuple[int | None, ...]
    """For each model its column in the comparison; None: still awaited."""

    def column(self, index: int) -> ComparedModel | None:
        """The column of a model; None while it is awaited."""
        place = self.places[index] if index < len(self.places) else None
        return None if place is None or self.comparison is None else self.comparison.columns[place]

    @property
    def awaited(self) -> tuple[int, ...]:
        """Indices of the models that have not answered."""
        return tuple(index for index, place in enumerate(self.places) if place is None)

    @property
    def rows(self) -> Sequence[ComparedConcept]:
        """All concepts, the most agreed first."""
        return () if self.comparison is None else self.comparison.rows


class ComparisonState:
    """Answers about one image, by model as the screen names it.

    Args:
        models: in the order of the columns.
        image: path.
        target: the class that all explain; None: each its own prediction.
        known: explanations already made, by model, of any class.
    """

    def __init__(
        self, models: Sequence[str], image: str, known: Mapping[str, Explanation], *, target: str | None = None
    ) -> None:
        self.models = tuple(models)
        self.target = target
        self._common = target
        self._image = image
        self._held: dict[str, dict[str, Explanation]] = defaultdict(dict)
        self._failed: dict[tuple[str, str | None], Failure] = {}
        for model in self.models:
            if model in known:
                self.add(model, known[model])

    def toggle_target(self, default: str | None) -> bool:
        """Turn from own predictions to one class for all, or back; whether there is such a class.

        Args:
            default: the class, where none was named before.
        """
        if self.target is None:
            self.target = self._common or default
            return self.target is not None
        self._common, self.target = self.target, None
        return True

    def add(self, model: str, explanation: Explanation) -> None:
        """Keep an answer."""
        self._held[model][explanation.class_name] = explanation

    def fail(self, model: str, target: str | None, *, code: str, message: str) -> None:
        """Keep why a model could not answer for a class (None: its own prediction)."""
        paths = (one.image.path for held in self._held.values() for one in held.values())  # as the explanations name it
        path = next((path for path in paths if path is not None), self._image)
        failure = Failure(path=path, model=model, code=code, message=message, exit_status=1)
        self._failed[model, target] = failure

    def explanation(self, model: str, target: str | None) -> Explanation | None:
        """A model's explanation of a class (None: of the one it predicts), if it needs no model."""
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

    @property
    def view(self) -> ComparisonView:
        """The comparison of the answers so far.

        Raises:
            UsageError: the explanations belong to different images, vocabularies or settings.
        """
        results = self.results(self.target)
        there = [result for result in results if result is not None]
        numbers = iter(range(len(there)))
        return ComparisonView(
            models=self.models,
            comparison=compare(there, target=self.target) if there else None,
            places=tuple(None if result is None else next(numbers) for result in results),
        )
