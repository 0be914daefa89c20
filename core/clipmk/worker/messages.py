"""What a client and a server say: frozen messages, one JSON object a line, bytes of an image raw behind their line.

The server speaks first (`Welcome`). The client asks one thing at a time: an `Order`, followed by `Order.attached`
bytes; it hears any number of `Working`, then a `Result` per image, in their order, and `Done`; or one `Declined`.
Hanging up gives an order up. Plain Python: importing this loads neither torch nor numpy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from clipmk.errors import ProtocolError
from clipmk.explanation import Explanation
from clipmk.settings import Settings
from clipmk.system.serialization import MalformedRecordError, from_plain, plain

VERSION = 1
"""Raised with every change of a message."""

ORDER_BYTES = 2**20
"""Longest line of a client."""
ATTACHED_BYTES = 64 * 2**20
"""Largest image sent instead of named; larger ones are explained by the client itself."""
ANSWER_BYTES = 256 * 2**20
"""Longest line of a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server's first line: who it is, and how it is doing."""

    protocol: int
    clipmk: str
    identity: dict[str, Any]
    """See `clipmk.worker.identity`."""
    pid: int
    uptime_s: float
    idle_s: float
    """It ends after so long without an order."""
    orders: int
    """Worked off so far."""
    waiting: int
    """Orders that are waited for, the one being worked on included."""
    models: tuple[str, ...]
    """Held in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Explain images with one model."""

    folder: str
    """Where the client stands: all names below are as the user typed them, relative to here."""
    images: tuple[str, ...]
    """Paths; "-": the attached bytes. They are fitted together where the settings say so."""
    attached: int = 0
    model: str
    vocabulary: str | None
    """None: the model's own."""
    classes: str | None
    target: str | None
    settings: Settings
    device: str
    precision: str
    arch: str | None
    cache: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """A sign of life: how far the order is."""

    stage: str
    """As `Explainer` names it, "loading", or "waiting" for other clients."""
    done: int = 0
    total: int = 0
    """0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One image: its explanation without the picture, or why the image cannot be read or explained."""

    explanation: Explanation | None
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """All results of an order were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The server cannot do this; it is the client's to find out why, in its own words."""

    code: str
    message: str


Message = Welcome | Order | Working | Result | Done | Declined
_TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in (Welcome, Order, Working, Result, Done, Declined)}


def encode(message: Message) -> bytes:
    """One line of JSON, ASCII only, with its newline."""
    content = {"type": type(message).__name__, **plain(message)}
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Read a line back.

    Raises:
        ProtocolError: it is no message of this version.
    """
    try:
        content = json.loads(line)
        kind = _TYPES[content.pop("type")]
        message: Message = from_plain(kind, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MalformedRecordError) as reason:
        raise ProtocolError(f"{line[:120]!r} is no message of version {VERSION}: {str(reason)[:200]}") from reason
    return message
