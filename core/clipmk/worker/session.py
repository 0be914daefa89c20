"""What a conversation with a worker is about. A module of its own, for the app needs it before its first frame."""

from __future__ import annotations

from dataclasses import dataclass

from clipmk.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What all requests of one conversation share."""

    vocabulary: str
    """Name or file, as `clipmk.load_vocabulary` takes it."""
    classes: str | None = None
    """Class list in place of the vocabulary's classes: `a,b,c` or a file."""
    settings: Settings
    device: str = "auto"
    precision: str = "fp32"
    arch: str | None = None
    """open_clip's architecture, for checkpoint files."""
    download: bool = False
    """Fetch missing weights."""
    cache: bool = True
    """Keep embedded texts on disk."""
    memory_budget: int | None = None
    """Bytes that the models held at once may take; None: half of the device's memory."""
