"""What is asked of a study, its folder, and its manifest: everything its numbers depend on, in one JSON file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from clipmk.concepts.mutual import language_count_for
from clipmk.datasets.entries import DatasetInfo
from clipmk.errors import InputError
from clipmk.records import ModelInfo
from clipmk.system.files import write_text
from clipmk.system.serialization import MalformedRecordError, from_plain, plain
from clipmk.system.text import cause, counted, listed, quoted, slug

if TYPE_CHECKING:
    from clipmk.datasets.entries import Dataset
    from clipmk.settings import Fit, Settings
    from clipmk.vocabulary.vocabulary import Vocabulary

Engine = Literal["local", "ray"]

FORMAT: Final = 2  # increased whenever readers of a study folder have to change
_DIGITS: Final = 12  # digits of a hash that are shown
_REMEDY: Final = "; move it away and run the same study again, which keeps all that belongs to it"
_HASHES: Final = ("sha256", "fingerprint")
_FREE: Final = frozenset(
    {"command", "dataset.name", "dataset.root", "dataset.column", "vocabulary.name", "language_counts"}
)
"""What may differ between two runs of one study."""
_FOLLOWS: Final = (
    ("dataset", ("dataset.", "settings.fit", "shards")),
    ("dataset.fingerprint", ("settings.fit", "shards")),
    ("vocabulary", ("vocabulary.",)),
    ("vocabulary.sha256", ("dataset.labelled", "dataset.classes")),  # labels that are classes of it
    ("settings.preset", ("settings.", "parts", "shards")),
    ("settings.parts", ("parts",)),
    ("settings.fit", ("shards",)),
    ("shard_size", ("shards",)),
    ("device", ("threads",)),
)
"""A difference between two studies -> prefixes of the differences that follow from it."""
_NEVER_FOLLOWS: Final = frozenset({"settings.preset", "settings.seed"})


def file_name(model_id: str) -> str:
    """A model's id as a file name: its `slug`, and the beginning of its SHA-256.

    The digest separates ids that would share a name (`a/b` and `a:b`), also where file names ignore case.
    """
    digest = hashlib.sha256(model_id.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{slug(model_id)}-{digest}"


class StudyFolder:
    """The paths in a study's folder (see `schema`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest, self.plan = root / "study.json", root / "plan.parquet"
        self.lock = root / "study.lock"  # held by the one run that may write
        self.report = root / "report"

    def language(self, model_id: str) -> Path:
        """D_y of every class."""
        return self.root / "language" / f"{file_name(model_id)}.parquet"

    def shard(self, model_id: str, number: int) -> Path:
        """One unit of work."""
        return self.root / "shards" / file_name(model_id) / f"{number:05d}.parquet"

    def table(self, name: str, suffix: str = ".parquet") -> Path:
        """A final table: "models", "classes", "concepts", "asked", "language_counts" or "images"."""
        return self.root / "tables" / f"{name}{suffix}"


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
    asks: tuple[str, ...] = ()
    """Texts of one's own that each image is asked for; none: those of the study in the folder."""
    language_counts: tuple[int, ...] = ()
    """Sizes of D_y that the study's tables compare; none: those of the study in the folder."""
    download: bool = False
    command: str | None = None
    """The command line, for the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyInfo:
    """The vocabulary of a study."""

    name: str
    sha256: str
    classes: int
    descriptors: int
    templates: tuple[str, ...]
    descriptor_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything the numbers of a study depend on."""

    dataset: DatasetInfo
    vocabulary: VocabularyInfo
    models: tuple[ModelInfo, ...]
    parts: tuple[str, ...]
    """The part methods, each with its own rows: ("kmeans", "pca") under the `paper` preset."""
    settings: dict[str, Any]
    """`clipmk.Settings`; its `parts` is the first of the part methods."""
    shards: int
    shard_size: int
    """Most images in a shard."""
    batch_size: int
    device: str
    """Kind of device: "cpu", "cuda" or "mps"."""
    dtype: str
    threads: int | None
    """CPU threads; their number changes the last bits of a sum."""
    versions: dict[str, str]
    """clipmk, torch and open_clip, when it was started."""
    asks: tuple[str, ...] = ()
    language_counts: tuple[int, ...] = ()
    """Sizes of D_y to compare; they change tables, and how much of D_y is written."""
    command: str | None = None
    """The command line that started it and those that added models, joined by " && "; None if one is unknown."""
    format: int = FORMAT

    @property
    def language_count(self) -> int:
        """u, the size of D_y."""
        size, wanted = self.vocabulary.descriptors, self.settings["language_count"]
        return min(size, wanted or language_count_for(size, vision_count=self.settings["vision_limit"]))

    @property
    def language_depth(self) -> int:
        """How many of the descriptors nearest to each class are written."""
        return min(self.vocabulary.descriptors, max(self.language_count, *self.language_counts, 0))

    def made_of_language(self, model: ModelInfo) -> str:
        """`made_of` the file with D_y of a model."""
        deeper = [self.language_depth] if self.language_depth > self.language_count else []
        return self.made_of(model, *deeper)

    def made_of(self, *contents: Any) -> str:
        """Digest of all that a file of the study follows from: of its `contents`, and of what models have in common."""
        common = dict(_leaves(plain(dataclasses.replace(self, models=(), versions={}))))
        facts = {key: value for key, value in common.items() if key not in _FREE and (key, value) != ("asks", [])}
        return _digest([facts, plain(contents)])


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it completely or not at all; the same study gives the same bytes.

    Text that UTF-8 cannot encode, such as undecodable bytes of a file name, is escaped and read back unchanged.
    """
    content = plain(manifest)
    text = json.dumps({**content, "digest": _digest(content)}, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    write_text(text, path)


def read_manifest(path: Path) -> Manifest:
    """Read a study's manifest; InputError if it is missing, damaged, or has another format."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as reason:
        raise InputError(f"{quoted(path.parent)} is not a study: it has no {path.name}") from reason
    except (OSError, ValueError, RecursionError) as reason:
        raise InputError(f"manifest {quoted(path)} cannot be read: {cause(reason)}{_REMEDY}") from reason
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        hint = "; its files have no digests yet: study the dataset again in another folder" if found == 1 else ""
        raise InputError(f"manifest {quoted(path)} has format {found!r}; this version reads format {FORMAT}{hint}")
    if content.pop("digest", None) != _digest(content):
        raise InputError(f"manifest {quoted(path)} is damaged: it is not what clipmk wrote{_REMEDY}")
    try:
        return from_plain(Manifest, content)
    except MalformedRecordError as reason:
        raise InputError(f"manifest {quoted(path)} is damaged: {reason}") from reason


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(old: Manifest, new: Manifest) -> list[str]:
    """What makes two studies different, one line each: `settings.seed: 0 there, 1 here`.

    The lines are what a user can act on: names and sizes of datasets, names of vocabularies and presets. Differences
    that follow from others are left out, and hashes wherever another line shows the difference. Versions and the
    command do not count, nor do two names for the same images or words. Other models are one line with their ids.
    """
    there, here = _facts(old, new), _facts(new, old)
    changed = {key for key in there.keys() | here.keys() if there.get(key) != here.get(key)}
    return [
        f"{key}: {_brief(key, there.get(key, 'nothing'))!r} there, {_brief(key, here.get(key, 'nothing'))!r} here"
        for key in sorted(_causes(changed))
    ]


def _facts(one: Manifest, other: Manifest) -> dict[str, Any]:
    """Everything that can make a study different from another, by dotted name."""
    ids = [model.id for model in one.models]
    others = ids != [model.id for model in other.models]
    left_out = ("versions", "models[") if others else ("versions",)
    facts = {key: value for key, value in _leaves(plain(one)) if not key.startswith(left_out) and key not in _FREE}
    if others:
        facts["models"] = ", ".join(ids)
    if one.dataset.fingerprint != other.dataset.fingerprint:
        facts["dataset"] = f"{one.dataset.name} ({counted(one.dataset.images, 'image')})"
    if one.vocabulary.sha256 != other.vocabulary.sha256:
        facts["vocabulary"] = one.vocabulary.name
    return facts


def _causes(changed: set[str]) -> set[str]:
    """The names among `changed` that do not follow from others among them."""
    follows = {key for cause, effects in _FOLLOWS if cause in changed for key in changed if key.startswith(effects)}
    causes = (changed - follows) | (changed & _NEVER_FOLLOWS)
    shown = {key.rpartition(".")[0] for key in causes if not key.endswith(_HASHES)}
    return {key for key in causes if not key.endswith(_HASHES) or key.rpartition(".")[0] not in shown}


def _brief(key: str, value: Any) -> Any:
    if key == "asks" and value:
        return f"{counted(len(value), 'text')}: {listed(value, most=3)}"
    return value[:_DIGITS] if key.endswith(_HASHES) and isinstance(value, str) else value


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in nested objects; a list is one value unless it holds objects."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value, 1):
            yield from _leaves(inner, f"{prefix}[{number}]")
    else:
        yield prefix, value
