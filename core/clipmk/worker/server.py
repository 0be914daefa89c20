"""`clipmk serve`: an event loop accepts clients and reads their requests, a thread beside it answers them in turn.

No client can hold up the others: it has seconds to introduce itself and to take its answers; the requests of a
client that has left are cancelled.
"""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from clipmk.errors import ClipmkError, ProtocolError
from clipmk.version import __version__
from clipmk.worker import protocol
from clipmk.worker.jobs import Client, JobQueue, converse
from clipmk.worker.protocol import Greeting, encode
from clipmk.worker.service import Service
from clipmk.worker.unix_socket import listening, peer_of

CLIENTS = 32  # at once; more are turned away, and do their work themselves
OWN_DESCRIPTORS = 32  # file descriptors that are kept from clients: models are read from files
PULSE_SECONDS = 1.0
"""Between two signs of life to clients that wait; also the pause in accepting clients when file descriptors run out."""
END_SECONDS = 3.0  # for the request being processed to notice that it is cancelled

_log = logging.getLogger(__name__)


class Server:
    """Serves requests, all in one thread, until it is stopped or has had none for `idle_s` seconds."""

    def __init__(
        self, service: Service, *, idle_s: float, identity: dict[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._queue = JobQueue(service.warm_up, service.answer, clock=clock)
        self._idle_s = idle_s
        self._identity = identity
        self._clock = clock
        self._started = clock()
        self._connections: dict[socket.socket, asyncio.Task[None]] = {}
        self._starved = False  # no client could be accepted for lack of file descriptors, which was logged
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    def stop(self) -> None:
        """Begin to end; may be called from any thread."""
        if self._loop is None:
            self._ending.set()
        else:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ending.set)

    def serve(self, path: Path) -> bool:
        """Listen at `path` until the end; in the main thread SIGTERM, SIGINT and SIGHUP bring it about.

        False where a model is still busy in its thread: the process should end at once rather than tidy up. Raises what
        `listening` raises, and `ClipmkError` if the models' libraries cannot be imported.
        """
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and shells in the background set it
                        self._loop.add_signal_handler(number, self._ending.set)
            with listening(path) as listener:
                _log.info("listening at %s (process %d)", path, os.getpid())
                return runner.run(self._serve(listener, self._loop))

    async def _serve(self, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> bool:
        working = self._queue.start()
        working.add_done_callback(lambda _: self._ending.set())
        listener.setblocking(False)
        self._watch(listener)
        while not self._ending.is_set() and self._queue.idle_s < self._idle_s:
            seconds = min(PULSE_SECONDS, max(0.01, self._idle_s - self._queue.idle_s))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds)
            for job in self._queue.jobs:  # a sign of life for clients that wait
                job.client.write_if_free(encode(job.progress))
        if not self._ending.is_set():
            _log.info("no requests for %g s", self._idle_s)
            self._ending.set()
        loop.remove_reader(listener)
        listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if working.done():
            _log.error("the worker failed", exc_info=working.exception())
            raise ClipmkError("the server ended because its worker failed; `clipmk doctor` checks the installation")
        return await self._queue.close(END_SECONDS)

    def _watch(self, listener: socket.socket) -> None:
        if not self._ending.is_set():
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept a client; where there are no file descriptors left, pause."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listener.accept()
        except OSError as reason:
            if reason.errno not in {errno.EMFILE, errno.ENFILE}:
                _log.debug("a client has gone again: %s", reason.strerror)
                return
            if not self._starved:
                _log.warning("no client is accepted until file descriptors are free: %s", reason.strerror)
            self._starved = loop.remove_reader(listener)
            loop.call_later(PULSE_SECONDS, self._watch, listener)
            return
        self._starved = False
        peer, most = peer_of(connection), _most_clients()
        if peer.uid != os.getuid():
            _log.warning("process %d of user %d was turned away", peer.pid, peer.uid)
            connection.close()
        elif len(self._connections) >= most:
            _log.warning("process %d was turned away: %d clients are connected", peer.pid, most)
            connection.close()
        else:
            self._connections[connection] = loop.create_task(self._converse(connection, peer.pid))

    async def _converse(self, connection: socket.socket, pid: int) -> None:
        with connection:
            client = Client(*await asyncio.open_unix_connection(sock=connection, limit=protocol.REQUEST_BYTES))
            try:
                await converse(client, self._queue, self._greeting())
            except (ProtocolError, TimeoutError) as reason:
                _log.warning("process %d was hung up on: %s", pid, reason)
            except OSError as reason:
                _log.debug("process %d has gone: %s", pid, reason)
            finally:
                del self._connections[connection]
                client.hang_up()

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


def _most_clients() -> int:
    """`CLIENTS`, or as many as the limit of file descriptors leaves room for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CLIENTS if limit == resource.RLIM_INFINITY else max(1, min(CLIENTS, limit - OWN_DESCRIPTORS))
