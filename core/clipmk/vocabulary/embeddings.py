"""Embedded vocabularies: every text once per model, kept on disk, memory-mapped afterwards.

Two files per model and vocabulary, one for the classes and one for the descriptors, each named after all that its
numbers depend on (`vocabulary.cache` says what is in them and how they are checked). A vocabulary whose file does not
exist takes the rows that other files of the model hold, embeds the rest and becomes a file of its own: one grown by ten
descriptors embeds ten, other classes keep the descriptors. The copy costs disk and buys matrices without gaps.

A vocabulary of more than `CHUNK` texts is embedded part by part; every part is kept as a file at once, and all parts
become the one file at the end. So memory does not grow with the number of texts, and who is interrupted goes on from
the last part.

The numbers of a text do not depend on the texts beside it on a CPU (see `clipmk.backbones.text.TextEncoder`), so that
those from a file and those made anew are the same to the last bit. On a GPU they can differ there by the batch that a
text was in; what was stored first stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import Tensor

from clipmk.errors import ClipmkError
from clipmk.system.locations import CacheInfo, cache_info, clear_cache, texts_dir
from clipmk.system.text import printable
from clipmk.vocabulary import cache as textstore
from clipmk.vocabulary.cache import Keys, Rows
from clipmk.vocabulary.rows import Found, Progress, Section, Sections, Source, TextEncoder, in_memory, made_rows

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.vocabulary.vocabulary import Vocabulary

__all__ = ["CacheInfo", "TextBank", "TextEncoder", "cache_info", "clear_cache", "load_bank"]

FORMAT = "clipmk-texts-2"
"""Version of the cached files; another one is never read."""

LOCK_SECONDS = 600.0
"""Longest wait for another process that embeds the same texts."""

PROBE = "a photo of a probe"
"""Embedded to tell modules in memory apart: equal weights can still differ in their activation."""


UNREADABLE = (OSError, SafetensorError, textstore.DamagedError)
"""How a file says that it cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class TextBank:
    """An embedded vocabulary: float32, every row of unit length."""

    classes: Float[Tensor, "classes embed"]
    """Per class: the templates' embeddings, each L2-normalised, averaged, renormalised (open_clip's convention)."""
    descriptors: Float[Tensor, "descriptors embed"]
    """In the descriptor template."""
    raw: Float[Tensor, "descriptors embed"]
    """The descriptors as they are, for relevance and importance."""
    warnings: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> TextBank:
        """The same bank on another device."""
        return dataclasses.replace(
            self,
            classes=self.classes.to(device),
            descriptors=self.descriptors.to(device),
            raw=self.raw.to(device),
        )


def load_bank(
    backbone: TextEncoder, vocabulary: Vocabulary, *, cache: bool = True, progress: Progress | None = None
) -> TextBank:
    """Embed a vocabulary, or read it from the cache; a text is embedded once (once per `CHUNK`, where there are more).

    A damaged or unusable cache costs time, never the result: `TextBank.warnings` says so.

    Args:
        backbone: Encodes the texts that are not cached.
        vocabulary: Classes, templates and descriptors.
        cache: Whether to read and write the cache.
        progress: Called with (texts done, texts to embed in all); what it raises cancels the work.

    Returns:
        On the CPU, memory-mapped where it is cached.

    Raises:
        ModelError: the text encoder gives vectors that are not finite or have no length.
    """
    sections = {
        "classes": Section(vocabulary.classes, {"classes": vocabulary.templates}),
        "descriptors": Section(
            vocabulary.descriptors, {"descriptors": (vocabulary.descriptor_template,), "raw": ("{}",)}
        ),
    }
    warnings: list[str] = []
    if cache:
        found = _Cache(backbone, sections, warnings).load(progress)
    else:
        keys = {name: section.keys() for name, section in sections.items()}
        found = in_memory(sections, keys, made_rows(backbone, sections, keys, progress=progress))
    return TextBank(
        classes=found["classes"]["classes"],
        descriptors=found["descriptors"]["descriptors"],
        raw=found["descriptors"]["raw"],
        warnings=tuple(dict.fromkeys(warnings)),
    )


class _Cache:
    """The files of one model, looked at for one vocabulary."""

    def __init__(self, backbone: TextEncoder, sections: Sections, warnings: list[str]) -> None:
        self._backbone = backbone
        self._sections = sections
        self._warnings = warnings
        model = _model_key(backbone)
        self._model = _digest([FORMAT, model])[:16]
        self._paths = {
            name: self._path(name, _digest([FORMAT, model, name, one.names, dict(one.templates)])[:24])
            for name, one in sections.items()
        }
        self._parts = _digest([path.name for path in self._paths.values()])[:24]

    def load(self, progress: Progress | None) -> Found:
        """Read what is stored; make and store the rest, while other processes that want the same wait."""
        found = self._read(self._paths, self._warnings)
        missing = {name: path for name, path in self._paths.items() if name not in found}
        if not missing:
            return found
        with _locked(list(missing.values()), self._warnings) as writable:
            found |= self._read(missing, [])  # another process may have been faster
            wanted = {name: self._sections[name] for name in missing if name not in found}
            return found | (self._make(wanted, progress, writable=writable) if wanted else {})

    def _make(self, wanted: Sections, progress: Progress | None, *, writable: bool) -> Found:
        keys = {name: section.keys() for name, section in wanted.items()}
        known = self._others(wanted, keys)
        rows = made_rows(
            self._backbone, wanted, keys, known=known, progress=progress, keep=self._part if writable else None
        )
        if not writable or not self._write(wanted, keys, rows):
            return in_memory(wanted, keys, rows)
        for path in texts_dir().glob(f"part-{self._model}-{self._parts}-*.safetensors"):
            with contextlib.suppress(OSError):
                path.unlink()
        try:
            return {name: textstore.read(self._paths[name], layout=FORMAT, check=False).matrices for name in wanted}
        except UNREADABLE as reason:  # emptied meanwhile, or a file system that maps nothing
            self._warnings.append(f"embedded texts are not kept for the next time: {printable(str(reason))}")
            return in_memory(wanted, keys, rows)

    def _path(self, kind: str, content: str) -> Path:
        return texts_dir() / f"{kind}-{self._model}-{content}.safetensors"

    def _read(self, paths: Mapping[str, Path], warnings: list[str]) -> Found:
        """The sections whose files exist and are sound."""
        found = {}
        for name, path in paths.items():
            try:
                matrices = textstore.read(path, layout=FORMAT).matrices
                if {key: len(matrix) for key, matrix in matrices.items()} != self._sections[name].counts:
                    raise textstore.DamagedError("it holds other matrices")
            except FileNotFoundError:
                continue
            except UNREADABLE as reason:
                warnings.append(f"cached texts {path.name} cannot be used and are made anew: {printable(str(reason))}")
            else:
                found[name] = matrices
        return found

    def _others(self, wanted: Sections, keys: Mapping[str, Keys]) -> list[Source]:
        """What other files of the model hold, of those files that hold anything that is wanted."""
        sought = np.concatenate(list(keys.values()))
        own = {self._paths[name] for name in wanted}
        known = []
        for path in sorted(texts_dir().glob(f"*-{self._model}-*.safetensors")):
            try:
                sources = [] if path in own else textstore.read(path, layout=FORMAT, check=False).sources
                if len(Rows(sources).find(sought).missing) < len(sought):
                    known += textstore.read(path, layout=FORMAT).sources
            except FileNotFoundError:
                continue
            except UNREADABLE as reason:
                self._warnings.append(f"cached texts {path.name} cannot be used: {printable(str(reason))}")
                with contextlib.suppress(OSError):
                    path.unlink()
        return known

    def _part(self, keys: Keys, rows: Tensor) -> Source:
        """Write a part and map it, so that its memory is free again; where that fails it stays in memory."""
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:24]
        path = self._path("part", f"{self._parts}-{name}")
        try:
            textstore.write(path, {"part": len(keys)}, keys, iter([rows.numpy()]), layout=FORMAT)
            return textstore.read(path, layout=FORMAT, check=False).sources[0]
        except (ClipmkError, *UNREADABLE) as reason:
            self._warnings.append(f"embedded texts are not kept for the next time: {printable(str(reason))}")
            return keys, rows

    def _write(self, wanted: Sections, keys: Mapping[str, Keys], rows: Rows) -> bool:
        """Write sections; whether all could be."""
        try:
            for name, section in wanted.items():
                pieces = rows.pieces(keys[name])
                textstore.write(self._paths[name], section.counts, keys[name], pieces, layout=FORMAT)
        except ClipmkError as reason:
            self._warnings.append(f"embedded texts are not kept for the next time: {reason}")
            return False
        return True


def _model_key(backbone: TextEncoder) -> list[object]:
    """All of a model that the numbers depend on."""
    info = backbone.info
    key: list[object] = [
        info.weights_sha256,
        info.architecture,
        info.pretrained,
        str(backbone.dtype),
        backbone.device.type,
        backbone.text_fingerprint,
    ]
    if info.architecture == "custom":
        key.append([round(value, 2) for value in backbone.encode_texts([PROBE])[0].tolist()])
    return key


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode("ascii")).hexdigest()[:40]


@contextlib.contextmanager
def _locked(paths: Sequence[Path], warnings: list[str]) -> Iterator[bool]:
    """Hold the files' locks; yields whether the files may be written."""
    with contextlib.ExitStack() as held:
        try:
            texts_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in sorted(paths):
                held.enter_context(FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS))
        except (OSError, NotImplementedError) as reason:  # a timeout is an OSError
            warnings.append(f"embedded texts are not kept for the next time: {printable(str(reason))}")
            writable = False
        else:
            writable = True
        yield writable
