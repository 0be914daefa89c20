"""What is asked of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from clipmk.datasets.dataset import Dataset
    from clipmk.settings import Settings
    from clipmk.study.layout import StudyFolder
    from clipmk.vocabulary.vocabulary import Vocabulary

Engine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants studied; None leaves the choice to the folder, if it holds this study, else to `clipmk`."""

    folder: StudyFolder
    dataset: Dataset
    models: tuple[str, ...]
    extend: bool = False
    """Go on with the study of the folder and add to it those of `models` that it has not."""
    vocabulary: Vocabulary
    settings: Settings
    fit: Literal["image", "batch"] | None = None
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
    """Fetch missing weights first."""
    command: str | None = None
    """The command line, for the record."""
