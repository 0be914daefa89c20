"""The messages between a client and the worker: frozen, one JSON object a line.

The worker speaks first (`Greeting`). The client answers with `Hello`, which carries its session, then sends requests,
each with an `id` of its own; another `Hello` is another session for what follows. The bytes of an attached image follow
their line. Requests of all clients are processed
one at a time, in the order they came, downloads beside them. Each gets any number of partial answers (`Progress`,
`ImageExplained`, `ColumnReady`) and then exactly one final one (`Failed` included), all with its id. A
client that closes its end cancels its requests. Plain Python: importing this loads neither torch nor numpy.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Generic, Never, TypeVar, get_args

from clipmk.errors import ClipmkError, ProtocolError
from clipmk.explanation import Explanation
from clipmk.records import ModelEntry, ModelInfo, Prediction
from clipmk.system.serialization import MalformedRecordError, from_plain, plain
from clipmk.worker.session import Session

VERSION = 7
"""Raised with every change of a message: client and worker of different versions refuse each other."""

CANCELLED = "cancelled"  # code of the failure that answers a cancelled request
REQUEST_BYTES = 64 * 2**20  # longest line of a client: some hundred thousand images to explain
ATTACHED_BYTES = 64 * 2**20  # largest image that is sent instead of named
ANSWER_BYTES = 256 * 2**20  # longest line of the worker


A_co = TypeVar("A_co", bound="Final", covariant=True)  # the final answer to a request

# Client to worker.


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The client's first line: which version it speaks, and what its requests share; sent again to change that."""

    version: int
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered(Generic[A_co]):
    """What a client sends after its `Hello`."""

    id: int = 0
    """Of this message; the client counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _AboutImage(Numbered[A_co]):
    """What is asked about an image. Other texts or another target need no further forward."""

    image: str
    """Path."""
    target: str | None = None
    """Class to explain; None: the predicted one."""
    asks: tuple[str, ...] = ()
    """Texts to answer; see `Explanation.asked`."""
    maps: bool = False
    """Get ready for texts that are asked for next."""
    also: tuple[str, ...] = ()
    """Classes whose rank and probability are reported, too."""
    ranked: int = 0
    """Classes to rank, where they are more than the settings have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Numbered["Loaded"]):
    """Load a model and embed the vocabulary with it; answered by `Loaded`."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(_AboutImage["Explained"]):
    """Explain an image; answered by `Explained`."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainImages(Numbered["Done"]):
    """Explain images; an `ImageExplained` each, then `Done`."""

    model: str
    images: tuple[str, ...]
    """Paths; "-": the attached bytes."""
    target: str | None = None
    asks: tuple[str, ...] = ()
    attached: int = 0
    """Number of bytes that follow the line."""
    stream: bool = False
    """They are some of many: explained as `Explainer.stream` would, fitted together where the settings ask for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf(_AboutImage["Reranked"]):
    """Rank the classes again with the parts that carry some vision concepts blurred; answered by `Reranked`."""

    model: str
    left_out: tuple[str, ...]
    """Texts of vision concepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(_AboutImage["Done"]):
    """Explain an image with several models; a `ColumnReady` each, then `Done`. A target is one class for all."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListModels(Numbered["Listed"]):
    """What can be loaded; answered by `Listed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Numbered["Pulled"]):
    """Download what is missing of a model, beside all other requests; answered by `Pulled`."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Numbered[Never]):
    """Cancel a request: it is answered by `Failed` with code "cancelled", unless it was answered already."""

    request: int


# Worker to client.


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The worker's first line. The places of `protocol` and `clipmk` are the same in every version."""

    protocol: int
    clipmk: str
    """Release."""
    pid: int
    identity: dict[str, Any] = field(default_factory=dict)
    """See `clipmk.worker.client.identity`; empty over the pipe: the app starts its child from its own files."""
    uptime_s: float = 0.0
    idle_s: float = 0.0
    """A server ends after so long without a request."""
    requests: int = 0
    """Answered so far."""
    waiting: int = 0
    """Requests that are not answered yet."""
    models: tuple[str, ...] = ()
    """Held in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What a worker sends after its `Greeting`."""

    id: int
    """Of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome(_Reply):
    """An explanation without its picture, or an error."""

    explanation: Explanation | None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(_Reply):
    """How far a request is; also sent by a server once a second, as a sign of life."""

    stage: str
    """"waiting" (for other requests), "loading", "texts", "image", "parts", "prompts", "download" (bytes), ..."""
    done: int
    total: int
    """0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(_Reply):
    """A model is ready."""

    model: ModelInfo
    classes: tuple[str, ...]
    """Of the vocabulary."""
    descriptor_count: int
    device: str
    load_ms: float
    warnings: tuple[str, ...]
    gpu_bytes: int | None = None
    """GPU memory that the worker holds for all its models; None without a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained(_Reply):
    """An explanation, without its picture."""

    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExplained(_Outcome):
    """One image: its explanation without the picture, or an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked(_Reply):
    """The classes on the picture with some concepts blurred."""

    left_out: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    """The highest few, then those of the explanation's that have fallen below them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReady(_Outcome):
    """One model of a comparison: its explanation, or an error."""

    model: str
    """As the request named it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(_Reply):
    """All images or models of a request were answered."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(_Reply):
    """What can be loaded, embedded models first."""

    models: tuple[ModelEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled(_Reply):
    """A model is on this machine."""

    model: ModelEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Reply):
    """A request failed; with an id of 0: the conversation did, and is over."""

    code: str
    """A `ClipmkError.code`, `CANCELLED`, or one of `clipmk.errors`."""
    message: str
    """One sentence: what happened, and what to do."""


class RequestError(ClipmkError):
    """A request that failed; `reason` is the `code` of the `Failed` answer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


Request = Load | Explain | ExplainImages | WhatIf | Compare | ListModels | Pull
Partial = Progress | ImageExplained | ColumnReady
Final = Loaded | Explained | Reranked | Done | Listed | Pulled | Failed
Answer = Partial | Final
Message = Hello | Cancel | Greeting | Request | Answer

_NAMES = {kind: re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower() for kind in get_args(Message)}
_TYPES: dict[str, type[Any]] = {name: kind for kind, name in _NAMES.items()}


def encode(message: Message) -> bytes:
    """One line of JSON, ASCII only, with its newline; `{"type": "explain", "id": 3, ...}`."""
    content = {"type": _NAMES[type(message)], **plain(message)}
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Read a line back; `ProtocolError` if it is not a message of this version."""
    try:
        content = json.loads(line)
        kind = _TYPES[content.pop("type")]
        message: Message = from_plain(kind, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MalformedRecordError) as reason:
        why = str(reason)[:200]
        raise ProtocolError(f"{line[:120]!r} is not a message of protocol {VERSION}: {why}") from reason
    return message
