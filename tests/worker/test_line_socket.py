"""Lines over a socket: put together, bounded, and over for everybody as soon as either end is closed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from clipmk.errors import ProtocolError
from clipmk.worker.jobs import CancelledError, Job
from clipmk.worker.protocol import Done, Progress
from clipmk.worker.unix_socket import LineSocket
from serving import SESSION, request


@pytest.fixture
def pair() -> Iterator[tuple[LineSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        yield LineSocket(ours), theirs
    ours.close()


def test_lines_are_put_together_and_bounded(pair: tuple[LineSocket, socket.socket]) -> None:
    lines, other = pair
    other.sendall(b"first\nsec")
    assert lines.read_line(limit=100, seconds=1) == b"first\n"
    with pytest.raises(TimeoutError):
        lines.read_line(limit=100, seconds=0.01)
    other.sendall(b"ond\nblock")
    assert lines.read_line(limit=100, seconds=1) == b"second\n"
    assert lines.read_block(3, seconds=1) == b"blo"
    other.sendall(b"x" * 200 + b"\n")
    with pytest.raises(ProtocolError, match="longer than 100 bytes"):
        lines.read_line(limit=100, seconds=1)
    other.close()
    assert lines.read_line(limit=1_000, seconds=1).startswith(b"ckxx")
    assert lines.read_line(limit=1_000, seconds=1) == b""
    with pytest.raises(OSError, match="pipe"):
        lines.write(b"x", seconds=1)
    lines.close()


def test_a_write_that_is_not_read_times_out(pair: tuple[LineSocket, socket.socket]) -> None:
    lines, _ = pair
    with pytest.raises(TimeoutError):
        lines.write(b"x" * 2**24, seconds=0.05)
    lines.write_if_free(b"y\n")  # neither waits nor fails


def test_a_closed_socket_is_over_for_whoever_reads_or_writes(pair: tuple[LineSocket, socket.socket]) -> None:
    lines, _ = pair
    lines.close()
    assert lines.read_line(limit=10, seconds=1) == b""
    assert lines.read_block(5, seconds=1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        lines.write(b"x", seconds=1)
    lines.write_if_free(b"x")


def test_a_thread_that_sends_is_woken_by_closing_and_never_writes_to_the_next_client(
    pair: tuple[LineSocket, socket.socket],
) -> None:
    lines, _ = pair
    ended: list[str] = []

    def write() -> None:
        try:
            lines.write(b"x" * 2**24, seconds=60)
        except OSError as reason:
            ended.append(type(reason).__name__)

    writing = threading.Thread(target=write)
    writing.start()
    time.sleep(0.05)  # it waits for us to read
    lines.close()
    writing.join(60)
    assert ended == ["BrokenPipeError"]  # it was woken before the number of its socket could be another's


@pytest.mark.parametrize("answer", [Progress(id=1, stage="texts", done=0, total=0), Done(id=1, count=1)])
def test_a_request_whose_client_is_gone_is_cancelled_whatever_was_to_be_sent(
    pair: tuple[LineSocket, socket.socket], answer: Progress | Done
) -> None:
    lines, _ = pair
    job = Job(request(), SESSION, lines)
    lines.close()
    with pytest.raises(CancelledError):
        job.send(answer)
    assert job.cancelled
