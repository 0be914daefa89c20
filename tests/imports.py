"""What a piece of code imports, found in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    return set(ran.stdout.splitlines()[-1].split())
