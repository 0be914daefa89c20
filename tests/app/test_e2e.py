"""The app as a person uses it: a real terminal (tmux), the real engine, the embedded models, keys."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from clipmk.output import document

SAMPLES = Path(__file__).parents[2] / "sample_images"
PATIENCE = 90.0
"""Seconds to wait for something to appear: a limit, not a measurement."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc"),
]


class Tmux:
    """A terminal of 120 x 40 in which one command runs."""

    def __init__(
        self, folder: Path, *arguments: str, size: tuple[int, int] = (120, 40), path: Sequence[str] = ()
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._folder = folder
        self._socket = f"clipmk-{self.mark[:12]}"
        environment = {
            "CLIPMK_CACHE_DIR": str(folder / "cache"),
            "CLIPMK_CONFIG": str(folder / "config.toml"),
            "CLIPMK_SOCKET": str(folder / "serve.sock"),
            "CLIPMK_TEST_MARK": self.mark,
            "PYTHONPATH": os.pathsep.join([*path, *sys.path]),
        }
        pairs = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        width, height = map(str, size)
        self._status = folder / "status"
        # tmux itself does not always know with which status a command ended; pytest sets COLUMNS and LINES
        script = f'unset COLUMNS LINES; "$@"; echo $? > "{self._status}"'
        command = ["sh", "-c", script, "sh", sys.executable, "-m", "clipmk_tui", *arguments]
        self._run(
            "-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, "-c", str(folder), *pairs, *command
        )
        self._run("set-option", "-g", "remain-on-exit", "on")

    def press(self, *keys: str) -> None:
        """Type keys by tmux's names."""
        for key in keys:
            self._run("send-keys", key)

    def write(self, text: str) -> None:
        """Write to the terminal, as another program might."""
        Path(self._run("display-message", "-p", "#{pane_tty}").strip()).write_text(text)

    def screen(self) -> str:
        """What stands on the screen."""
        return self._run("capture-pane", "-p")

    def wait(self, *texts: str, without: str | None = None) -> str:
        """Until all texts are on the screen (and one is not); returns the screen."""
        awaited = f"{texts}, without {without!r}"
        return self._until(
            lambda now: all(text in now for text in texts) and (without is None or without not in now), awaited
        )

    def status(self) -> int:
        """The exit status, once the command has ended."""
        self._until(lambda _: self._status.exists() and self._status.read_text() != "", "the end")
        return int(self._status.read_text())

    def processes(self) -> list[int]:
        """Everything that was started from here and lives."""
        return _marked(self.mark)

    def workers(self) -> list[int]:
        """Those of them in which the engine works."""
        return [pid for pid in self.processes() if b"clipmk.worker.pipe" in _command_line(pid)]

    def is_gone(self) -> None:
        """Until nothing of it lives: a process that was killed may take its time on a busy machine."""
        _wait(lambda: not self.processes(), "the end of all processes")

    def kill(self) -> None:
        """End it."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False)

    def _until(self, holds: Callable[[str], bool], awaited: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            now = self.screen()
            if holds(now):
                return now
            time.sleep(0.1)
        pytest.fail(f"{awaited} did not come:\n{self.screen()}")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *arguments], capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Callable[..., Tmux]]:
    made: list[Tmux] = []

    def start(*arguments: str, **options: Any) -> Tmux:
        made.append(Tmux(tmp_path, *arguments, **options))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def test_a_session_with_the_app(tmux: Callable[..., Tmux], tmp_path: Path) -> None:
    app = tmux("tui", str(SAMPLES), "-m", "embedded/vit-s8", "-m", "embedded/rn-s")
    first = app.wait('why "', "strength ", "AUC ", "mutual (", "1/17", "vit-s8 · cpu fp32", "▌ 9 ")
    for title in ("image", "models", "predictions"):
        assert title in first

    app.press("n")
    second = app.wait("2/17", "cat-typical-14.png", 'why "cat"', "truth: cat, right", "seen concepts are tied")
    assert second != first

    app.press(".")
    app.wait("rn-s · cpu", "2/17", 'why "')
    app.press(",")
    app.wait("vit-s8 · cpu", 'why "cat"')

    app.press("Tab", "Tab", "Down")  # image, predictions
    app.wait('why "', without='why "cat"')
    app.press("Up")
    app.wait('why "cat"')

    app.press("Tab", "Tab", "x")  # the tree, its first concept
    app.wait('without "', ", 1 left out", "→")
    app.wait(" % ·")  # the classes, ranked again
    app.press("r")
    app.wait('why "cat"', without="left out")

    app.press("c")
    app.wait("true class", "vit-s8", "rn-s", "concepts in common with", "∩ mutual")
    app.press("Escape")
    app.wait('why "cat"', "predictions", without="concepts in common with")

    app.press("w")
    app.wait(".json")
    app.press("C-s")
    written = _written(tmp_path, ".json")
    jsonschema.validate(json.loads(written.read_text(encoding="utf-8")), json.loads(document.schema_text()))
    app.wait('why "cat"', "predictions", without="write this explanation")

    app.press("q")
    assert app.status() == 0
    app.is_gone()


def test_killing_the_engine_in_mid_work_is_told_and_survived(tmux: Callable[..., Tmux]) -> None:
    app = tmux("tui", str(SAMPLES), size=(80, 24))
    app.wait('why "')
    (worker,) = app.workers()
    os.kill(worker, 9)
    app.press("n")
    app.wait("2/17", 'why "cat"')
    _wait(lambda: set(app.workers()) - {worker}, "another worker")
    app.press("q")
    assert app.status() == 0
    app.is_gone()


def test_quitting_while_a_model_is_loading_leaves_nothing_behind(tmux: Callable[..., Tmux], tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "torch.py").write_text("import time\ntime.sleep(3600)\n", encoding="utf-8")  # it loads until it is ended
    app = tmux("tui", str(SAMPLES), size=(80, 24), path=[str(slow)])
    app.wait("loading")
    assert app.workers()
    app.press("q")
    assert app.status() == 0
    app.is_gone()


def test_torch_is_only_in_the_worker(tmux: Callable[..., Tmux]) -> None:
    app = tmux("tui", str(SAMPLES), size=(80, 24))
    app.wait('why "')
    _wait(lambda: len(app.processes()) == 2, "an app with one worker")
    heavy = [pid for pid in app.processes() if b"libtorch" in Path(f"/proc/{pid}/maps").read_bytes()]
    assert heavy == app.workers()
    assert len(heavy) == 1
    app.press("q")
    assert app.status() == 0


def test_the_screen_is_drawn_again_after_foreign_output_and_after_a_stop(tmux: Callable[..., Tmux]) -> None:
    app = tmux("tui", str(SAMPLES))
    first = app.wait('why "', "mutual (", "download", "▌11 ", without="esc")  # with the parts below the picture
    app.write("\x1b[5;1Hforeign" + 40 * "\r\n" + "output")
    assert "foreign" not in first
    app.press("C-l")
    app.wait(first)
    (pid,) = set(app.processes()) - set(app.workers())
    os.kill(pid, signal.SIGSTOP)
    app.write("\x1b[?1049l\x1b[?1000l stopped\r\n")  # the shell's screen
    os.kill(pid, signal.SIGCONT)
    app.wait(first)
    app.press("C-z")  # no shell is there to continue it: it goes on
    app.press("n")
    app.wait("2/17", 'why "cat"')
    app.press("Down", "Up", "Down", "Up", "p")  # one thread reads the keys
    app.wait("1/17", 'why "bird"')
    app.press("q")
    assert app.status() == 0


def test_an_app_whose_terminal_dies_does_not_live_on(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    environment = {
        **os.environ,
        "CLIPMK_TEST_MARK": mark,
        "CLIPMK_CACHE_DIR": str(tmp_path),
        "CLIPMK_CONFIG": str(tmp_path / "config.toml"),
        "CLIPMK_SOCKET": str(tmp_path / "serve.sock"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "LINES": "24",
    }
    script = "import pty, sys; pty.spawn(sys.argv[1:])"
    command = [sys.executable, "-c", script, sys.executable, "-m", "clipmk_tui", "tui", str(SAMPLES)]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=null, stderr=null) as terminal:
        try:
            _wait(lambda: any(b"clipmk.worker.pipe" in _command_line(pid) for pid in _marked(mark)), "a worker")
            time.sleep(2)  # whatever it is at by then
        finally:
            terminal.kill()
    _wait(lambda: not _marked(mark), "the end of all processes")


def _marked(mark: str) -> list[int]:
    """Python processes with a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has just ended
            continue
    return [pid for pid in found if _command_line(pid).startswith(os.fsencode(sys.executable))]


def _wait(holds: Callable[[], object], awaited: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{awaited} did not come")
        time.sleep(0.1)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _written(folder: Path, suffix: str) -> Path:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [path for path in folder.iterdir() if path.suffix == suffix]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no {suffix} file was written")
