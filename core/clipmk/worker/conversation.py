"""The worker's side of a conversation, whatever the transport: greet, then queue what the client requests."""

from __future__ import annotations

from clipmk.errors import ProtocolError
from clipmk.worker import protocol
from clipmk.worker.jobs import WRITE_SECONDS, CancelledError, Client, Job, JobQueue
from clipmk.worker.protocol import ExplainImages, Failed, Greeting, Hello, Request, decode, encode
from clipmk.worker.session import Session

HELLO_SECONDS = 10.0
"""For a client to send its first line; from then on it may take its time."""
ATTACH_SECONDS = 60.0
"""For the bytes of an image to arrive."""


def converse(client: Client, queue: JobQueue, greeting: Greeting) -> None:
    """Greet a client and queue its requests until it closes its end; what is not answered by then is cancelled.

    Raises:
        ProtocolError: the client sent something else than a message of ours, and was sent that as a failure.
        OSError: the client is gone, or silent (`TimeoutError`).
    """
    try:
        client.write(encode(greeting), seconds=WRITE_SECONDS)
        _listen(client, queue)
    except ProtocolError as error:
        client.write(encode(Failed(id=0, code=error.code, message=str(error))), seconds=WRITE_SECONDS)
        raise
    except CancelledError:  # gone while we wrote to it
        pass
    finally:
        queue.cancel(client)


def _listen(client: Client, queue: JobQueue) -> None:
    session: Session | None = None
    while line := client.read_line(limit=protocol.REQUEST_BYTES, seconds=HELLO_SECONDS if session is None else None):
        message = decode(line)
        if session is None:
            session = _session(message)
        elif isinstance(message, protocol.Cancel):
            queue.cancel(client, message.request)
        elif isinstance(message, Request):
            attached = _attached(client, message)
            if attached is None:
                return
            queue.add(Job(message, session, client, attached))
        else:
            raise ProtocolError(f"a {type(message).__name__} is not a request")


def _session(message: protocol.Message) -> Session:
    if isinstance(message, Hello) and message.version == protocol.VERSION:
        return message.session
    sent = f"version {message.version}" if isinstance(message, Hello) else f"a {type(message).__name__} first"
    raise ProtocolError(
        f"the engine speaks version {protocol.VERSION} of its protocol and was sent {sent}; "
        "install app and engine from the same release"
    )


def _attached(client: Client, request: Request) -> bytes | None:
    """The bytes that follow a request; None where the client left before they all came."""
    size = request.attached if isinstance(request, ExplainImages) else 0
    if not 0 <= size <= protocol.ATTACHED_BYTES:
        raise ProtocolError(f"{size} bytes are attached; at most {protocol.ATTACHED_BYTES} are accepted")
    data = client.read_block(size, seconds=ATTACH_SECONDS)
    return data if len(data) == size else None
