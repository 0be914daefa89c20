"""Embedded vocabularies: made once per model and texts, kept on disk, memory-mapped afterwards.

Two files per model and vocabulary, one for the classes and one for the descriptors, so that other classes keep the
descriptors' file. Each is a safetensors file named after all that its numbers depend on; its header carries the format
version and the SHA-256 of the numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from clipmk.errors import ClipmkError, ModelError
from clipmk.files import atomic_write
from clipmk.locations import CacheInfo, cache_info, clear_cache, texts_dir
from clipmk.text import printable

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.records import ModelInfo
    from clipmk.vocabulary import Vocabulary

__all__ = ["CacheInfo", "TextBank", "TextEncoder", "cache_info", "clear_cache", "load_bank"]

FORMAT = "clipmk-texts-1"
"""Version of the cached files; another one is never read."""

ALIGNMENT = 64
"""Bytes: torch's own alignment on a CPU, a cache line."""

LOCK_SECONDS = 600.0
"""Longest wait for another process that embeds the same texts."""

PROBE = "a photo of a probe"
"""Embedded to tell modules in memory apart: equal weights can still differ in activation or tokenizer."""

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

Rows = Mapping[str, tuple[tuple[str, ...], ...]]
"""Matrix name -> for each of its rows the texts whose embeddings are averaged."""

Matrices = dict[str, Tensor]
"""Matrix name -> float32 (rows, embed), L2-normalised rows."""


@runtime_checkable
class TextEncoder(Protocol):
    """What of a backbone is needed here."""

    info: ModelInfo
    device: torch.device
    dtype: torch.dtype

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int = ..., progress: Progress | None = ...
    ) -> Float[Tensor, "texts embed"]:
        """Embed texts in order: float32, L2-normalised."""


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
    """Embed a vocabulary, or read it from the cache; every text is embedded once.

    A damaged or unusable cache costs time, never the result: `TextBank.warnings` says so.

    Args:
        backbone: Encodes the texts that are not cached.
        vocabulary: Classes, templates and descriptors.
        cache: Whether to read and write the cache.
        progress: Passed on to the backbone.

    Returns:
        On the CPU, memory-mapped where it was cached.

    Raises:
        ModelError: the text encoder gives vectors that are not finite or have no length.
    """
    sections = _sections(vocabulary)
    warnings: list[str] = []
    matrices = _cached(backbone, sections, warnings, progress) if cache else _embed(backbone, sections, progress)
    classes, descriptors = matrices["classes"], matrices["descriptors"]
    return TextBank(
        classes=classes["classes"],
        descriptors=descriptors["descriptors"],
        raw=descriptors["raw"],
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _sections(vocabulary: Vocabulary) -> dict[str, Rows]:
    """What is stored together, by name."""
    return {
        "classes": {"classes": vocabulary.class_prompts},
        "descriptors": {
            "descriptors": tuple((text,) for text in vocabulary.descriptor_prompts),
            "raw": tuple((text,) for text in vocabulary.descriptors),
        },
    }


def _cached(
    backbone: TextEncoder, sections: Mapping[str, Rows], warnings: list[str], progress: Progress | None
) -> dict[str, Matrices]:
    """Read what is stored; embed and store the rest, while other processes that want the same wait."""
    model = _model_key(backbone)
    paths = {
        name: texts_dir() / f"{name}-{_digest([FORMAT, model, name, rows])}.safetensors"
        for name, rows in sections.items()
    }
    found = _read_all(paths, sections, warnings)
    missing = {name: path for name, path in paths.items() if name not in found}
    if not missing:
        return found
    with _locked(list(missing.values()), warnings) as writable:
        found |= _read_all(missing, sections, [])  # another process may have been faster
        made = _embed(backbone, {name: rows for name, rows in sections.items() if name not in found}, progress)
        if writable:
            for name, matrices in made.items():
                _write(paths[name], matrices, warnings)
    return found | made


def _embed(backbone: TextEncoder, sections: Mapping[str, Rows], progress: Progress | None) -> dict[str, Matrices]:
    """Embed each text of all sections once and average it into its rows."""
    every = (text for rows in sections.values() for matrix in rows.values() for row in matrix for text in row)
    index = {text: number for number, text in enumerate(dict.fromkeys(every))}
    if not index:
        return {}
    embedded = backbone.encode_texts(list(index), progress=progress).detach().to("cpu", torch.float32)
    return {
        name: {key: _averaged(embedded, matrix, index) for key, matrix in rows.items()}
        for name, rows in sections.items()
    }


def _averaged(
    embedded: Float[Tensor, "texts embed"], matrix: tuple[tuple[str, ...], ...], index: Mapping[str, int]
) -> Float[Tensor, "rows embed"]:
    """Each row is normalise(mean over its texts of normalise(embedding))."""
    texts = torch.tensor([[index[text] for text in row] for row in matrix])
    rows = functional.normalize(functional.normalize(embedded, dim=-1)[texts].mean(dim=1), dim=-1)
    worst = float((rows.norm(dim=-1) - 1).abs().max())
    if not worst < 1e-3:  # written so that NaN fails too
        raise ModelError("the text encoder gives vectors that are not finite or have no length; try precision fp32")
    return rows


def _model_key(backbone: TextEncoder) -> list[object]:
    """All of a model that the numbers depend on."""
    info = backbone.info
    key: list[object] = [
        info.weights_sha256,
        info.architecture,
        info.pretrained,
        str(backbone.dtype),
        backbone.device.type,
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


def _write(path: Path, matrices: Matrices, warnings: list[str]) -> None:
    try:
        with atomic_write(path) as handle:
            handle.write(_serialised(matrices))
    except ClipmkError as reason:
        warnings.append(f"embedded texts are not kept for the next time: {reason}")


def _serialised(matrices: Matrices) -> bytes:
    """The file's bytes, with the header filled up so that the numbers start where torch would put them in memory.

    A product of the same numbers differs in its last bit with their place relative to a cache line; so a first run
    (numbers in memory) and a second one (numbers mapped from the file) would print different digits.
    """
    header = {"format": FORMAT, "sha256": _payload_sha256(matrices), "fill": ""}
    data = save(matrices, metadata=header)
    offset = 8 + int.from_bytes(data[:8], "little")
    header["fill"] = "-" * (-offset % ALIGNMENT)
    return bytes(save(matrices, metadata=header))


def _read_all(paths: Mapping[str, Path], sections: Mapping[str, Rows], warnings: list[str]) -> dict[str, Matrices]:
    """The sections whose files exist and are sound."""
    found = {}
    for name, path in paths.items():
        try:
            found[name] = _read(path, sections[name])
        except FileNotFoundError:
            continue
        except (OSError, SafetensorError, ValueError) as reason:
            warnings.append(f"cached texts {path.name} cannot be used and are made anew: {printable(str(reason))}")
    return found


def _read(path: Path, rows: Rows) -> Matrices:
    """Memory-map a stored section; the sum over its numbers is checked each time (milliseconds)."""
    with safe_open(path, framework="pt") as stored:
        header = stored.metadata() or {}
        if header.get("format") != FORMAT or set(stored.keys()) != set(rows):
            raise ValueError("it is of another format")
        matrices = {name: stored.get_tensor(name) for name in rows}
    if any(len(matrices[name]) != len(rows[name]) for name in rows) or header.get("sha256") != _payload_sha256(
        matrices
    ):
        raise ValueError("its numbers are not those that were written")
    return matrices


def _payload_sha256(matrices: Matrices) -> str:
    total = hashlib.sha256()
    for name in sorted(matrices):
        total.update(f"{name} {matrices[name].dtype} {tuple(matrices[name].shape)}".encode())
        total.update(matrices[name].contiguous().numpy().data)
    return total.hexdigest()
