"""A stream whose own end another thread closes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from clipmk.errors import ProtocolError
from clipmk.worker import messages, protocol
from clipmk.worker.messages import Done, Order, Working
from clipmk.worker.server import _Job
from clipmk.worker.stream import Stream
from clipmk.worker.workshop import AbandonedError
from serving import order


@pytest.fixture
def stream() -> Iterator[Stream]:
    ours, theirs = socket.socketpair()
    with theirs:
        yield Stream(ours)


def test_a_closed_stream_is_over_for_whoever_reads_waits_or_writes(stream: Stream) -> None:
    stream.close()
    assert stream.read_line(limit=10, seconds=1) == b""
    assert stream.read_block(5, seconds=1) == b""
    assert not stream.silent(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        stream.write(b"x", seconds=1)
    stream.write_if_free(b"x")


def test_a_socket_is_let_go_when_no_thread_sends_any_more(stream: Stream) -> None:
    with stream._sending:
        closing = threading.Thread(target=stream.close)
        closing.start()
        closing.join(0.1)  # long enough for one that does not wait
        assert stream._connection.fileno() >= 0
    closing.join()
    assert stream._connection.fileno() == -1


@pytest.mark.parametrize("answer", [Working(stage="texts"), Done()])
def test_an_order_whose_client_is_gone_is_given_up_whatever_was_to_be_told(
    stream: Stream, answer: Working | Done
) -> None:
    wanted: Order = order()
    job = _Job(wanted, b"", stream)
    stream.close()
    with pytest.raises(AbandonedError):
        job.tell(answer)
    assert job.abandoned


@pytest.mark.parametrize("decode", [protocol.decode, messages.decode])
def test_a_line_nested_without_end_is_no_message(decode: object) -> None:
    assert callable(decode)
    with pytest.raises(ProtocolError, match="no message"):
        decode(b"[" * 200_000 + b"\n")
