"""What panes ask for and what the engine answers, as messages to the main screen. A leaf: knows no widget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.records import ModelEntry, Prediction
    from clipmk.worker.protocol import Loaded
    from clipmk.worker.session import Session
    from clipmk_tui.app.image_list import Item


class Latest(Message):
    """Of several in a row only the last one counts: cursor moves, progress."""

    def can_replace(self, message: Message) -> bool:
        """Whether this one makes an earlier one superfluous."""
        return type(message) is type(self)


# What panes and palette ask for.


class Changed(Latest):
    """The state has changed: draw it, and ask for what is missing."""


@dataclass
class ChooseClass(Message):
    """Explain this class ("why not B?")."""

    class_name: str


@dataclass
class ChooseModel(Message):
    """Explain with this model."""

    model: str


@dataclass
class ChooseImage(Message):
    """Show this image."""

    index: int
    """In the image list."""


@dataclass
class MarkModel(Message):
    """Add a model to the comparison, or remove it."""

    model: str


@dataclass
class DownloadModel(Message):
    """Download the weights of this model."""

    model: str


@dataclass
class MarkModels(Message):
    """Add all these models to the comparison; if they are in it, remove them."""

    models: tuple[str, ...]


@dataclass
class LightUp(Latest):
    """Highlight these parts: the ones the concept or part under the cursor was seen on."""

    parts: frozenset[int]


@dataclass
class SelectPart(Latest):
    """Highlight a part, and the concepts that were seen on it."""

    part: int


@dataclass
class LeaveOut(Message):
    """Leave a vision concept out, or restore it."""

    text: str


@dataclass
class Restore(Message):
    """Restore all concepts."""


@dataclass
class Undo(Message):
    """Undo the last change of what is left out."""


# What the engine answers.


@dataclass
class WorkProgress(Latest):
    """What the engine is working on."""

    stage: str
    """Empty: nothing any more."""
    done: int = 0
    total: int = 0


@dataclass
class PictureRead(Message):
    """An image is decoded, or cannot be."""

    path: str
    picture: Picture | str
    """Or why there is none."""


@dataclass
class ModelLoaded(Message):
    """A model is ready."""

    loaded: Loaded
    session: Session


@dataclass
class Explained(Message):
    """An explanation, or why there is none."""

    image: str
    model: str
    target: str | None
    session: Session
    explanation: Explanation | None
    error: str = ""
    model_failed: bool = False
    """The error is the model's: no image can be explained with it."""


@dataclass
class Reranked(Message):
    """The classes with some concepts left out."""

    image: str
    model: str
    left_out: tuple[str, ...]
    predictions: tuple[Prediction, ...]


@dataclass
class Surveyed(Message):
    """What a model predicts for all images."""

    model: str
    items: tuple[Item, ...]
    predicted: Mapping[str, tuple[str, float]]
    """Path -> (class, probability)."""
    order: Sequence[int]
    """Indices of `items`, wrong predictions first."""
    verdicts: Sequence[bool | None]
    """Whether each item is predicted right; None: not known."""
    failed: Sequence[str]
    """Why an image has no prediction, for each that has none."""


@dataclass
class Downloaded(Message):
    """A model is on this machine now."""

    model: str


@dataclass
class ModelsListed(Message):
    """All models there are."""

    entries: tuple[ModelEntry, ...]


@dataclass
class Failed(Message):
    """Something did not work; the user should know."""

    message: str
    severe: bool = False
