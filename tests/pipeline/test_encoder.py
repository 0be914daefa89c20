"""The threads beside the model."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from clipmk.pipeline.encoder import worker_threads

PATIENCE = 60.0
"""Seconds until a thread that waits for another gives up, instead of hanging forever."""


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("error", [None, KeyError("stop")])
def test_what_has_begun_is_waited_for_and_what_has_not_is_dropped(error: Exception | None) -> None:
    begun, dropped = threading.Event(), threading.Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        assert dropped.wait(PATIENCE)  # the one behind it is dropped while the block is being left
        with threadpool_limits(1, user_api="blas"):  # as k-means does
            ended.append("work")

    def leave() -> None:
        with worker_threads(1, 1) as (_, workers):
            workers.submit(work)
            pending = workers.submit(ended.append, "pending")
            pending.add_done_callback(lambda _: dropped.set())
            assert begun.wait(PATIENCE)
            if error is not None:
                raise error

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        if error is None:
            leave()
        else:
            with pytest.raises(KeyError):
                leave()
        assert ended == ["work"]
        assert blas_threads() == before
