"""What a client's requests are about. A module of its own: the app needs it before its first frame."""

from dataclasses import dataclass

from clipmk.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What all requests of one client share."""

    vocabulary: str | None
    """Name or file, as `clipmk.load_vocabulary` takes it; None: the model's own."""
    classes: str | None = None
    """Class list in place of the vocabulary's classes: `a,b,c` or a file."""
    added_classes: tuple[str, ...] = ()
    """Predicted beside these."""
    settings: Settings
    device: str = "auto"
    precision: str = "fp32"
    arch: str | None = None
    """open_clip's architecture, for checkpoint files."""
    download: bool = False
    """Download missing weights."""
    cache: bool = True
    """Keep embedded texts on disk."""
    folder: str | None = None
    """Folder that file names are relative to; None: the worker's working folder."""
