"""What panes ask for and how far the engine is, as messages to the main screen. A leaf: knows no widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from clipmk.records import Asked
    from clipmk_tui.app.state import State


class Latest(Message):
    """Of several in a row only the last one counts: cursor moves, progress."""

    def can_replace(self, message: Message) -> bool:
        """Whether this one makes an earlier one superfluous."""
        return type(message) is type(self)


class Changed(Latest):
    """The state has changed: draw it, and ask for what is missing."""


@dataclass
class DownloadModel(Message):
    """Download the weights of this model."""

    model: str


@dataclass
class MarkModels(Message):
    """Add these models to the comparison; if they are in it, remove them."""

    models: tuple[str, ...]


@dataclass
class LightUp(Latest):
    """Highlight these parts: the ones the concept or part under the cursor was seen on."""

    parts: frozenset[int]
    asked: Asked | None = None  # what was asked for and is under the cursor: its map is shown


@dataclass
class SelectPart(Latest):
    """Highlight a part, and the concepts that were seen on it."""

    part: int


@dataclass
class ChangeState(Message):
    """Change what is left out or asked for, or the model; ask what that needs."""

    change: Callable[[State], object]  # what is done, such as `State.undo`


@dataclass
class WorkProgress(Latest):
    """What the engine is working on."""

    stage: str  # empty: nothing any more
    done: int = 0
    total: int = 0


class ModelLoaded(Latest):
    """A model is ready: what is known of it is in the state."""
