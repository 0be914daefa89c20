"""What the panes tell the screen: one message for each thing a user can want."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message


@dataclass
class ChooseClass(Message):
    """Explain this class ("why not B?")."""

    class_name: str


@dataclass
class ChooseModel(Message):
    """Explain with this model."""

    model: str


@dataclass
class MarkModel(Message):
    """Take a model into the comparison, or out of it."""

    model: str


@dataclass
class LightUp(Message):
    """The concept or part under the cursor was seen on these parts."""

    parts: tuple[int, ...]


@dataclass
class LeaveOut(Message):
    """Leave a vision concept out, or take it in again."""

    text: str


@dataclass
class Restore(Message):
    """Take all concepts in again."""
