"""The child process of the app: `python -m clipmk.worker.pipe` reads requests from stdin and writes answers to stdout.

The process's own descriptors are moved out of the way first: what a library prints goes to stderr, and nothing but
this module reads the requests. Nothing is left behind when it is killed: cached files are written atomically.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections import deque
from typing import BinaryIO

from clipmk.worker import protocol
from clipmk.worker.protocol import Answer, Failed, Hello, Message, ProtocolError, Ready, Request, decode, encode
from clipmk.worker.service import Service

REFUSED = 2
"""Exit status when the first line is not the greeting of this version."""


class Wire:
    """The way back to the client; any thread may use it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writing = threading.Lock()

    def tell(self, answer: Answer | Ready) -> None:
        """Write one line. Where nobody reads any more, the process ends."""
        line = memoryview(encode(answer))
        try:
            with self._writing:
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:
            os._exit(0)


class Inbox:
    """Requests that wait for the one before them."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._filled = threading.Condition()

    def put(self, request: Request) -> None:
        """Append a request."""
        with self._filled:
            self._waiting.append(request)
            self._filled.notify()

    def take(self) -> Request:
        """The first request; waits until there is one."""
        with self._filled:
            self._filled.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def withdraw(self, request_id: int) -> bool:
        """Take a request out again; False where it does not wait here."""
        with self._filled:
            found = [request for request in self._waiting if request.id == request_id]
            for request in found:
                self._waiting.remove(request)
        return bool(found)


def main() -> int:
    """Converse until the client goes away.

    Returns:
        The exit status when the greeting is refused; otherwise the process ends where its input does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the app's
    source, wire = _own_pipes()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    first = source.readline()
    if not first:
        return 0
    hello = _greeting(first)
    if isinstance(hello, Failed):
        wire.tell(hello)
        return REFUSED
    service, inbox = Service(hello.session, wire.tell), Inbox()
    wire.tell(Ready(version=protocol.VERSION, pid=os.getpid()))
    threading.Thread(target=_listen, args=(source, inbox, service, wire), name="listener", daemon=True).start()
    threading.Thread(target=service.warm_up, name="warm-up", daemon=True).start()
    while True:
        _work(service, inbox.take(), wire)


def _own_pipes() -> tuple[BinaryIO, Wire]:
    """Keep stdin and stdout for the conversation; for all others the one is empty and the other is stderr."""
    source, wire = os.dup(0), Wire(os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(source, "rb"), wire


def _greeting(line: bytes) -> Hello | Failed:
    try:
        message = decode(line)
    except ProtocolError as error:
        return Failed(id=0, code=error.code, message=str(error))
    if isinstance(message, Hello) and message.version == protocol.VERSION:
        return message
    said = f"version {message.version}" if isinstance(message, Hello) else f"no greeting but a {type(message).__name__}"
    wanted = f"the engine speaks version {protocol.VERSION} of its protocol and was sent {said}"
    return Failed(id=0, code=ProtocolError.code, message=f"{wanted}; install app and engine from the same release")


def _listen(source: BinaryIO, inbox: Inbox, service: Service, wire: Wire) -> None:
    """Sort what the client says, until it has gone away: then the process ends, whatever it is at."""
    with contextlib.suppress(OSError):
        while (line := source.readline()).endswith(b"\n"):
            try:
                _sort(decode(line), inbox, service, wire)
            except ProtocolError as error:
                wire.tell(Failed(id=0, code=error.code, message=str(error)))
    os._exit(0)


def _sort(message: Message, inbox: Inbox, service: Service, wire: Wire) -> None:
    if isinstance(message, protocol.Cancel):
        if inbox.withdraw(message.request):
            wire.tell(Failed(id=message.request, code=protocol.CANCELLED, message="the request was cancelled"))
        else:
            service.cancel(message.request)
    elif isinstance(message, Request):
        inbox.put(message)
    else:
        raise ProtocolError(f"a {type(message).__name__} is no request")


def _work(service: Service, request: Request, wire: Wire) -> None:
    """One request; a mistake of ours costs this request, not the models in memory."""
    try:
        service.handle(request)
    except Exception as reason:  # noqa: BLE001 - the edge of the process: the one place for what nobody foresaw
        traceback.print_exc()
        text = f"{type(reason).__name__}: {reason}"
        wire.tell(Failed(id=request.id, code=protocol.UNEXPECTED, message=text))


if __name__ == "__main__":
    sys.exit(main())
