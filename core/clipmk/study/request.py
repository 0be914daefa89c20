"""What is asked of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from clipmk.datasets.dataset import Dataset
    from clipmk.settings import Fit, Settings
    from clipmk.study.paths import StudyFolder
    from clipmk.vocabulary.vocabulary import Vocabulary

Engine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRequest:
    """What to study. None takes the value of the study in the folder, if there is one, else the default."""

    folder: StudyFolder
    dataset: Dataset
    models: tuple[str, ...]
    extend: bool = False
    """Continue the study in the folder and add those of `models` that it does not have."""
    vocabulary: Vocabulary
    settings: Settings
    fit: Fit | None = None
    engine: Engine = "local"
    workers: int | None = None
    """Actors of the engine "ray"."""
    shard_size: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    cache: bool = True
    download: bool = False
    """Download missing weights first."""
    command: str | None = None
    """The command line, for the record."""
