"""A child that misbehaves as it is told: `stub_worker.py MODE [FILE]`, in place of `python -m clipmk.worker.pipe`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from clipmk.records import ModelInfo
from clipmk.worker import protocol
from clipmk.worker.protocol import Greeting, Hello, Message, Request, decode, encode

NEVER = 600
"""Seconds after which a child ends that nobody has ended: long after a test has given it up."""


def send(message: Message) -> None:
    sys.stdout.buffer.write(encode(message))
    sys.stdout.buffer.flush()


def die() -> None:
    os.write(2, b"an earlier line\nthe last \x1b[31mwords\n  \n")
    os.kill(os.getpid(), signal.SIGKILL)


def greet(mode: str) -> Hello:
    if mode == "stillborn":
        os.write(2, b"ModuleNotFoundError: no module named torch\nafter it\n")
        sys.exit(3)
    send(Greeting(protocol=99 if mode == "foreign" else protocol.VERSION, clipmk="0", pid=os.getpid()))
    hello = decode(sys.stdin.buffer.readline())
    assert isinstance(hello, Hello)
    if mode == "refusing":
        send(protocol.Failed(id=0, code="protocol", message="it wants version 0"))
        time.sleep(NEVER)
    return hello


def loaded(request: protocol.Load, hello: Hello, seen: int) -> protocol.Loaded:
    """Says who answers (`device`), under which session (first class), after how many requests."""
    info = ModelInfo(
        id=request.model, family="vit", weights_sha256="0", architecture="x", pretrained=None, input_size=64
    )
    return protocol.Loaded(
        id=request.id,
        model=info,
        classes=(hello.session.vocabulary or "", *(["x" * 1_000] * 1_000 if request.model == "large" else [])),
        descriptor_count=seen,
        device=str(os.getpid()),
        load_ms=0.0,
        warnings=(),
    )


def misbehave(mode: str, marker: Path) -> None:
    """What happens to an `Explain`."""
    if mode == "obeying":
        for line in sys.stdin.buffer:
            message = decode(line)
            if isinstance(message, protocol.Cancel):
                send(protocol.Progress(id=message.request, stage="late", done=0, total=0))
                send(protocol.Failed(id=message.request, code=protocol.CANCELLED, message="as you wish"))
                return
    if mode in {"deaf", "stubborn"}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else signal.SIG_DFL)
        time.sleep(NEVER)
    if mode == "dying" or (mode == "dying-once" and not marker.exists()):
        marker.touch()
        die()
    if mode == "babbling":
        sys.stdout.buffer.write(b"Downloading: 100%\n")
        sys.stdout.buffer.flush()
        time.sleep(NEVER)


def main(mode: str, file: str = "") -> None:
    hello = greet(mode)
    for seen, line in enumerate(sys.stdin.buffer, 1):
        request = decode(line)
        if isinstance(request, Hello):
            hello = request
        elif isinstance(request, protocol.Load):
            send(protocol.Progress(id=request.id, stage="loading", done=0, total=0))
            send(loaded(request, hello, seen))
        elif isinstance(request, Request):
            send(protocol.Progress(id=request.id, stage="image", done=0, total=1))
            misbehave(mode, Path(file))
            if mode != "obeying":
                code, message = (
                    ("unexpected", "KeyError: 3") if mode == "broken" else ("image", f"answered by {os.getpid()}")
                )
                send(protocol.Failed(id=request.id, code=code, message=message))


if __name__ == "__main__":
    main(*(word for word in sys.argv[1:] if word != "--debug"))
