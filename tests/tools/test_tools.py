"""The scripts of `tools/` that people run in pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    """What `clipmk evaluate --truth --output` writes, of more variants than a pipe holds."""
    value = {"mean": 0.5, "low": 0.25, "high": 0.75, "count": 3}
    values = dict.fromkeys(("ap", "hit1", "foreground", "top1"), value)
    rows = [
        {"split": "test", "name": f"a variant {'x' * 200} {i}", "values": values, "margins": {}} for i in range(2000)
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"truth": [{"model": "m", "scenes": 3, "rows": rows}]}), encoding="utf-8")
    return path


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_tables_of_the_truth_end_quietly_with_their_reader(truth_file: Path, unbuffered: str) -> None:
    command = [sys.executable, TOOLS / "truth_markdown.py", truth_file]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"\n"
        assert process.stdout.readline().startswith(b"**test**, 3 scenes")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
    whole = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert whole.stdout.count(b"| 0.500 \xc2\xb10.250 |") >= 2000
