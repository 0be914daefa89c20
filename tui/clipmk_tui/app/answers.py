"""What several models answer about the current image, for the screens that compare them. Knows no screen.

Explanations are kept in the state: what a comparison has asked, the main screen never asks again.
"""

import itertools
from collections.abc import Callable, Sequence

from clipmk.errors import UNEXPECTED
from clipmk.explanation import Explanation
from clipmk.pipeline.comparison import compare
from clipmk.records import Asked, Failure
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk_tui.app.questions import RANKED, Questions
from clipmk_tui.app.widgets.compare_grid import ComparisonView
from clipmk_tui.show.comparison_table import asked_row


class Answers:
    """The answers about the current image; all models explain `target`, or (None) each its own prediction."""

    def __init__(self, questions: Questions, target: str | None) -> None:
        self.questions, self.state, self.target = questions, questions.state, target
        self._failed: dict[tuple[str, str, str | None], Failure] = {}
        """(image, model, class asked for) -> why there is no explanation."""

    @property
    def image(self) -> str:
        """Path of the current image."""
        return "" if self.state.item is None else self.state.item.path

    def result(self, model: str) -> Explanation | Failure | None:
        """What a model answered; None: still awaited."""
        found = self.state.find(self.image, model, self.target)
        return found or self._failed.get((self.image, model, self.target))

    def asked(self, model: str, text: str) -> Asked | None:
        """What a model says of a text that was asked for; None: it has not answered."""
        found = self.result(model)
        answers = found.asked if isinstance(found, Explanation) else ()
        return next((one for one in answers if one.text == text), None)

    def missing(self, models: Sequence[str]) -> tuple[str, ...]:
        """The models that have neither answered nor failed."""
        found = ((model, self.result(model)) for model in models)
        return tuple(m for m, one in found if not (isinstance(one, Failure) or self.state.is_complete(one)))

    def view(self, models: Sequence[str]) -> ComparisonView:
        """Compare the answers so far; raises `UsageError` where they cannot be compared."""
        results, numbers = [self.result(model) for model in models], itertools.count()
        found = [result for result in results if result is not None]
        known = {entry.id: entry.family for entry in self.state.entries}
        return ComparisonView(
            models=tuple(models),
            families=tuple(
                one.model.family if isinstance(one, Explanation) else known.get(model)
                for one, model in zip(results, models, strict=True)
            ),
            comparison=compare(found, target=self.target, true_class=self.state.label) if found else None,
            places=tuple(None if one is None else next(numbers) for one in results),
            asked=tuple(asked_row(t, [self.asked(model, t) for model in models]) for t in self.state.asks),
        )

    async def ask(self, models: Sequence[str], report: Callable[[protocol.Progress | None], object]) -> None:
        """Ask for what is missing; `report` is called with progress, and with None after each answer."""
        image, target, missing = self.image, self.target, self.missing(models)
        if not missing:
            return

        def take(partial: protocol.Partial) -> None:
            if isinstance(partial, protocol.Progress):
                report(partial)
            elif isinstance(partial, protocol.ColumnReady):
                if partial.explanation is not None:
                    self.state.keep(partial.explanation, image, partial.model, target)
                else:
                    code, message = partial.code or UNEXPECTED, partial.message or "it gave no reason"
                    self._fail(image, partial.model, target, code, message)
                report(None)

        code, message = UNEXPECTED, "the engine gave no answer for this model"
        try:
            asks, also = self.state.asks, self.state.true_classes
            request = protocol.Compare(models=missing, image=image, target=target, asks=asks, also=also, ranked=RANKED)
            await self.questions.engine.ask(request, take)
        except RequestError as error:
            code, message = error.reason, str(error)
        for model in missing:
            if self.state.find(image, model, target) is None and (image, model, target) not in self._failed:
                self._fail(image, model, target, code, message)
        report(None)

    def _fail(self, image: str, model: str, target: str | None, code: str, message: str) -> None:
        known = (self.state.find(image, other, None) for other in self.state.marked)
        path = next((one.image.path for one in known if one is not None and one.image.path is not None), image)
        self._failed[image, model, target] = Failure(path=path, model=model, code=code, message=message, exit_status=1)
