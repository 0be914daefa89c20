"""The app in a real terminal: how it opens, ends, crashes and is interrupted, and that the terminal is given back."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("clean")

PATIENCE = 120.0
"""Seconds to wait for something to appear: a limit, not a measurement."""

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX terminals")


def _config(text: str) -> None:
    Path("config.toml").write_text(text, encoding="utf-8")


_SCRIPT = """
import sys, types
from textual.app import App
from textual.binding import Binding, BindingType
from textual.widgets import Static
from clipmk_tui.app import app

class ClipmkApp(app.ClipmkApp):
    CSS_PATH = None
    BINDINGS = [Binding("q", "leave", "Quit", id="app.quit"), Binding("x", "crash", "Crash")]
    def __init__(self, options, make_engine):
        super().__init__(options, make_engine)
        assert self.engine
    def get_default_screen(self):
        return App.get_default_screen(self)
    def compose(self):
        yield Static("pane is here")
    def action_leave(self):
        self.exit(return_code=7)
    def action_crash(self):
        raise ValueError("no such \\x1b[31mluck")

class Engine:
    def __init__(self, session, *, server, log): ...
    async def close(self):
        open("closed", "w").close()

import clipmk_tui.app.bindings
clipmk_tui.app.bindings.BINDING_IDS = {"app.quit"}
import clipmk_tui.app.launch
clipmk_tui.app.launch._GRACE = 600  # a busy machine must not make it end by force
app.ClipmkApp = ClipmkApp
sys.modules["clipmk_tui.app.engine.worker"] = types.SimpleNamespace(Engine=Engine)
from clipmk_tui.__main__ import main
status = main(sys.argv[1:])
heavy = {"typer", "torch", "numpy", "PIL", "cv2"} & set(sys.modules)
open("loaded", "w").write(" ".join(sorted(heavy)))
sys.exit(status)
"""


class _Terminal:
    """The script in a pseudo-terminal."""

    def __init__(self, *argv: str) -> None:
        import pty  # noqa: PLC0415
        import termios  # noqa: PLC0415

        self.written = b""
        self._ours, theirs = pty.openpty()
        roots = [str(Path(sys.modules[name].__file__ or "").parents[1]) for name in ("clipmk", "clipmk_tui")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "TERM": "xterm-256color"}
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        self._theirs = theirs

    def wait_for(self, text: bytes) -> None:
        self._read_until(lambda: text in self.written)

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def end(self) -> int:
        import termios  # noqa: PLC0415

        self._read_until(lambda: self.process.poll() is not None)
        assert termios.tcgetattr(self._theirs) == self.before
        os.close(self._theirs)
        with contextlib.suppress(OSError):  # what Linux says at the end of what was written
            while select.select([self._ours], [], [], PATIENCE)[0] and (text := os.read(self._ours, 65536)):
                self.written += text
        os.close(self._ours)
        return self.process.wait()

    @property
    def after_the_screen(self) -> str:
        """What stands below the prompt when the app has left its own screen."""
        assert self.written.count(b"\x1b[?1049h") == self.written.count(b"\x1b[?1049l") == 1
        assert b"\x1b[?25h" in self.written.rpartition(b"\x1b[?25l")[2]
        left = self.written.rpartition(b"\x1b[?1004l")[2].decode()
        return re.sub("\x1b\\[\\?[0-9]+l", "", left.replace("\r\n", "\n"))

    def _read_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.written[-2000:]
            if select.select([self._ours], [], [], 0.05)[0]:
                self.written += os.read(self._ours, 65536)


@posix
def test_bare_command_opens_the_app_without_typer_and_gives_its_status_back(tmp_path: Path) -> None:
    _config('[keys]\n"app.quit" = "Q"\n')
    terminal = _Terminal()
    terminal.wait_for(b"pane is here")
    terminal.press(b"qQ")
    assert terminal.end() == 7
    assert terminal.after_the_screen == ""
    assert (tmp_path / "loaded").read_text(encoding="utf-8") == ""
    assert (tmp_path / "closed").exists()


@posix
@pytest.mark.parametrize("debug", [False, True])
def test_crash_ends_as_one_line_and_gives_the_terminal_back(debug: bool, tmp_path: Path) -> None:
    terminal = _Terminal("tui", *(["--debug"] if debug else []))
    terminal.wait_for(b"pane is here")
    terminal.press(b"x")
    assert terminal.end() == 1
    assert (tmp_path / "closed").exists()
    *trace, line, end = terminal.after_the_screen.split("\n")
    assert end == ""
    hint = "" if debug else "; --debug shows where"
    assert line == f"clipmk: error: unexpected ValueError: no such \\x1b[31mluck{hint}"
    assert any("action_crash" in one for one in trace) == debug


@posix
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (getattr(signal, "SIGHUP", 1), 129), (signal.SIGINT, 130)]
)
def test_signal_from_outside_ends_the_app_in_good_order(number: int, status: int, tmp_path: Path) -> None:
    terminal = _Terminal()
    terminal.wait_for(b"pane is here")
    terminal.process.send_signal(number)
    assert terminal.end() == status
    assert "Traceback" not in terminal.after_the_screen
    assert (tmp_path / "closed").exists()


@posix
def test_ctrl_c_while_everything_is_imported_is_an_interruption(tmp_path: Path) -> None:
    code = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("textual", "clipmk_tui.cli.main", "clipmk_tui.app.start_options"):
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from clipmk_tui.__main__ import main
assert main([]) == 130
assert main(["models"]) == 130
"""
    roots = [str(Path(sys.modules[name].__file__ or "").parents[1]) for name in ("clipmk", "clipmk_tui")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (ran.returncode, ran.stderr) == (0, "clipmk: error: interrupted\n" * 2)
