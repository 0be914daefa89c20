from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest

from clipmk.errors import ClipmkError
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import (
    DataStream,
    ReaderGone,
    data_stream,
    logging_to_stderr,
    say,
    text_console,
    watched_stdout,
)
from clipmk_tui.cli.tables import table

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@posix
def test_stdout_carries_only_data_whatever_prints(capfd: pytest.CaptureFixture[str]) -> None:
    """Python's print, the descriptor itself, and the buffer of C."""
    with data_stream() as stream:
        print("one")  # noqa: T201
        os.write(1, b"two")
        ctypes.CDLL(None).printf(b"three")
        stream.write("data")
    print("after")  # noqa: T201
    out, err = capfd.readouterr()
    assert out == "dataafter\n"
    assert all(word in err for word in ("one", "two", "three"))


def test_stdout_is_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ZeroDivisionError), data_stream() as stream:
        stream.write("never written")
        raise ZeroDivisionError
    print("back")  # noqa: T201
    assert capfd.readouterr().out == "back\n"


def test_signs_that_the_encoding_cannot_hold_become_ascii_and_the_rest_question_marks(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as handle:
        stream = DataStream(handle.fileno(), encoding="latin-1")
        stream.write("é ∩ 猫")
        stream.flush()
    assert path.read_bytes() == b"\xe9 * ??"


def test_a_closed_pipe_is_distinguished_from_other_failures(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = DataStream(writing)
    stream.write("x")
    with pytest.raises(ReaderGone):
        stream.flush()
    os.close(writing)
    stream.write("x")
    with pytest.raises(ClipmkError, match="stdout cannot be written: Bad file descriptor"):
        stream.flush()


def test_a_failure_of_another_file_is_not_reported_as_one_of_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="No space left"), watched_stdout():
        raise OSError(errno.ENOSPC, "No space left on device")
    print("after")  # noqa: T201
    assert capfd.readouterr().out == "after\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as handle:
        stream = DataStream(handle.fileno())
        stream.write("x")
        with pytest.raises(ClipmkError, match="No space left"):
            stream.flush()


def test_console_without_a_terminal_is_plain_and_reads_no_markup(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with data_stream() as stream:
        console = text_console(stream)
        assert console.width == 100
        console.print("[red]x[/red] :smile: 1.5")
    assert capfd.readouterr().out == "[red]x[/red] :smile: 1.5\n"


def test_a_table_without_a_terminal_has_no_blanks_at_line_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with data_stream() as stream:
        text_console(stream).print(table(("name", "a longer heading"), [("x", "y"), ("z", "")]))
    assert capfd.readouterr().out == "name  a longer heading\nx     y\nz\n"


def test_console_width_can_be_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    with data_stream() as stream:
        assert text_console(stream).width == 72
    monkeypatch.setenv("COLUMNS", "3")
    with data_stream() as stream:
        assert text_console(stream).width == 60


def test_a_message_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    say("error", "image '\x1b[31m\nx' is bad\udcff")
    assert capsys.readouterr().err == "clipmk: error: image '\\x1b[31m\\x0ax' is bad\\udcff\n"


def test_the_log_shows_our_warnings_and_more_with_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("clipmk.some.module")
    for options, expected in (
        ({"quiet": False, "verbose": False}, "clipmk: warning: careful\n"),
        ({"quiet": True, "verbose": False}, ""),
        ({"quiet": False, "verbose": True}, "clipmk: debug: detail\nclipmk: warning: careful\n"),
    ):
        with logging_to_stderr(**options):
            logger.debug("detail")
            logger.warning("careful")
        assert capsys.readouterr().err == expected


def test_warnings_of_libraries_are_shown_only_with_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose in (False, True):
        with warnings.catch_warnings(), logging_to_stderr(quiet=False, verbose=verbose):
            warnings.simplefilter("always")
            warnings.warn("from a library", UserWarning, stacklevel=1)
        assert ("from a library" in capsys.readouterr().err) == verbose


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stages_are_shown_on_a_terminal_and_disappear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Stages(shown=True) as stages:
        stages.begin("[b]fox[/b]\x1b[31m.png  3/14")
        stages("prompts", 4, 15)
    text = terminal.getvalue()
    assert r"[b]fox[/b]\x1b[31m.png  3/14  embedding the parts" in text
    assert "4/15" in text
    assert text.endswith(("\x1b[2K", "\x1b[?25h\r\x1b[1A\x1b[2K"))


@pytest.mark.parametrize("terminal", [True, False])
def test_stages_are_silent_when_quiet_or_without_a_terminal(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Stages(shown=not terminal) as stages:
        stages.begin("fox.png")
        stages("texts", 1, 2)
    assert not stream.getvalue()
