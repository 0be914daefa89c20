"""Vocabulary and classes that a user chose for a folder of images, kept beside the config file. Imports no Textual.

In `folders`, a small JSON file per folder, and one for each class list of its own. A list is named by its content and
stays when the folder's choice changes: another running app may use it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmk.errors import UsageError
from clipmk.system.locations import config_path
from clipmk.system.text import cause, quoted

SAMPLES = "the sample images"  # stands for the folder of the sample images, wherever they are


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """What explains the images of a folder."""

    vocabulary: str  # name, or absolute path of a file
    classes: str | None  # file with a list of classes in place of the vocabulary's own


def folder_of(paths: Sequence[str]) -> str:
    """The folder that the first argument of the app names, or is in; links are followed."""
    if not paths:
        return SAMPLES
    path = os.path.realpath(os.path.expanduser(paths[0]))  # noqa: PTH111 - never raises, as Path's may
    return path if os.path.isdir(path) else os.path.dirname(path)  # noqa: PTH112, PTH120


def kept_choice(folder: str) -> FolderChoice | None:
    """What was kept for a folder, if anything; raises `UsageError` where its file cannot be read."""
    path = _file(folder)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as reason:
        raise UsageError(f"{quoted(path)} cannot be read: {cause(reason)}") from reason
    import json  # noqa: PLC0415 - not for the usual start

    try:
        content = json.loads(data)
        return FolderChoice(content["vocabulary"], content["classes"]) if content["folder"] == folder else None
    except (ValueError, KeyError, TypeError) as reason:
        raise UsageError(f"{quoted(path)}, which keeps the vocabulary of {quoted(folder)}, is malformed") from reason


def keep_choice(folder: str, vocabulary: str, classes: Sequence[str] | None) -> FolderChoice:
    """Keep the vocabulary and the classes (None: its own) for a folder; raises `ClipmkError` or OSError."""
    import hashlib  # noqa: PLC0415
    import json  # noqa: PLC0415

    from clipmk.system.files import atomic_write  # noqa: PLC0415
    from clipmk.vocabulary.vocabulary import available  # noqa: PLC0415

    path = _file(folder)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listed = None
    if classes is not None:
        text = json.dumps(list(classes), ensure_ascii=False, indent=1)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]  # another list, another name
        listed = str(path.with_name(f"{path.stem}-{digest}.json"))
        with atomic_write(listed) as handle:
            handle.write(text.encode())
    named = vocabulary if vocabulary in available() else str(Path(vocabulary).expanduser().absolute())
    content = {"folder": folder, "vocabulary": named, "classes": listed}
    with atomic_write(path) as handle:
        handle.write(json.dumps(content, indent=1).encode())
    return FolderChoice(named, listed)


def _file(folder: str) -> Path:
    import zlib  # noqa: PLC0415 - smaller than hashlib, and the name of the folder is in the file

    key = f"{zlib.crc32(os.fsencode(folder)):08x}"
    return config_path().parent / "folders" / f"{key}.json"
