"""What the app shows: images, models, the class asked about, every explanation made so far. The one owner; no Textual.

`State` changes, `State.view` is what there is to draw at that moment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from clipmk.explanation import Explanation
from clipmk.records import ModelEntry, Mutual, Prediction
from clipmk.system.text import byte_size
from clipmk.vocabulary.classes import ClassIndex

if TYPE_CHECKING:
    from clipmk.worker.protocol import Loaded
    from clipmk_tui.app.concept_rows import Answers
    from clipmk_tui.app.image_list import ImageList, Item

KEPT = 512  # explanations kept at most; the least recently used ones go first

PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""Types of numbers as `--precision` names them."""

COMPARED = 13  # most models in one comparison
_Key = tuple[str, str, str | None]  # (image, model, class asked for; None: the predicted one)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the panes draw: a snapshot; by default of nothing."""

    title: str = ""  # name and place of the image, and the order of the images when it is not the folder's
    image: str | None = None  # its path
    model: str = ""
    device: str = ""
    """Device, precision, speed and GPU memory as far as known; empty while the model is not loaded."""
    entries: tuple[ModelEntry, ...] = ()
    marked: tuple[str, ...] = ()
    speed: Mapping[str, float] = field(default_factory=dict)
    """Model -> the least milliseconds that an explanation took."""
    failed: Mapping[str, str] = field(default_factory=dict)  # model that could not be used -> why
    explanation: Explanation | None = None
    asked: Answers = ()
    target: str | None = None  # the class asked about: the user's choice, or the predicted one once it is known
    label: str | None = None  # the true class of the image, in the vocabulary's words; None where it is not known
    named: str | None = None  # the same as its source names it
    left_out: tuple[str, ...] = ()
    strength: Mutual | None = None  # the shared knowledge without what is left out; None where nothing is
    blurred: frozenset[int] = frozenset()  # ids of the parts that carry what is left out
    reranked: tuple[Prediction, ...] | None = None
    """The classes without what is left out, once the engine has answered."""
    failure: str = ""  # why there is no explanation


class State:
    """The state behind the screens, with the start model and the models marked for comparison from the start."""

    def __init__(self, model: str, *, marked: Iterable[str] = ()) -> None:
        self.items: tuple[Item, ...] = ()
        self.model = model
        self.target: str | None = None  # the class the user asked about; None: the predicted one
        self.asks: tuple[str, ...] = ()
        """Texts of the user's own, the latest last: every image and model is asked for them."""
        self.left_out: tuple[str, ...] = ()
        self._undo: list[Callable[[], None]] = []  # undoes each change of what is left out, and each withdrawal
        self.reranked: tuple[Prediction, ...] | None = None
        self.failure = ""  # why what is asked about has no explanation
        self.uses_server = False  # a `clipmk serve` answers
        self.marked: list[str] = list(dict.fromkeys(marked))
        self.entries: tuple[ModelEntry, ...] = ()
        self.loaded: dict[str, Loaded] = {}  # model -> what the engine reported when it loaded it
        self._classes: dict[str, ClassIndex] = {}
        self.speed: dict[str, float] = {}  # model -> the least milliseconds that an explanation took
        self.failed: dict[str, str] = {}  # model that could not be used -> why
        self.index = 0  # of the current image in `items`
        self._kept: OrderedDict[_Key, Explanation] = OrderedDict()

    @property
    def view(self) -> View:
        """What there is to draw now."""
        explanation = self.explanation
        if explanation is None and self.item is not None and not self.failure:  # until the class's own arrives
            explanation = self.find(self.item.path, self.model, None)
        seen = () if explanation is None else explanation.vision_concepts
        out = [concept.text for concept in seen if concept.text in self.left_out]
        strength = explanation.without(out) if explanation and out else None
        answers = {} if explanation is None else {one.text: one for one in explanation.asked}
        return View(
            title=self.title,
            image=None if self.item is None else self.item.path,
            model=self.model,
            device=self._device(explanation),
            entries=self.entries,
            marked=tuple(self.marked),
            speed=dict(self.speed),
            failed=dict(self.failed),
            explanation=explanation,
            asked=tuple((text, answers.get(text)) for text in reversed(self.asks)),
            target=self.target or (None if explanation is None else explanation.class_name),
            label=self.label,
            named=None if self.item is None else self.item.label,
            left_out=self.left_out,
            strength=strength,
            blurred=explanation.parts_of(out) if explanation else frozenset(),
            reranked=self.reranked,
            failure=self.failure,
        )

    # Images.

    def open(self, images: ImageList) -> None:
        """Begin with the first of some images."""
        self.items = images.items
        self.go_to(0)

    @property
    def item(self) -> Item | None:
        """The current image."""
        return self.items[self.index] if self.items else None

    @property
    def place(self) -> tuple[int, int]:
        """(1-based place of the image, number of images)."""
        return (self.index + 1 if self.items else 0, len(self.items))

    @property
    def title(self) -> str:
        """Name and place of the current image."""
        if self.item is None:
            return "no image"
        return f"{self.item.path.rpartition('/')[2]}  {self.index + 1}/{len(self.items)}"

    def step(self, by: int) -> bool:
        """Go to another image, not beyond the ends; whether there was one."""
        index = min(max(self.index + by, 0), len(self.items) - 1)
        if not self.items or index == self.index:
            return False
        self.go_to(index)
        return True

    def go_to(self, index: int) -> None:
        """Go to one of `items`: its predicted class is asked about."""
        self.index = index
        self.target = None
        self._reset_answer()

    # Models and classes.

    def choose_model(self, model: str) -> bool:
        """Explain with another model; whether it is another one."""
        if model == self.model:
            return False
        self.model = model
        self._reset_answer()
        return True

    def add_loaded(self, loaded: Loaded) -> None:
        """Keep what the engine reported of a model."""
        self.loaded[loaded.model.id] = loaded
        self._classes[loaded.model.id] = ClassIndex(loaded.classes)

    def neighbour(self, by: int) -> str | None:
        """The model before or after the current one: among the marked ones where there are two, else among all here."""
        marked = [entry.id for entry in self.entries if entry.id in self.marked]
        marked += [model for model in self.marked if model not in marked]
        here = [entry.id for entry in self.entries if entry.source != "remote" and entry.id not in self.failed]
        models = marked if len(marked) >= 2 else here
        if self.model not in models:
            return models[0] if models else None
        return models[(models.index(self.model) + by) % len(models)] if len(models) > 1 else None

    def mark(self, models: Sequence[str]) -> bool:
        """Add models to the comparison, or remove them if it has as many as it can; False where not all have room."""
        others = [model for model in self.marked if model not in models]
        wanted = models[: COMPARED - len(others)]
        if wanted and set(wanted) <= set(self.marked):
            self.marked = others
            return True
        self.marked = [*others, *wanted]
        return len(wanted) == len(models)

    # Explanations.

    def choose_class(self, class_name: str | None) -> None:
        """Ask about another class (None: the predicted one)."""
        self.target = class_name
        self._reset_answer()

    def is_asked(self, image: str, model: str, target: str | None) -> bool:
        """Whether this is what the user asks about now."""
        return self.item is not None and (self.item.path, self.model, self.target) == (image, model, target)

    def keep(self, explanation: Explanation, image: str, model: str, target: str | None) -> None:
        """Keep an explanation."""
        if all(key[:2] != (image, model) for key in self._kept):  # else the image was encoded before
            self.speed[model] = min(explanation.elapsed_ms.explain, self.speed.get(model, inf))
        self._kept[image, model, target] = explanation
        self.failed.pop(model, None)
        self._kept.move_to_end((image, model, target))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def drop(self, image: str) -> None:
        """Forget the explanations of an image."""
        for key in [key for key in self._kept if key[0] == image]:
            del self._kept[key]
        self._reset_answer()

    def forget(self) -> None:
        """Drop all answers: the settings have changed."""
        self._kept.clear()
        self.loaded.clear()
        self._classes.clear()
        self._reset_answer()

    @property
    def explanation(self) -> Explanation | None:
        """The one that answers what is asked now, if there is one."""
        return None if self.item is None else self.find(self.item.path, self.model, self.target)

    @property
    def explained_class(self) -> str | None:
        """The class asked about once it is explained; None: the predicted one."""
        return None if self.explanation is None else self.target

    def find(self, image: str, model: str, target: str | None) -> Explanation | None:
        """A kept explanation, or one derived from a kept one without a model (see `clipmk.explanation`)."""
        key = (image, model, target)
        if key not in self._kept:
            derived = self._derived(image, model, target)
            if derived is None:
                return None
            self.keep(derived, *key)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _derived(self, image: str, model: str, target: str | None) -> Explanation | None:
        """The explanation of a class (None: the predicted one) from that of another class."""
        for (path, name, _), held in reversed(self._kept.items()):
            if (path, name) == (image, model):
                wanted = held.predictions[0].class_name if target is None else target
                if wanted in held.classes:
                    return held.for_class(wanted)
        return None

    @property
    def label(self) -> str | None:
        """The true class of the current image, in the words of the current model's vocabulary."""
        index = self._classes.get(self.model) or next(iter(self._classes.values()), None)  # all have one vocabulary
        return None if self.item is None or index is None else index.find(self.item.label)

    @property
    def true_classes(self) -> tuple[str, ...]:
        """The true class where it is known: ranked however improbable it is."""
        return () if self.label is None else (self.label,)

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes that can be asked about: the vocabulary's, or those of the explanation until they are known."""
        loaded, made = self.loaded.get(self.model), self.explanation
        return loaded.classes if loaded else () if made is None else made.classes

    def _device(self, made: Explanation | None) -> str:
        """Of the current model: ``cpu fp32 · 11 ms``; on a GPU also the memory in use."""
        loaded = self.loaded.get(self.model)
        dtype = "" if made is None else PRECISION.get(made.provenance.dtype, made.provenance.dtype)
        facts = [f"{loaded.device} {dtype}".rstrip()] if loaded else []
        facts += [f"{self.speed[self.model]:.0f} ms"] if self.model in self.speed else []
        facts += [byte_size(loaded.gpu_bytes)] if loaded and loaded.gpu_bytes else []
        return " · ".join([*facts, *(["server"] if self.uses_server else [])])

    @property
    def with_what_if(self) -> Explanation | None:
        """`explanation`, and what it becomes without what is left out of it: what is written to a file."""
        explanation = self.explanation
        seen = () if explanation is None else [concept.text for concept in explanation.vision_concepts]
        out = tuple(text for text in self.left_out if text in seen)
        return explanation.with_what_if(out, self.reranked) if explanation is not None and out else explanation

    # Asking.

    def ask(self, text: str) -> None:
        """Ask for a text, which is the latest one then."""
        self.asks = (*(other for other in self.asks if other != text), text)

    def withdraw(self, text: str) -> None:
        """Ask for a text no more."""
        self._undo.append(partial(self.ask, text))
        self.asks = tuple(other for other in self.asks if other != text)

    def is_complete(self, explanation: Explanation | None) -> bool:
        """Whether an explanation answers what is asked for, and nothing else."""
        return explanation is not None and {one.text for one in explanation.asked} == set(self.asks)

    # Leaving out.

    def leave_out(self, text: str) -> None:
        """Leave a vision concept out, or restore it."""
        others = tuple(other for other in self.left_out if other != text)
        self._leave_out_just(others if text in self.left_out else (*others, text))

    def restore(self) -> None:
        """Restore all concepts."""
        if self.left_out:
            self._leave_out_just(())

    def undo(self) -> None:
        """Undo the last change of what is left out, or the last withdrawal."""
        if self._undo:
            self._undo.pop()()

    def _leave_out_just(self, texts: tuple[str, ...]) -> None:
        self._undo.append(partial(self._set_left_out, self.left_out))
        self._set_left_out(texts)

    def _set_left_out(self, texts: tuple[str, ...]) -> None:
        self.left_out, self.reranked = texts, None

    def _reset_answer(self) -> None:
        """The user asks about something else."""
        self._set_left_out(())
        self._undo.clear()
        self.failure = ""
