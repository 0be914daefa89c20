"""`clipmk serve`: one thread accepts clients, one per client reads its requests, one processes them all in turn.

No client can hold up the others: it has seconds to introduce itself and to take its answers; the requests of a
client that has left are cancelled.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from clipmk.errors import ClipmkError, ProtocolError
from clipmk.version import __version__
from clipmk.worker import protocol
from clipmk.worker.jobs import JobQueue, converse
from clipmk.worker.protocol import Greeting, encode
from clipmk.worker.service import Service
from clipmk.worker.unix_socket import LineSocket, listening, peer_of

CLIENTS = 32
"""At once; more are turned away, and do their work themselves."""
OWN_DESCRIPTORS = 32
"""File descriptors that are kept from clients: models are read from files."""
PULSE_SECONDS = 1.0
"""Between two signs of life to clients that wait; also the pause in accepting clients when file descriptors run out."""
END_SECONDS = 3.0
"""For the request being processed to notice that it is cancelled."""

_log = logging.getLogger(__name__)


class Server:
    """Serves until it is stopped, or has had no request for a while.

    Args:
        service: answers the requests, all in one thread.
        idle_s: seconds without a request after which it ends.
        identity: see `clipmk.worker.client.identity`.
        clock: seconds; decides what "a while" is.
    """

    def __init__(
        self, service: Service, *, idle_s: float, identity: dict[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._queue = JobQueue(service.warm_up, service.answer, clock=clock)
        self._idle_s = idle_s
        self._identity = identity
        self._clock = clock
        self._started = clock()
        self._clients: set[LineSocket] = set()
        self._starved = False
        """No client could be accepted for lack of file descriptors, which was logged."""
        self._broken = False
        self._stopping = False  # not an Event: its lock is not for signal handlers, of which one may interrupt another
        self._waker: socket.socket | None = None

    def stop(self) -> None:
        """Begin to end; may be called from a signal handler or any thread."""
        self._stopping = True
        waker = self._waker
        if waker is not None:
            with contextlib.suppress(OSError):
                waker.send(b".", socket.MSG_DONTWAIT)

    def serve(self, path: Path) -> bool:
        """Listen at `path` until the end.

        Returns:
            Whether all threads have ended; False where a model is still busy, in which case the process should end at
            once rather than tidy up.

        Raises:
            ClipmkError: see `clipmk.worker.unix_socket.listening`; or the models' libraries cannot be imported.
        """
        with listening(path) as listener:
            worker = threading.Thread(target=self._work, name="worker", daemon=True)
            worker.start()
            _log.info("listening at %s (process %d)", path, os.getpid())
            try:
                self._accept_clients(listener)
            finally:
                self._stopping = True
                self._queue.close()
                for client in list(self._clients):
                    client.hang_up()
        worker.join(END_SECONDS)
        if self._broken:
            raise ClipmkError("the server ended because its worker failed; `clipmk doctor` checks the installation")
        return not worker.is_alive()

    # Accepting clients: the main thread.

    def _accept_clients(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._waker, woken = socket.socketpair()
        with self._waker, woken, selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            while not self._stopping:
                ready = selector.select(min(PULSE_SECONDS, max(0.01, self._idle_s - self._queue.idle_s)))
                if any(key.fileobj is listener for key, _ in ready) and not self._accept(listener):
                    selector.unregister(listener)
                    selector.select(PULSE_SECONDS)  # nothing but `stop` wakes it
                    selector.register(listener, selectors.EVENT_READ)
                self._pulse()
                if self._queue.idle_s >= self._idle_s:
                    _log.info("no requests for %g s", self._idle_s)
                    break

    def _accept(self, listener: socket.socket) -> bool:
        """Accept a client; False if there are no file descriptors left."""
        try:
            connection, _ = listener.accept()
        except OSError as reason:
            if reason.errno in {errno.EMFILE, errno.ENFILE}:
                if not self._starved:
                    _log.warning("no client is accepted until file descriptors are free: %s", reason.strerror)
                self._starved = True
                return False
            _log.debug("a client has gone again: %s", reason.strerror)
            return True
        self._starved = False
        peer, most = peer_of(connection), _most_clients()
        if peer.uid != os.getuid():
            _log.warning("process %d of user %d was turned away", peer.pid, peer.uid)
            connection.close()
        elif len(self._clients) >= most:
            _log.warning("process %d was turned away: %d clients are connected", peer.pid, most)
            connection.close()
        else:
            client = LineSocket(connection)
            self._clients.add(client)
            threading.Thread(
                target=self._converse, args=(client, peer.pid), name=f"client {peer.pid}", daemon=True
            ).start()
        return True

    def _pulse(self) -> None:
        """Give the clients that wait a sign of life."""
        for job in self._queue.jobs:
            if isinstance(job.client, LineSocket) and not job.finished:
                job.client.write_if_free(encode(job.progress))

    # Reading from a client: a thread each.

    def _converse(self, client: LineSocket, pid: int) -> None:
        try:
            converse(client, self._queue, self._greeting())
        except (ProtocolError, TimeoutError) as reason:
            _log.warning("process %d was hung up on: %s", pid, reason)
        except OSError as reason:
            _log.debug("process %d has gone: %s", pid, reason)
        finally:
            self._clients.discard(client)
            client.close()

    def _greeting(self) -> Greeting:
        return Greeting(
            protocol=protocol.VERSION,
            clipmk=__version__,
            identity=dict(self._identity),
            pid=os.getpid(),
            uptime_s=self._clock() - self._started,
            idle_s=self._idle_s,
            requests=self._queue.processed,
            waiting=len(self._queue.jobs),
            models=self._service.models,
        )

    # Processing requests: one thread.

    def _work(self) -> None:
        try:
            self._queue.run()
        except BaseException:
            self._broken = True
            raise
        finally:
            self.stop()  # where it could not even start, too: its traceback is on stderr


def _most_clients() -> int:
    """`CLIENTS`, or as many as the limit of file descriptors leaves room for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CLIENTS if limit == resource.RLIM_INFINITY else max(1, min(CLIENTS, limit - OWN_DESCRIPTORS))


@contextlib.contextmanager
def stopped_by_signals(server: Server) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP end the server while the block runs; for the main thread.

    What was ignored before stays so: `nohup` and shells that start a job in the background rely on it.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
