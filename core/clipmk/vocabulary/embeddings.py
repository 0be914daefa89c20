"""Embedded vocabularies: every text once per model, kept on disk, memory-mapped afterwards.

Three files per model and vocabulary (classes, descriptors in their template, raw descriptors), each named after
everything that its numbers depend on (`cache` describes their content). A vocabulary whose file does not exist takes
the rows that other files of the model hold, embeds the rest and gets a file of its own: one grown by ten descriptors
embeds ten, other classes keep the descriptors. The copies cost disk space and give matrices without gaps.

A vocabulary of more than `CHUNK` texts is embedded chunk by chunk, and every chunk is stored in a file until all are
done. So memory does not grow with the number of texts, and an interrupted run resumes from the last chunk.

On a CPU the numbers of a text do not depend on the texts beside it (see `clipmk.backbones.text.TextEncoder`), so
cached and fresh numbers are the same to the last bit. On a GPU the last bits can differ with the batch that a text was
in; what was stored first stays.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clipmk.backbones.base import Progress
from clipmk.errors import ClipmkError, ModelError
from clipmk.system.files import file_lock
from clipmk.system.locations import cached_texts, texts_dir
from clipmk.system.text import counted, one_or_many, printable, quoted
from clipmk.vocabulary import cache as cache_files
from clipmk.vocabulary.cache import UNREADABLE, DamagedError, Keys, Rows, Stored

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.backbones.backbone import Backbone
    from clipmk.vocabulary.vocabulary import Vocabulary

CHUNK = 2**15  # texts that are embedded and held in memory at once
LARGE = 2**28  # bytes from which a matrix is assembled in a file instead of in memory
LOCK_SECONDS = 600.0  # longest wait for another process that embeds the same vocabulary

PROBE = "a photo of a probe"
"""Embedded to tell modules in memory apart: equal weights can still differ in their activation."""


@dataclass(frozen=True, slots=True, eq=False)
class TextBank:
    """An embedded vocabulary: float32, every row of unit length."""

    classes: Float[Tensor, "classes embed"]
    """Per class: the templates' embeddings, each L2-normalised, averaged, renormalised (open_clip's convention)."""
    descriptors: Float[Tensor, "descriptors embed"]
    """In the descriptor template."""
    raw: Float[Tensor, "descriptors embed"]
    """Without a template, for relevance and importance."""
    warnings: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.classes.nbytes + self.descriptors.nbytes + self.raw.nbytes


def load_bank(
    backbone: Backbone, vocabulary: Vocabulary, *, cache: bool = True, progress: Progress | None = None
) -> TextBank:
    """Embed a vocabulary, or read it from the cache, on the CPU; a text is embedded once (per `CHUNK` of them).

    A damaged or unusable cache costs time, never the result: `TextBank.warnings` says so. `progress` is called with
    (texts done, texts to embed in all), and may raise to cancel. Raises `ModelError` for embeddings that are not finite
    or have no length.
    """
    sections = sections_of(vocabulary)
    warnings: list[str] = []
    if cache:
        found = _Cache(backbone, sections, warnings).load(progress)
    else:
        found = _gathered(sections, _embedded(backbone, sections, progress=progress))
        warnings += [cut_note(section, backbone.cut_texts(section.texts())) for section in sections]
    return TextBank(**found, warnings=tuple(dict.fromkeys(filter(None, warnings))))


@dataclass(frozen=True)
class Section:
    """A matrix whose row i is the mean over templates filled with name i, and the file that it is kept in."""

    title: str
    """A field of `TextBank`."""
    names: tuple[str, ...]
    templates: tuple[str, ...]

    def prompts(self, row: int) -> tuple[str, ...]:
        """The texts whose embeddings make a row."""
        return tuple(template.replace("{}", self.names[row]) for template in self.templates)

    def texts(self) -> Iterator[str]:
        """All texts; none where those of another section are the same or longer."""
        rows = range(0 if self.title == "raw" else len(self.names))
        return (text for row in rows for text in self.prompts(row))

    @functools.cached_property
    def keys(self) -> Keys:
        """Of all rows."""
        return cache_files.keys_of(map(self.prompts, range(len(self.names))))


class _Cache:
    """The files of one model, for one vocabulary."""

    def __init__(self, backbone: Backbone, sections: Sequence[Section], warnings: list[str]) -> None:
        self._backbone = backbone
        self._sections = sections
        self._warnings = warnings
        self._model = _digest([cache_files.FORMAT, *_model_key(backbone)])[:16]
        names = {some: _digest(some) for some in {one.names for one in sections}}
        contents = {one.title: _digest([self._model, names[one.names], one.templates])[:24] for one in sections}
        self._paths = {
            title: texts_dir() / f"{title}-{self._model}-{content}.safetensors" for title, content in contents.items()
        }
        self._notes: dict[str, str] = {}
        self._chunks = f"part-{self._model}-{_digest(contents)[:24]}"

    def load(self, progress: Progress | None) -> dict[str, Tensor]:
        """Read what is stored; embed and store the rest, while other processes that want the same wait."""
        found = self._read(self._warnings)
        if len(found) < len(self._sections):
            with self._locked() as writable:
                found |= self._read([])  # another process may have been faster
                if wanted := [section for section in self._sections if section.title not in found]:
                    found |= self._made(wanted, progress, writable=writable)
        self._warnings += [self._notes[section.title] for section in self._sections]
        return found

    def _made(self, wanted: Sequence[Section], progress: Progress | None, *, writable: bool) -> dict[str, Tensor]:
        """Embed sections, and store them where that is possible."""
        keep = self._keep_chunk if writable else None
        rows = _embedded(self._backbone, wanted, known=self._others(wanted), progress=progress, keep=keep)
        made = _gathered(wanted, rows, folder=texts_dir() if writable else None)
        self._notes |= {one.title: cut_note(one, self._backbone.cut_texts(one.texts())) for one in wanted}
        if writable:
            for one in wanted:
                stored = Stored(one.keys, made[one.title], self._notes[one.title])
                made[one.title] = self._keep(self._paths[one.title], stored).rows
            if all(self._paths[one.title].exists() for one in wanted):
                for path in cached_texts(f"{self._chunks}-*.safetensors"):
                    with contextlib.suppress(OSError):
                        path.unlink()
        return made

    def _read(self, warnings: list[str]) -> dict[str, Tensor]:
        """The sections whose files exist and are undamaged."""
        found = {}
        for section in self._sections:
            path = self._paths[section.title]
            try:
                stored = cache_files.read(path)
                if len(stored.rows) != len(section.names):
                    raise DamagedError("it holds other rows")
                found[section.title], self._notes[section.title] = stored.rows, stored.note
            except FileNotFoundError:
                continue
            except UNREADABLE as reason:
                warnings.append(f"cached texts {path.name} cannot be used and are rebuilt: {printable(str(reason))}")
        return found

    def _others(self, wanted: Sequence[Section]) -> list[Stored]:
        """The content of those other files of the model that hold any row of these sections."""
        sought, known = np.concatenate([section.keys for section in wanted]), list[Stored]()
        own = {self._paths[section.title] for section in wanted}
        for path in sorted({*cached_texts(f"*-{self._model}-*.safetensors")} - own):
            try:
                if np.isin(sought, cache_files.read(path, check=False).keys).any():
                    known.append(cache_files.read(path))
            except FileNotFoundError:
                continue
            except UNREADABLE as reason:
                self._warnings.append(f"cached texts {path.name} cannot be used: {printable(str(reason))}")
                with contextlib.suppress(OSError):
                    path.unlink()
        return known

    def _keep_chunk(self, chunk: Stored) -> Stored:
        name = hashlib.sha256(chunk.keys.tobytes()).hexdigest()[:24]
        return self._keep(texts_dir() / f"{self._chunks}-{name}.safetensors", chunk)

    def _keep(self, path: Path, stored: Stored) -> Stored:
        """Write a file and map it, so that its memory is free again; on failure it stays in memory."""
        try:
            cache_files.write(path, stored)
            return cache_files.read(path, check=False)
        except (ClipmkError, *UNREADABLE) as reason:
            self._not_kept(reason)
            return stored

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the vocabulary's lock; yields whether its files may be written."""
        with contextlib.ExitStack() as held:
            writable = True
            try:
                texts_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
                held.enter_context(file_lock(texts_dir() / f"{self._chunks}.lock", seconds=LOCK_SECONDS))
            except OSError as reason:  # a timeout is one
                self._not_kept(reason)
                writable = False
            yield writable

    def _not_kept(self, reason: Exception) -> None:
        self._warnings.append(f"embedded texts are not kept for the next time: {printable(str(reason))}")


def cut_note(section: Section, cut: Sequence[str], model: str = "the model") -> str:
    """A note on the texts of a section that are cut at the end of a model's context, if there are any."""
    if not cut:
        return ""
    noun = "class prompt" if section.title == "classes" else "descriptor"
    number, verb = counted(len(cut), noun), one_or_many(len(cut), "is", "are")
    shown = quoted(f"{cut[0][:80]} ..." if len(cut[0]) > 80 else cut[0])
    return f"{number} {verb} longer than the context of {model} and {verb} cut: {shown}"


def sections_of(vocabulary: Vocabulary) -> tuple[Section, ...]:
    """The matrices that are made of a vocabulary."""
    return (
        Section("classes", vocabulary.classes, vocabulary.templates),
        Section("descriptors", vocabulary.descriptors, (vocabulary.descriptor_template,)),
        Section("raw", vocabulary.descriptors, ("{}",)),
    )


def _embedded(
    backbone: Backbone,
    sections: Sequence[Section],
    *,
    known: Sequence[Stored] = (),
    progress: Progress | None = None,
    keep: Callable[[Stored], Stored] | None = None,
) -> Rows:
    """All rows of all sections: the known ones, and the others embedded about `CHUNK` texts at a time.

    Where there is more than one chunk, `keep` stores each and returns where its rows are now.
    """
    sources, keys = list(known), np.concatenate([section.keys for section in sections])
    missing = np.flatnonzero(Rows(sources).find(keys) < 0)
    starts = np.cumsum([0, *(len(section.names) for section in sections)])
    owners = np.searchsorted(starts, missing, side="right") - 1
    texts = np.array([len(section.templates) for section in sections])[owners]
    done = np.cumsum(texts)
    borders = [0, *(np.flatnonzero(np.diff((done - texts) // CHUNK)) + 1).tolist(), len(missing)]
    for first, last in itertools.pairwise(borders if len(missing) else []):
        chunk, whose = missing[first:last], owners[first:last]
        prompts = [
            sections[owner].prompts(row)
            for owner, row in zip(whose.tolist(), (chunk - starts[whose]).tolist(), strict=True)
        ]
        whole, stretch = len(chunk) == len(missing), (int(done[first] - texts[first]), int(done[last - 1]))
        report = progress if whole else _within(progress, *stretch, int(done[-1]))
        made = Stored(keys[chunk], _encoded(backbone, prompts, report))
        sources.append(made if whole or keep is None else keep(made))
    return Rows(sources)


def _within(progress: Progress | None, start: int, end: int, total: int) -> Progress | None:
    """The progress of a chunk as a stretch of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(start + (end - start) * done // of, total)


def _encoded(backbone: Backbone, prompts: Sequence[tuple[str, ...]], progress: Progress | None) -> Tensor:
    """Each row is normalise(mean over its texts of normalise(embedding)); every text is embedded once.

    Rows may be made of different numbers of texts.
    """
    index: dict[str, int] = {}
    numbers = [[index.setdefault(text, len(index)) for text in row] for row in prompts]
    embedded = backbone.encode_texts(list(index), progress=progress).detach().to("cpu", torch.float32)
    units = functional.normalize(embedded, dim=-1)
    rows = torch.empty(len(prompts), units.shape[1])
    for size in {len(row) for row in numbers}:
        here = [place for place, row in enumerate(numbers) if len(row) == size]
        texts = torch.tensor([numbers[place] for place in here])
        rows[here] = functional.normalize(units[texts].mean(dim=1), dim=-1)
    worst = float((rows.norm(dim=-1) - 1).abs().max())
    if not worst < 1e-3:  # written so that NaN fails too
        raise ModelError("the text encoder gives vectors that are not finite or have no length; try precision fp32")
    return rows


def _gathered(sections: Sequence[Section], rows: Rows, *, folder: Path | None = None) -> dict[str, Tensor]:
    """The matrices of all sections; large ones lie in files in `folder`."""
    found = {}
    for section in sections:
        keys = section.keys
        matrix = found[section.title] = _allocated(len(keys), rows.embed, folder)
        for start in range(0, len(keys), CHUNK):
            piece = slice(start, start + CHUNK)
            rows.copy(rows.find(keys[piece]), matrix.numpy()[piece])
    return found


def _allocated(rows: int, embed: int, folder: Path | None) -> Tensor:
    """An uninitialised float32 matrix; where it is large, in an unlinked file rather than in memory."""
    size = 4 * rows * embed
    if folder is not None and size >= LARGE:
        with contextlib.suppress(OSError, AttributeError), tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # fails now rather than with a signal when the disk is full
            return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=(rows, embed)))
    return torch.empty(rows, embed)


def _model_key(backbone: Backbone) -> list[object]:
    """Everything about a model that the numbers depend on."""
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
