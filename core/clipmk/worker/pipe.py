"""The child process of the app: `python -m clipmk.worker.pipe` reads requests from stdin and writes answers to stdout.

The process's own descriptors are moved out of the way first: what a library prints goes to stderr, and nothing but
this module reads the requests. Nothing is left behind when it is killed: cached files are written atomically.
"""

import asyncio
import logging
import os
import signal
import sys
import traceback
from typing import BinaryIO

from clipmk.errors import ProtocolError
from clipmk.version import __version__
from clipmk.worker import protocol
from clipmk.worker.jobs import Client, JobQueue, converse
from clipmk.worker.protocol import Greeting
from clipmk.worker.service import Service

REFUSED = 2  # exit status when the app sent what is not a message of this version


def main() -> None:
    """Answer requests; the process ends where its input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the app's
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    if "--debug" in sys.argv:
        logging.getLogger("clipmk").setLevel(logging.DEBUG)
    status = 1
    try:
        status = asyncio.run(_talk(*_own_pipes()))
    except BaseException:  # noqa: BLE001 - the edge of the process
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)  # at once, threads that are busy and all


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for the conversation; for all other code, stdin is empty and stdout is stderr."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, target


async def _talk(source: BinaryIO, target: BinaryIO) -> int:
    """Process what the app requests until it has gone; the exit status."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=protocol.REQUEST_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    writing = await loop.connect_write_pipe(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), target)
    client = Client(reader, asyncio.StreamWriter(*writing, None, loop), patient=True)  # the app is our parent
    service = Service()
    queue = JobQueue(service.warm_up, service.answer)
    working = queue.start()
    greeting = Greeting(protocol=protocol.VERSION, clipmk=__version__, pid=os.getpid())
    talking = asyncio.create_task(converse(client, queue, greeting))
    await asyncio.wait({working, talking}, return_when=asyncio.FIRST_COMPLETED)
    if not talking.done():
        await working  # it cannot go on
    try:
        await talking
    except ProtocolError:
        return REFUSED
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    main()
