"""Where a study keeps its files. Nothing is read or written here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from clipmk.system.text import slug


def file_name(model_id: str) -> str:
    """A model's id as a file name: its `slug`, and the beginning of its SHA-256.

    The digest separates ids that would share a name (`a/b` and `a:b`), also where file names ignore case.
    """
    digest = hashlib.sha256(model_id.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{slug(model_id)}-{digest}"


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The paths in a study's folder (see `schema`)."""

    root: Path

    @property
    def manifest(self) -> Path:
        """`study.json`."""
        return self.root / "study.json"

    @property
    def plan(self) -> Path:
        """Which image belongs to which shard."""
        return self.root / "plan.parquet"

    @property
    def lock(self) -> Path:
        """Held by the one run that may write."""
        return self.root / "study.lock"

    @property
    def report(self) -> Path:
        """The folder written by `clipmk study report`."""
        return self.root / "report"

    def language(self, model_id: str) -> Path:
        """D_y of every class."""
        return self.root / "language" / f"{file_name(model_id)}.parquet"

    def shard(self, model_id: str, number: int) -> Path:
        """One unit of work."""
        return self.root / "shards" / file_name(model_id) / f"{number:05d}.parquet"

    def table(self, name: str, suffix: str = ".parquet") -> Path:
        """A final table: "models", "classes", "concepts", "asked", "language_counts" or "images"."""
        return self.root / "tables" / f"{name}{suffix}"
