"""What a piece of code imports, found in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def loaded_by(code: str) -> set[str]:
    """Names of all modules that are loaded after the code has run."""
    script = f"{code}\nimport sys; print(' '.join(sorted(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    return set(ran.stdout.splitlines()[-1].split())
