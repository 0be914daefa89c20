"""Datasets in WebDataset tar shards: indexed once, then every image is a single read; nothing is unpacked.

Members whose names agree up to the first dot of the base name are one sample: `a/0017.jpg`, `a/0017.cls`. The label
comes from `.cls` (a class or its index) or from "label", "class" or "class_name" in `.json`; `.txt` is a caption, not a
label.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from clipmk.datasets.dataset import Dataset, Entry
from clipmk.datasets.entries import ENDINGS, SHOWN, FileReader, evenly_spread, make_dataset
from clipmk.errors import InputError, UsageError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.text import cause, counted, encodable, listed, one_or_many, printable, quoted

MOST_SHARDS: Final = 100_000
"""Most names that a pattern may expand to."""

_LABEL_KEYS = ("label", "class", "class_name")
_LABEL_BYTES = {"cls": 4096, "json": 2**20}
"""Largest member that is read for a label, by its ending."""

_SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)", re.ASCII)
_BLOCK = 512
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


@dataclass(slots=True)
class _Sample:
    """A sample while its tar file is being indexed; small, since there may be 100,000."""

    image: str | None = None
    """Name of the image's member: the first whose name has one dot, else the first."""
    ending: str = ""
    """Everything after its first dot."""
    offset: int = 0
    size: int = 0
    cls: str | None = None
    json: str | None = None


def open_shards(spec: str, shards: Sequence[str], limit: int | None) -> Dataset:
    """The images of tar files, in the order of the files and of their members.

    Args:
        spec: as the user gave it.
        shards: paths of the files, at least one.
        limit: most images, spread evenly.

    Raises:
        InputError: a file is missing, compressed, truncated or not a tar file, or they hold no image.
    """
    missing = [shard for shard in shards if not os.path.isfile(shard)]  # noqa: PTH113 - never raises
    if missing:
        verb = one_or_many(len(missing), "is", "are")
        raise InputError(
            f"{len(missing):,} of {counted(len(shards), 'shard')} {verb} missing: {listed(missing, most=SHOWN)}"
        )
    places = [os.path.abspath(shard) for shard in shards]  # noqa: PTH100 - leaves links alone
    root = os.path.commonpath([os.path.dirname(place) for place in places])  # noqa: PTH120
    entries: list[Entry] = []
    links = 0
    for place in places:
        name = encodable(os.path.relpath(place, root).replace(os.sep, "/"))
        found, skipped = _indexed(place, name)
        entries += found
        links += skipped
    if not entries:
        raise InputError(f"tar shards {quoted(spec)} hold no image; known endings: {ENDINGS}")
    kind = one_or_many(links, "is a link or sparse", "are links or sparse")
    warnings = [f"{counted(links, 'image')} in {quoted(spec)} {kind} and left out"] if links else []
    return make_dataset(spec, "tar", evenly_spread(entries, limit), FileReader(root), warnings=warnings)


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern expands to: `a-{08..10}.tar` gives a-08.tar, a-09.tar, a-10.tar; `{a,b}` gives a and b.

    Raises:
        UsageError: the braces do not match, are empty, or a range runs backwards or is too long.
    """
    parts = _BRACES.split(pattern)
    if any("{" in part or "}" in part for part in parts):
        raise UsageError(f"pattern {quoted(pattern)} has an unmatched brace; write train-{{000..012}}.tar")
    choices = [_choices(part, pattern) if number % 2 else [part] for number, part in enumerate(parts)]
    if (count := math.prod(map(len, choices))) > MOST_SHARDS:
        raise UsageError(f"pattern {quoted(pattern)} expands to {count} names; at most {MOST_SHARDS} are allowed")
    return ["".join(name) for name in itertools.product(*choices)]


def _choices(text: str, pattern: str) -> Sequence[str]:
    """The choices between two braces."""
    found = _RANGE.fullmatch(text)
    if found is None:
        names = [name for name in text.split(",") if name]
        if "," not in text or len(names) != text.count(",") + 1:
            raise UsageError(
                f"'{{{printable(text)}}}' in {quoted(pattern)} is neither a range {{000..012}} nor {{a,b}}"
            )
        return names
    first, last = found.groups()
    if int(first) > int(last) or int(last) - int(first) >= MOST_SHARDS:
        raise UsageError(f"range {quoted(text)} in {quoted(pattern)} runs backwards or is longer than {MOST_SHARDS}")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _indexed(path: str, place: str) -> tuple[list[Entry], int]:
    """Entries of a tar file in the order of their samples, and how many images are not plain files."""
    samples: dict[str, _Sample] = {}
    skipped, twice = 0, list[str]()
    try:
        with open(path, "rb") as handle:  # noqa: PTH123 - a string, as the reader takes it
            for member in _members(handle, path):
                key, ending = _split(member.name)
                is_image = f".{ending.rpartition('.')[2]}" in EXTENSIONS
                if not (is_image or ending in _LABEL_BYTES):
                    continue
                if not member.isreg() or member.issparse():
                    skipped += is_image
                    continue
                sample = samples.setdefault(key, _Sample())
                if is_image:
                    fresh = _add_image(sample, member, ending)
                elif fresh := getattr(sample, ending) is None:
                    setattr(sample, ending, _label_of(member, ending, handle))
                twice += [] if fresh else [member.name]
    except OSError as reason:
        raise InputError(f"tar file {quoted(path)} cannot be read: {cause(reason)}") from reason
    if twice:
        raise InputError(
            f"tar file {quoted(path)} holds {counted(len(twice), 'member')} more than once: {listed(twice, most=SHOWN)}"
        )
    entries = [
        Entry(
            key=encodable(f"{place}/{sample.image}"),
            label=sample.cls or sample.json or None,
            path=place,
            offset=sample.offset,
            size=sample.size,
        )
        for sample in samples.values()
        if sample.image is not None
    ]
    return entries, skipped


def _split(name: str) -> tuple[str, str]:
    """Name of a member -> (sample, lower-case ending after the first dot); two empty texts for a hidden one."""
    found = _SAMPLE.fullmatch(name.removeprefix("./"))
    if found is None or any(part.startswith(".") for part in found[1].split("/")):
        return "", ""
    return found[1], sys.intern(found[2].lower())


def _add_image(sample: _Sample, member: tarfile.TarInfo, ending: str) -> bool:
    """Keep the better image of a sample; False if it has this one already."""
    if sample.image is None or ("." in sample.ending and "." not in ending):
        sample.image, sample.ending = member.name.removeprefix("./"), ending
        sample.offset, sample.size = member.offset_data, member.size
        return True
    return sample.ending != ending


def _members(handle: BinaryIO, path: str) -> Iterator[tarfile.TarInfo]:
    """All members of a tar file, one at a time; memory does not grow with their number.

    Raises:
        InputError: the file is compressed, not a tar file, truncated or damaged.
    """
    label, head = f"tar file {quoted(path)}", handle.read(6)
    handle.seek(0)
    for magic, kind in _COMPRESSED:
        if head.startswith(magic):
            everything = "so reading one image means reading everything before it; decompress it first"
            raise InputError(f"{label} is compressed with {kind}, {everything}")
    try:
        with tarfile.open(fileobj=handle, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0:  # some versions of tarfile would loop forever
                    raise InputError(f"{label} is damaged: {quoted(member.name)} has {member.size} bytes")
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all members
                yield member
            end = tar.offset
    except (tarfile.TarError, ValueError) as reason:
        raise InputError(f"{label} is truncated, damaged or not a tar file: {printable(str(reason))}") from reason
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
    try:
        text = data.decode("utf-8").strip() if kind == "cls" else _json_label(json.loads(data))
    except (ValueError, RecursionError) as reason:
        raise InputError(f"{label} cannot be read: {printable(str(reason))}") from reason
    return sys.intern(text)


def _json_label(content: object) -> str:
    """The label in a JSON object; empty where there is none.

    Raises:
        ValueError: it is neither a text nor a whole number.
    """
    values = [content[key] for key in _LABEL_KEYS if key in content] if isinstance(content, dict) else []
    value = next((value for value in values if value is not None), None)
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"its label is {value!r}; a text or a whole number is needed")  # noqa: TRY004 - bad data
    return str(value)
