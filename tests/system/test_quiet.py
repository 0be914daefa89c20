"""Warnings and prints of one thread, while other threads go on: nothing of the process stays changed."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmk.images.decoder import read_picture
from clipmk.system.quiet import captured_warnings, quiet

PATIENCE = 60.0
"""Seconds until a thread that waits for another gives up, instead of hanging forever."""


def state() -> tuple[Any, ...]:
    root = logging.getLogger()
    ways = warnings.showwarning, warnings._showwarnmsg_impl, sys.stdout  # type: ignore[attr-defined]
    return *ways, list(warnings.filters), list(root.filters), list(root.handlers)


@contextmanager
def unchanged() -> Iterator[None]:
    """The process is as it was, and a warning is heard."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        before = state()
        yield
        assert state() == before
        warnings.warn("the last word", UserWarning, stacklevel=1)
        assert [str(one.message) for one in heard] == ["the last word"]


def overlapping(make: Callable[[], AbstractContextManager[Any]], inside: Callable[[str], object]) -> list[Any]:
    """Two threads, of which the first ends while the second goes on: what their context managers gave.

    `inside` is called in each while both are in, and once more in the second when the first has left.
    """
    both, first_left = threading.Barrier(2), threading.Event()

    def first() -> Any:
        with make() as made:
            both.wait(PATIENCE)
            inside("first")
            both.wait(PATIENCE)
        first_left.set()
        return made

    def second() -> Any:
        with make() as made:
            both.wait(PATIENCE)
            inside("second")
            both.wait(PATIENCE)
            assert first_left.wait(PATIENCE)
            inside("second, alone")
        return made

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(first), pool.submit(second)]
        return [one.result() for one in futures]


def say(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)


def test_each_thread_captures_its_own_warnings_and_the_process_is_as_before() -> None:
    with unchanged():
        records = overlapping(captured_warnings, say)
    assert [[str(one.message) for one in record] for record in records] == [["first"], ["second", "second, alone"]]


@pytest.mark.parametrize("action", ["error", "ignore", "once"])
def test_a_capturing_thread_gets_all_warnings_whatever_the_filters_say(action: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        for _ in range(2):
            with captured_warnings() as heard:
                warnings.warn("old", DeprecationWarning, stacklevel=1)
                say("odd")
            assert [one.category for one in heard] == [DeprecationWarning, UserWarning]


def test_while_one_thread_captures_the_warnings_of_others_follow_the_filters() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)
        with captured_warnings() as heard, ThreadPoolExecutor(1) as pool:
            pool.submit(say, "elsewhere").result()
            pool.submit(warnings.warn, "old", DeprecationWarning).result()
    assert heard == []
    assert [str(one.message) for one in shown] == ["elsewhere"]


def test_the_inner_of_two_captures_gets_the_warnings() -> None:
    with unchanged(), captured_warnings() as outer:
        say("before")
        with captured_warnings() as inner:
            say("within")
        say("after")
    assert [str(one.message) for one in outer] == ["before", "after"]
    assert [str(one.message) for one in inner] == ["within"]


def test_a_filter_set_during_a_capture_stays() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with captured_warnings():
            warnings.simplefilter("ignore", UserWarning)
        say("not wanted")
    assert shown == []


def test_a_capture_that_fails_leaves_the_process_as_before() -> None:
    with unchanged(), pytest.raises(OSError, match="broken"), captured_warnings():
        raise OSError("broken")


def odd_exif(count: int) -> bytes:
    """A picture whose metadata give `count` orientations instead of one: Pillow warns with that number."""
    entry = b"\x12\x01" + b"\x03\x00" + count.to_bytes(4, "little") + (26).to_bytes(4, "little")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + b"\x01\0" * count
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 2, 3), 9, np.uint8)).save(buffer, "WEBP", lossless=True, exif=exif)
    return buffer.getvalue()


def test_pictures_decoded_in_many_threads_have_their_own_notes() -> None:
    counts = range(3, 203)
    sources = [odd_exif(count) for count in counts]
    with unchanged(), ThreadPoolExecutor(8) as pool:
        notes = [picture.warnings for picture in pool.map(read_picture, sources)]
    assert notes == [(f"Metadata Warning, tag 274 had too many entries: {count}, expected 1",) for count in counts]


def test_pictures_whose_decoding_overlaps_leave_warnings_as_they_were() -> None:
    both, first_left = threading.Barrier(2), threading.Event()

    def decoded(name: str) -> tuple[str, ...]:
        def getexif() -> Image.Exif:
            both.wait(PATIENCE)
            assert name == "first" or first_left.wait(PATIENCE)
            say(f"of the {name}")
            return Image.Exif()

        image = Image.new("RGB", (2, 2))
        image.getexif = getexif  # type: ignore[method-assign]
        notes = read_picture(image).warnings
        first_left.set()
        return notes

    with unchanged(), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(decoded, ["first", "second"])) == [("of the first",), ("of the second",)]


def test_quiet_threads_at_once_leave_stdout_logging_and_warnings_as_they_were(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def loud(text: str) -> None:
        print(f"{text}\n", end="")  # noqa: T201 - in one piece: the other thread prints as well
        say(f"warned: {text}")
        logging.warning("logged: %s", text)

    with caplog.at_level(logging.DEBUG, logger="clipmk"), unchanged():
        overlapping(quiet, loud)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sorted(captured.err.splitlines()) == ["first", "second", "second, alone"]
    levels = {record.getMessage(): record.levelno for record in caplog.records}
    for text in ("first", "second", "second, alone"):
        assert levels[f"warned: {text}"] == logging.WARNING
        assert levels[f"logged: {text}"] == logging.DEBUG


def test_while_a_thread_is_quiet_others_print_and_log_as_ever(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet(), ThreadPoolExecutor(1) as pool:
        pool.submit(print, "a result").result()
        pool.submit(logging.getLogger().warning, "a worry").result()
    assert capsys.readouterr().out == "a result\n"
    assert [(record.name, record.levelname) for record in caplog.records] == [("root", "WARNING")]
