"""Datasets in shards: WebDataset tar files, indexed once, and Parquet files with images inside; nothing is unpacked.

Members of a tar file whose names agree up to the first dot of the base name are one sample: `a/0017.jpg`, `a/0017.cls`;
so are those that agree up to the last dot where image and label do: `22.05.jpg`, `22.05.cls`. The label comes from
`.cls` or `.cls.txt` (a class or its index), from "class_name", "class" or "label" in `.json`, or else from folders;
`.txt` is a caption, not a label.
"""

import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, TypeAlias

from clipmk.datasets.entries import (
    ENDINGS,
    SHOWN,
    Dataset,
    Entry,
    FileReader,
    below_common_folder,
    class_folder,
    depth_of_classes,
    evenly_spread,
    make_dataset,
    open_table,
)
from clipmk.datasets.tables import USUAL, Columns, cell_text
from clipmk.errors import InputError, UsageError, raised_as
from clipmk.images.paths import EXTENSIONS
from clipmk.system.files import LFS_HINT, LFS_POINTER
from clipmk.system.text import counted, encodable, listed, noted, one_or_many, quoted

MOST_SHARDS: Final = 100_000  # most names that a pattern may expand to
_LABEL_KEYS = ("label", "class", "class_name")  # the first one that is a text counts, else the first number
_LABEL_BYTES = {"cls": 4096, "json": 2**20}  # largest member that is read for a label, by its ending

_SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$", re.IGNORECASE)
_KIND = re.compile(r"(train|val|valid|validation|test|dev|eval)(?![a-z])", re.IGNORECASE)
"""How the name of a shard begins that is one part of a dataset."""
_LINK = "image is a link or sparse and left out", "images are links or sparse and left out"
_SHARED = "image shares a sample and is left out", "images share samples and are left out"
_DOTTED = "image is a sample up to its last dot", "images are samples up to their last dots"
_Odd: TypeAlias = dict[tuple[str, str], list[str]]
"""Images of tar files that are left out, or are samples against the usual rule; by the reason."""
_BLOCK = 512
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


@dataclass(slots=True)
class _Sample:
    """Members with names that agree up to the last dot; small, since there may be 100,000."""

    image: str | None = None
    """Name of the image's member."""
    offset: int = 0
    size: int = 0
    cls: str | None = None
    json: str | None = None

    @property
    def label(self) -> str | None:
        """A name counts before a number, and `.cls` before `.json`."""
        names = [text for text in (self.cls, self.json) if text]
        return next((text for text in names if not text.isdecimal()), names[0] if names else None)


def open_shards(spec: str, shards: Sequence[str], limit: int | None, columns: Columns = USUAL) -> Dataset:
    """The images of tar or Parquet files of one kind, in the order of the files and of what they hold.

    Raises `InputError` for a file that is missing, compressed, truncated or damaged, or if they hold no image.
    """
    missing = [shard for shard in shards if not os.path.isfile(shard)]  # noqa: PTH113 - never raises
    if missing:
        verb = one_or_many(len(missing), "is", "are")
        raise InputError(
            f"{len(missing):,} of {counted(len(shards), 'shard')} {verb} missing: {listed(missing, most=SHOWN)}"
        )
    kinds = sorted({match[1] for shard in shards if (match := _KIND.match(os.path.basename(shard)))})  # noqa: PTH119
    several = [f"shards of {', '.join(map(quoted, kinds))} are used together; a pattern names some of them"]
    warnings = several if len(kinds) > 1 else []
    parquet = [shard for shard in shards if shard.lower().endswith(".parquet")]
    if len(parquet) == len(shards):
        return _open_parquet(spec, shards, limit, columns, warnings)
    other = [shard for shard in shards if not _TAR.search(shard)]
    if other:
        raise UsageError(
            f"{quoted(spec)} names {counted(len(shards), 'file')}, {len(other):,} of them not a tar shard: "
            f"{listed(other, most=SHOWN)}; a dataset is one folder, one table, or shards of one kind"
        )
    return _open_tars(spec, shards, limit, warnings)


def _open_tars(spec: str, shards: Sequence[str], limit: int | None, warnings: list[str]) -> Dataset:
    root, places = below_common_folder(shards)
    entries: list[Entry] = []
    odd: _Odd = {_LINK: [], _SHARED: [], _DOTTED: []}
    for name, place in places:
        entries += _indexed(place, name, odd)
    if not entries:
        raise InputError(f"tar shards {quoted(spec)} hold no image; known endings: {ENDINGS}")
    warnings += [note for reason, names in odd.items() for note in noted(names, *reason)]
    if all(entry.label is None for entry in entries):
        entries = _labelled_by_folder(entries, warnings)
    return make_dataset(spec, "tar", evenly_spread(entries, limit), FileReader(root), warnings=warnings)


def _open_parquet(spec: str, files: Sequence[str], limit: int | None, columns: Columns, warnings: list[str]) -> Dataset:
    from clipmk.datasets.parquet import image_column, open_images  # noqa: PLC0415 - pyarrow

    column = image_column(files[0], columns)
    if column is not None:
        return open_images(spec, files, column, limit, columns, warnings)
    if len(files) > 1:
        raise InputError(f"Parquet files {quoted(spec)} hold no images; of tables of paths, name one")
    return open_table(files[0], limit, columns)


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern expands to, as in a shell: `a-{08..10}.tar`, `{train,val}.tar`."""
    import bracex  # noqa: PLC0415 - few patterns have braces

    try:
        names: list[str] = bracex.expand(pattern, keep_escapes=True, limit=MOST_SHARDS)
    except bracex.ExpansionLimitException as reason:
        raise UsageError(f"pattern {quoted(pattern)} expands to more than {MOST_SHARDS:,} names") from reason
    if any(brace in name for name in names for brace in "{}"):
        raise UsageError(f"pattern {quoted(pattern)} has a brace that is neither a range {{000..012}} nor {{a,b}}")
    return names


def _indexed(path: str, place: str, odd: _Odd) -> list[Entry]:
    """Entries of a tar file, in the order of their samples."""
    samples: dict[str, _Sample] = {}
    twice: list[str] = []
    unreadable = raised_as(InputError, f"tar file {quoted(path)} cannot be read", OSError)
    with unreadable, open(path, "rb") as handle:  # noqa: PTH123 - a string, as the reader takes it
        for member in _members(handle, path):
            key, ending = _split(member.name)
            is_image = f".{ending}" in EXTENSIONS
            if not (is_image or ending in _LABEL_BYTES):
                continue
            if not member.isreg() or member.issparse():
                odd[_LINK].extend([member.name] if is_image else [])
                continue
            sample = samples.setdefault(key, _Sample())
            if is_image and sample.image is None:
                sample.image = member.name.removeprefix("./")
                sample.offset, sample.size = member.offset_data, member.size
            elif is_image and sample.image != member.name.removeprefix("./"):
                odd[_SHARED].append(member.name)
            elif not is_image and getattr(sample, ending) is None:
                setattr(sample, ending, _label_of(member, ending, handle))
            else:
                twice.append(member.name)
    if twice:
        raise InputError(
            f"tar file {quoted(path)} holds {counted(len(twice), 'member')} more than once: {listed(twice, most=SHOWN)}"
        )
    return [
        Entry(key=encodable(f"{place}/{sample.image}"), label=label, path=place, offset=sample.offset, size=sample.size)
        for sample, label in _with_labels(samples, odd)
    ]


def _with_labels(samples: dict[str, _Sample], odd: _Odd) -> Iterator[tuple[_Sample, str | None]]:
    """The samples with an image. One without a label belongs to what has the same first dot, if there is anything."""
    used: set[str] = set()
    for key, sample in samples.items():
        if sample.image is None:
            continue
        first = key[: match.end(1)] if (match := _SAMPLE.fullmatch(key)) else key
        whole = samples.get(first)
        if first == key or sample.label is not None or whole is None:
            odd[_DOTTED].extend([sample.image] if first != key else [])
            yield sample, sample.label
        elif whole.image is not None or first in used:
            odd[_SHARED].append(sample.image)
        else:
            used.add(first)
            yield sample, whole.label


def _split(name: str) -> tuple[str, str]:
    """Name of a member -> (everything before its last dot, lower-case ending); two empty texts for a hidden one."""
    found = _SAMPLE.fullmatch(name.removeprefix("./"))
    if found is None or any(part.startswith(".") for part in found[1].split("/")):
        return "", ""
    key, _, ending = name.removeprefix("./").rpartition(".")
    if ending.lower() == "txt" and key.lower().endswith(".cls"):
        key, ending = key[:-4], "cls"
    return key, sys.intern(ending.lower())


def _labelled_by_folder(entries: list[Entry], warnings: list[str]) -> list[Entry]:
    """The entries with the folders of their members as labels, where these differ; else as they are."""
    paths = [entry.key.removeprefix(f"{entry.path}/") for entry in entries]
    depth = depth_of_classes(paths, wrapped=True)
    labels = [class_folder(path, depth) for path in paths]
    if len(set(labels) - {None}) < 2:
        return entries
    warnings.append(f"labels are the folders in the tar files, such as {quoted(next(filter(None, labels)))}")
    return [replace(entry, label=label) for entry, label in zip(entries, labels, strict=True)]


def _members(handle: BinaryIO, path: str) -> Iterator[tarfile.TarInfo]:
    """All members of a tar file, one at a time; memory does not grow with their number."""
    label, head = f"tar file {quoted(path)}", handle.read(len(LFS_POINTER))
    handle.seek(0)
    if head == LFS_POINTER:
        raise InputError(f"{label} {LFS_HINT}")
    for magic, kind in _COMPRESSED:
        if head.startswith(magic):
            everything = "so reading one image means reading everything before it; decompress it first"
            raise InputError(f"{label} is compressed with {kind}, {everything}")
    malformed = raised_as(InputError, f"{label} is truncated, damaged or not a tar file", tarfile.TarError, ValueError)
    with malformed, tarfile.open(fileobj=handle, mode="r:") as tar:
        while (member := tar.next()) is not None:
            if member.size < 0:  # some versions of tarfile would loop forever
                raise InputError(f"{label} is damaged: {quoted(member.name)} has {member.size} bytes")
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all members
            yield member
        end = tar.offset
    handle.seek(end)
    block = handle.read(_BLOCK)
    if len(block) < _BLOCK:  # tarfile accepts this as the end
        raise InputError(f"{label} is truncated: it ends after {end + len(block)} bytes without an end marker")
    if any(block):
        raise InputError(f"{label} is damaged at byte {end}: there is no member header")


def _label_of(member: tarfile.TarInfo, kind: str, handle: BinaryIO) -> str:
    """The label in a `.cls` or `.json` member, empty where there is none; equal ones share one object."""
    label = f"{quoted(member.name)} in tar file {quoted(handle.name)}"
    if member.size > _LABEL_BYTES[kind]:
        raise InputError(f"{label} has {member.size} bytes; a label has at most {_LABEL_BYTES[kind]}")
    handle.seek(member.offset_data)
    data = handle.read(member.size)
    with raised_as(InputError, f"{label} cannot be read", ValueError, RecursionError):
        text = data.decode("utf-8").strip() if kind == "cls" else cell_text(_json_label(json.loads(data)), label) or ""
    return sys.intern(text)


def _json_label(content: object) -> Any:
    """The label in a JSON object; None where there is none."""
    values = [content[key] for key in _LABEL_KEYS if content.get(key) is not None] if isinstance(content, dict) else []
    return next((value for value in values if isinstance(value, str)), values[0] if values else None)
