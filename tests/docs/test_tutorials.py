"""What the tutorials say to type works: every block marked `<!-- runs -->`, and the notebook."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"<!-- runs -->\n```(bash|python)\n(.*?)\n```", re.DOTALL)


def marked(page: Path) -> str:
    """The marked blocks of a page as one shell script."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return "\n".join(text if kind == "bash" else f"python - <<'END'\n{text}\nEND" for kind, text in blocks)


PAGES = [page for page in sorted(TUTORIALS.glob("*.md")) if marked(page)]


def test_most_pages_have_something_to_run() -> None:
    assert len(PAGES) >= 5


@pytest.mark.e2e
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {"clipmk": "-m clipmk_tui", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    (tmp_path / "sample_images").symlink_to(ROOT / "sample_images")
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", marked(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    execute = "import nbclient, nbformat, sys; nbclient.execute(nbformat.read(sys.argv[1], 4)); print('done')"
    command = [sys.executable, "-c", execute, str(TUTORIALS / "notebook.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "done\n", done.stderr[-3000:]
