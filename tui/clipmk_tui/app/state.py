"""What lies on the desk: images, models, the class asked about, and every explanation made so far. No Textual."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from clipmk.concepts.mutual import Strength
from clipmk.explanation import Explanation
from clipmk.records import ModelEntry, Prediction

if TYPE_CHECKING:
    from clipmk_tui.app.image_list import Album, Item

KEPT = 512
"""Explanations kept at most; the ones not looked at for longest go first."""

COMPARED = 13
"""Most models in one comparison."""

_Key = tuple[str, str, str | None]
"""(image, model, class asked for; None: the predicted one)."""


class Desk:
    """The state behind the main screen; the screen draws it, and asks for what is missing.

    Args:
        model: the start model's id.
        marked: models to compare from the start.
    """

    def __init__(self, model: str, *, marked: Iterable[str] = ()) -> None:
        self.items: tuple[Item, ...] = ()
        self.model = model
        self.target: str | None = None
        """The class the user asked about; None: whatever the model predicts."""
        self.left_out: tuple[str, ...] = ()
        self.reranked: tuple[Prediction, ...] | None = None
        """The classes without `left_out`, once the engine has said."""
        self.marked: list[str] = list(dict.fromkeys(marked))
        self.entries: tuple[ModelEntry, ...] = ()
        self.sighted: dict[str, tuple[str, float]] = {}
        """Image -> (class, probability) that the current model predicts, as far as a survey told."""
        self.sorted_by_truth = False
        """Wrong predictions first."""
        self._order: list[int] = []
        self._place = 0
        self._kept: OrderedDict[_Key, Explanation] = OrderedDict()

    # Images.

    def lay_out(self, album: Album) -> None:
        """Begin with the images of an album."""
        self.items = album.items
        self._order = list(range(len(self.items)))
        self._place = 0
        self.sighted, self.sorted_by_truth = {}, False
        self._turn()

    @property
    def item(self) -> Item | None:
        """The image looked at."""
        return self.items[self._order[self._place]] if self._order else None

    @property
    def index(self) -> int:
        """Where it stands in `items`."""
        return self._order[self._place] if self._order else 0

    @property
    def place(self) -> tuple[int, int]:
        """(1-based place of the image in the walking order, number of images)."""
        return (self._place + 1 if self._order else 0, len(self._order))

    @property
    def title(self) -> str:
        """Name and place of the image looked at, and in which order when it is not the folder's."""
        if self.item is None:
            return "no image"
        place, count = self.place
        order = "  wrong first" if self.sorted_by_truth else ""
        return f"{self.item.path.rpartition('/')[2]}  {place}/{count}{order}"

    def step(self, by: int) -> bool:
        """Walk on, without going round; whether there was an image to go to."""
        place = min(max(self._place + by, 0), len(self._order) - 1)
        if not self._order or place == self._place:
            return False
        self._place = place
        self._turn()
        return True

    def go_to(self, index: int) -> None:
        """Look at one of `items`."""
        self._place = self._order.index(index)
        self._turn()

    def walk(self, order: Sequence[int], *, by_truth: bool = False) -> None:
        """Walk through the images in another order from now on, from its beginning."""
        self._order = list(order)
        self.sorted_by_truth = by_truth
        self._place = 0
        self._turn()

    # Models and classes.

    def choose_model(self, model: str) -> bool:
        """Look at the image with another model; whether it is another one. The class asked about stays.

        Which images are predicted wrong is another matter for another model: wrong-first ends.
        """
        if model == self.model:
            return False
        self.model = model
        self._end_survey()
        self.restore()
        return True

    def neighbour(self, by: int) -> str | None:
        """The model before or after the current one: among the marked ones where there are two, else among all here."""
        marked = [entry.id for entry in self.entries if entry.id in self.marked]
        marked += [model for model in self.marked if model not in marked]
        here = [entry.id for entry in self.entries if entry.source != "remote"]
        models = marked if len(marked) >= 2 else here
        if self.model not in models:
            return models[0] if models else None
        return models[(models.index(self.model) + by) % len(models)] if len(models) > 1 else None

    def mark(self, model: str) -> bool:
        """Take a model into the comparison or out of it; False where there are already `COMPARED`."""
        if model in self.marked:
            self.marked.remove(model)
            return True
        if len(self.marked) >= COMPARED:
            return False
        self.marked.append(model)
        return True

    # Explanations.

    def keep(self, explanation: Explanation, image: str, model: str, target: str | None) -> None:
        """Keep an explanation at hand."""
        self._kept[image, model, target] = explanation
        self._kept.move_to_end((image, model, target))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def drop(self, image: str) -> None:
        """Forget what was said of an image."""
        for key in [key for key in self._kept if key[0] == image]:
            del self._kept[key]
        self.restore()

    def forget(self) -> None:
        """Drop all explanations: the settings have changed."""
        self._kept.clear()
        self._end_survey()
        self.restore()

    @property
    def explanation(self) -> Explanation | None:
        """The one that answers what is asked now, where it is at hand."""
        return None if self.item is None else self.find(self.item.path, self.model, self.target)

    def find(self, image: str, model: str, target: str | None) -> Explanation | None:
        """An explanation at hand, or made from one at hand without a model (see `clipmk.explanation`)."""
        own = self._kept.get((image, model, None))
        key = (image, model, target)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if own is not None and target is not None and target in own.classes:
            return own.for_class(target)
        return None

    def at_hand(self, models: Iterable[str]) -> Mapping[str, Explanation]:
        """What those models said of the image looked at, each of its own prediction."""
        if self.item is None:
            return {}
        found = {model: self.find(self.item.path, model, None) for model in models}
        return {model: explanation for model, explanation in found.items() if explanation is not None}

    # Leaving out.

    def leave_out(self, text: str) -> None:
        """Leave a vision concept out, or take it in again."""
        if text in self.left_out:
            self.left_out = tuple(other for other in self.left_out if other != text)
        else:
            self.left_out = (*self.left_out, text)
        self.reranked = None

    def restore(self) -> None:
        """Take all concepts in again."""
        self.left_out = ()
        self.reranked = None

    @property
    def strength(self) -> Strength | None:
        """The shared knowledge without what is left out; None where nothing is."""
        explanation = self.explanation
        if explanation is None or not self.left_out:
            return None
        seen = {concept.text for concept in explanation.vision_concepts}
        return explanation.without([text for text in self.left_out if text in seen])

    @property
    def blurred(self) -> frozenset[int]:
        """Parts that carry what is left out."""
        explanation = self.explanation
        if explanation is None:
            return frozenset()
        return frozenset(
            part for concept in explanation.vision_concepts if concept.text in self.left_out for part in concept.parts
        )

    def _end_survey(self) -> None:
        """Know nothing of other images any more: the folder's order again, and the same image in it."""
        self._place = self.index
        self._order = list(range(len(self.items)))
        self.sighted, self.sorted_by_truth = {}, False

    def _turn(self) -> None:
        """A new image: what was asked about the last one is settled."""
        self.target = None
        self.restore()
