"""The real entry point in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import clipmk

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("clean")]

HEAVY = (
    "torch",
    "open_clip",
    "timm",
    "textual",
    "PIL",
    "numpy",
    "cv2",
    "sklearn",
    "scipy",
    "term_image",
    "huggingface_hub",
)


def _environment(**more: str) -> dict[str, str]:
    roots = [str(Path(sys.modules[name].__file__ or "").parents[1]) for name in ("clipmk", "clipmk_tui")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1", **more}


def _python(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=_environment(**more), check=False
    )


def _clipmk(*argv: str, stdin: bytes | None = None, **more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "clipmk_tui", *argv]
    return subprocess.run(command, input=stdin, capture_output=True, env=_environment(**more), check=False)


def test_help_version_schema_and_errors_import_nothing_heavy() -> None:
    code = f"""
import sys
from clipmk_tui.__main__ import main
for argv, status in (
    ([], 2), (["tui"], 2), (["tui", "--help"], 0), (["--help"], 0), (["--version"], 0),
    (["explain", "--help"], 0), (["explain", "-h"], 0),
    (["models", "--help"], 0), (["schema"], 0), (["cache"], 0), (["bogus"], 2), (["explain"], 2),
    (["explain", "x.png", "--preset", "papr"], 2),
):
    assert main(argv) == status, argv
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (argv, loaded)
"""
    ran = _python(code)
    assert ran.returncode == 0, ran.stderr
    assert f"clipmk {clipmk.__version__}" in ran.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("clipmk ex", "explain"),
        ("clipmk explain --preset pa", "paper"),
        ("clipmk explain -m emb", "embedded/vit-s8"),
        ("clipmk explain --prec", "--precision"),
    ],
)
def test_shell_completion_knows_names_without_torch(words: str, expected: str) -> None:
    code = f"""
import sys
from clipmk_tui.__main__ import main
try:
    main([])
finally:
    assert not [name for name in {HEAVY!r} if name in sys.modules]
"""
    ran = _python(code, _CLIPMK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))
    assert ran.returncode == 0, ran.stderr
    assert expected in ran.stdout.split()


def test_image_from_a_pipe_is_explained_as_one_json_document(scene_files: list[Path], tmp_path: Path) -> None:
    """Cold start to the end, with a library that prints while it loads and keeps the old sys.stdout."""
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'open_clip':\n"
        "            sys.__stdout__.write('noise from a kept stream\\n')\n"
        "            print('noise from print')\n"
        "            os.write(1, b'noise from the descriptor\\n')\n"
        "sys.meta_path.insert(0, Finder())\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([str(noisy), _environment()["PYTHONPATH"]])
    ran = _clipmk(
        *("explain", "-", "--json", "--preset", "paper", "--grounding", "attend", "--no-cache"),
        stdin=scene_files[0].read_bytes(),
        PYTHONPATH=path,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)["results"][0]
    assert result["image"]["path"] == "-"
    assert result["explanation"]["vision_concepts"]
    assert ran.stderr.count(b"noise from") == 3
    assert b"\x1b" not in ran.stderr  # no progress without a terminal


def test_python_without_docstrings_and_assertions_explains_in_a_home_that_is_none(scene_files: list[Path]) -> None:
    environment = _environment(HOME="/dev/null", PYTHONDONTWRITEBYTECODE="1")
    for name in ("CLIPMK_CONFIG", "CLIPMK_CACHE_DIR", "CLIPMK_SOCKET", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-OO", "-m", "clipmk_tui", "explain", str(scene_files[0]), "--json"]
    ran = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["results"][0]["explanation"]["vision_concepts"]
    assert ran.stderr.count(b"config.toml' cannot be read: Not a directory; it is ignored") == 1
    assert b"embedded texts are not kept for the next time" in ran.stderr


def test_typo_in_the_only_image_does_not_wait_for_torch() -> None:
    code = """
import sys
from clipmk_tui.__main__ import main
assert main(["explain", "gone.png"]) == 3
assert not [name for name in ("torch", "open_clip") if name in sys.modules]
"""
    ran = _python(code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "clipmk: error: image 'gone.png' does not exist\n"


@pytest.mark.parametrize("argv", [("schema",), ("explain", "--help")])
def test_reader_that_stops_reading_ends_the_run_quietly(argv: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # before there is a process, which could have written everything by now
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "clipmk_tui", *argv],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=_environment(),
            check=False,
        )
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.skipif(os.name != "posix", reason="POSIX shell")
@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", b"clipmk: error: stdout is closed\n"),
        ("> /dev/full", b"clipmk: error: stdout cannot be written: No space left on device\n"),
    ],
)
def test_stdout_that_cannot_be_written_is_an_error(redirection: str, message: bytes) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    ran = subprocess.run(
        ["sh", "-c", f'"$0" -m clipmk_tui schema {redirection}', sys.executable],
        capture_output=True,
        env=_environment(),
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", ["--help", "--version", "explain --help", "models --help", "vocab list"])
def test_help_that_cannot_be_written_fails_as_every_command_does(argv: str, unbuffered: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'"$0" -m clipmk_tui {argv} > /dev/full', sys.executable],
        capture_output=True,
        env=_environment(PYTHONUNBUFFERED=unbuffered),
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (1, b"clipmk: error: stdout cannot be written: No space left on device\n")


def test_closed_stderr_does_not_stop_the_data() -> None:
    if os.name != "posix":
        pytest.skip("POSIX shell")
    ran = subprocess.run(
        ["sh", "-c", '"$0" -m clipmk_tui schema 2>&-', sys.executable],
        capture_output=True,
        env=_environment(),
        check=False,
    )
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["title"].startswith("clipmk")
