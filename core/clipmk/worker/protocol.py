"""What the app and its worker say to each other: frozen messages, one JSON object a line.

The conversation: the client sends `Hello`, the worker answers `Ready`; then requests, each with an `id` of its own. The
worker works on one request at a time, in the order they came. Every request but `Cancel` gets any number of partial
answers (`Progress`, `ColumnReady`, `Sighted`) and then exactly one final one (`Failed` included), all with its id.
The end of the worker's input ends the worker. Plain Python: importing this loads neither torch nor numpy.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from clipmk.errors import OUT_OF_MEMORY, UNEXPECTED, ProtocolError
from clipmk.explanation import Explanation
from clipmk.records import ModelEntry, ModelInfo, Prediction
from clipmk.system.serialization import MalformedRecordError, from_plain, plain
from clipmk.worker.session import Session

__all__ = [
    "CANCELLED",
    "OUT_OF_MEMORY",
    "UNEXPECTED",
    "VERSION",
    "Answer",
    "Cancel",
    "ColumnReady",
    "Compare",
    "Compared",
    "Explain",
    "Explained",
    "Failed",
    "Final",
    "Hello",
    "ListModels",
    "Listed",
    "Load",
    "Loaded",
    "Message",
    "Partial",
    "Progress",
    "ProtocolError",
    "Ready",
    "Request",
    "Reranked",
    "Session",
    "Sighted",
    "Survey",
    "Surveyed",
    "WhatIf",
    "decode",
    "encode",
    "numbered",
]

VERSION = 1
"""Raised with every change of a message: client and worker of different versions refuse each other."""

CANCELLED = "cancelled"
"""Code of the failure that answers a cancelled request."""


# Client to worker.


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first line: which version the client speaks, and what it wants."""

    version: int
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load a model and embed the vocabulary with it; answered by `Loaded`."""

    id: int = 0
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Explain an image; answered by `Explained`."""

    id: int = 0
    model: str
    image: str
    """Path."""
    target: str | None = None
    """Class to explain; None: the predicted one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Rank the classes again with the parts that carry some vision concepts blurred; answered by `Reranked`."""

    id: int = 0
    model: str
    image: str
    target: str | None = None
    left_out: tuple[str, ...]
    """Texts of vision concepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Explain an image with several models; a `ColumnReady` each, then `Compared`."""

    id: int = 0
    models: tuple[str, ...]
    image: str
    target: str | None = None
    """One class for all; None: each model's own prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Predict many images without explaining them; a `Sighted` each, then `Surveyed`."""

    id: int = 0
    model: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListModels:
    """What can be loaded; answered by `Listed`."""

    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Give a request up: it is answered by `Failed` with code "cancelled", unless it was answered already."""

    id: int = 0
    request: int


# Worker to client.


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The answer to `Hello`."""

    version: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a request is."""

    id: int
    stage: str
    """"loading", "texts", "image", "parts", "prompts", ..."""
    done: int
    total: int
    """0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model is ready."""

    id: int
    model: ModelInfo
    classes: tuple[str, ...]
    """Of the vocabulary."""
    descriptor_count: int
    device: str
    load_ms: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """An explanation, without its picture."""

    id: int
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked:
    """The classes on the picture with some concepts blurred."""

    id: int
    left_out: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    """The highest few, then those of the explanation's that have fallen below them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReady:
    """One model's share of a comparison: either its explanation, or why there is none."""

    id: int
    model: str
    """As the request named it."""
    explanation: Explanation | None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All columns of a comparison were sent."""

    id: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """What a model predicts for one image of a survey: the class, or why there is none."""

    id: int
    image: str
    class_name: str | None
    probability: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """All images of a survey were sent."""

    id: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What can be loaded, embedded models first."""

    id: int
    models: tuple[ModelEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request came to nothing. An id of 0: the conversation itself did."""

    id: int
    code: str
    """A `ClipmkError.code`, or one of this module's."""
    message: str
    """One sentence: what happened, and what to do."""


Request = Load | Explain | WhatIf | Compare | Survey | ListModels
Partial = Progress | ColumnReady | Sighted
Final = Loaded | Explained | Reranked | Compared | Surveyed | Listed | Failed
Answer = Partial | Final
Message = Hello | Cancel | Ready | Request | Answer

_KINDS: tuple[type[Any], ...] = (
    *(Hello, Load, Explain, WhatIf, Compare, Survey, ListModels, Cancel),
    *(Ready, Progress, Loaded, Explained, Reranked, ColumnReady, Compared, Sighted, Surveyed, Listed, Failed),
)
_NAMES = {kind: re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower() for kind in _KINDS}
_TYPES = {name: kind for kind, name in _NAMES.items()}

Numbered = TypeVar("Numbered", Load, Explain, WhatIf, Compare, Survey, ListModels)


def numbered(request: Numbered, request_id: int) -> Numbered:
    """The same request under an id of its own."""
    return replace(request, id=request_id)


def encode(message: Message) -> bytes:
    """One line of JSON, ASCII only, with its newline; `{"type": "explain", "id": 3, ...}`."""
    content = {"type": _NAMES[type(message)], **plain(message)}
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Read a line back.

    Raises:
        ProtocolError: it is no JSON object, or no message of this version.
    """
    try:
        content = json.loads(line)
        kind = _TYPES[content.pop("type")]
        message: Message = from_plain(kind, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MalformedRecordError) as reason:
        raise ProtocolError(f"{line[:120]!r} is no message of version {VERSION}: {reason}") from reason
    return message
