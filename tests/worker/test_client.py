"""A client of the worker: its lines are bounded, and it is hung up on when it is gone or does not take an answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from clipmk.errors import ProtocolError
from clipmk.worker import jobs
from clipmk.worker.jobs import CancelledError, Client, Job
from clipmk.worker.protocol import Done, Progress
from serving import SESSION, request

Pair = tuple[Client, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(*await asyncio.open_unix_connection(sock=ours, limit=100))
        yield client, theirs
        client.hang_up()


async def test_lines_are_put_together_and_bounded(pair: Pair) -> None:
    client, other = pair
    other.sendall(b"first\nsec")
    assert await client.read_line(seconds=1) == b"first\n"
    with pytest.raises(TimeoutError):
        await client.read_line(seconds=0.01)
    other.sendall(b"ond\nblock")
    assert await client.read_line(seconds=1) == b"second\n"
    assert await client.read_block(3) == b"blo"
    other.sendall(b"x" * 200 + b"\n")
    with pytest.raises(ProtocolError, match="a line is longer than"):
        await client.read_line(seconds=1)
    other.sendall(b"half")
    other.close()
    assert await client.read_line(seconds=1) == b""
    with pytest.raises(OSError, match=r"pipe|lost|over"):
        await client.write(b"x")


async def test_a_block_that_does_not_arrive_whole_is_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client, other = pair
    monkeypatch.setattr(jobs, "ATTACH_SECONDS", 0.01)
    with pytest.raises(TimeoutError):
        await client.read_block(5)
    other.sendall(b"1234")
    other.close()
    assert await client.read_block(5) is None


async def test_a_client_that_does_not_read_is_hung_up_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client, other = pair
    monkeypatch.setattr(jobs, "WRITE_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        await client.write(b"x" * 2**24)
    client.write_if_free(b"y\n")  # neither waits nor fails
    assert await client.read_line(seconds=1) == b""
    while received := await asyncio.to_thread(other.recv, 2**20):  # until the end, which comes
        assert set(received) == set(b"x")


async def test_a_sign_of_life_does_not_pile_up(pair: Pair) -> None:
    client, other = pair
    client.write_if_free(b"first\n")
    writing = asyncio.create_task(client.write(b"x" * 2**24))
    await asyncio.sleep(0.05)  # it waits for the other end to read
    client.write_if_free(b"second\n")
    client.hang_up()
    with pytest.raises(OSError, match="over"):
        await writing
    received = b""
    while part := await asyncio.to_thread(other.recv, 2**20):
        received += part
    assert received.startswith(b"first\nx")
    assert b"second" not in received


async def test_a_patient_conversation_has_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "WRITE_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(*await asyncio.open_unix_connection(sock=ours), patient=True)
        writing = asyncio.create_task(client.write(b"x" * 2**22))
        reading = asyncio.create_task(client.read_line(seconds=0.01))
        await asyncio.sleep(0.1)
        assert not writing.done()
        assert not reading.done()
        left = 2**22
        while left:
            left -= len(await asyncio.to_thread(theirs.recv, left))
        await writing
    assert await reading == b""
    client.hang_up()


@pytest.mark.parametrize("answer", [Progress(id=1, stage="texts", done=0, total=0), Done(id=1, count=1)])
async def test_a_request_whose_client_is_gone_is_cancelled_whatever_was_to_be_sent(
    pair: Pair, answer: Progress | Done
) -> None:
    client, _ = pair
    job = Job(request(), SESSION, client)
    client.hang_up()
    await asyncio.sleep(0)
    with pytest.raises(CancelledError):
        await asyncio.to_thread(job.send, answer)
    assert job.cancelled
