"""The rows of an embedded vocabulary: which texts make them, and how they are made, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from clipmk.errors import ModelError
from clipmk.vocabulary.cache import Keys, Rows, keys_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.records import ModelInfo

CHUNK = 2**15
"""Texts that are embedded and held in memory at once."""

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


@dataclass(frozen=True, slots=True)
class Section:
    """What is stored together: matrices whose row i is the average over templates filled with name i."""

    names: tuple[str, ...]
    templates: Mapping[str, tuple[str, ...]]
    """Matrix name -> its templates."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each matrix."""
        return dict.fromkeys(self.templates, len(self.names))

    def prompts(self, row: int) -> tuple[str, ...]:
        """The texts whose embeddings make a row; rows are counted through all matrices."""
        matrix, name = divmod(row, len(self.names))
        return tuple(template.replace("{}", self.names[name]) for template in tuple(self.templates.values())[matrix])

    def keys(self) -> Keys:
        """Of all rows."""
        rows = len(self.templates) * len(self.names)
        return keys_of(map(self.prompts, range(rows)), rows)


Sections = Mapping[str, Section]
Source = tuple[Keys, Tensor]
"""Rows and what they are found by."""
Found = dict[str, dict[str, Tensor]]
"""Section name -> matrix name -> float32 (rows, embed), L2-normalised rows."""


@runtime_checkable
class TextEncoder(Protocol):
    """What of a backbone is needed here."""

    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    text_fingerprint: str
    """Differs where, with the same weights, texts have other embeddings."""

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int | None = ..., progress: Progress | None = ...
    ) -> Float[Tensor, "texts embed"]:
        """Embed texts in order: float32, L2-normalised."""


def made_rows(
    backbone: TextEncoder,
    sections: Sections,
    keys: Mapping[str, Keys],
    *,
    known: Sequence[Source] = (),
    progress: Progress | None = None,
    keep: Callable[[Keys, Tensor], Source] | None = None,
) -> Rows:
    """All rows of all sections: those that are known, and the others embedded, `CHUNK` texts at a time.

    Where there is more than one chunk, `keep` puts the rows of each away and says where they are now.
    """
    sources, rows = list(known), Rows(known)
    chunks = list(_chunks({name: (one, rows.find(keys[name]).missing) for name, one in sections.items()}))
    total = sum(piece.texts for chunk in chunks for piece in chunk)
    done = 0
    for chunk in chunks:
        size = sum(piece.texts for piece in chunk)
        tell = progress if len(chunks) == 1 else _within(progress, done, size, total)
        prompts = [sections[piece.section].prompts(row) for piece in chunk for row in piece.rows.tolist()]
        made = (
            np.concatenate([keys[piece.section][piece.rows] for piece in chunk]),
            _embedded(backbone, prompts, tell),
        )
        sources.append(keep(*made) if keep is not None and len(chunks) > 1 else made)
        done += size
    return Rows(sources)


class _Piece(NamedTuple):
    """Some rows of one matrix, to be embedded."""

    section: str
    per_row: int
    """Texts that each row is made of."""
    rows: NDArray[np.int64]

    @property
    def texts(self) -> int:
        return self.per_row * len(self.rows)


def _chunks(missing: Mapping[str, tuple[Section, NDArray[np.int64]]]) -> Iterator[list[_Piece]]:
    """Rows of about `CHUNK` texts at a time, in order."""
    chunk: list[_Piece] = []
    room = CHUNK
    for name, (section, every) in missing.items():
        for matrix, templates in enumerate(section.templates.values()):
            rows = every[every // len(section.names) == matrix]
            while len(rows):
                piece = _Piece(name, len(templates), rows[: max(1, room // len(templates))])
                chunk.append(piece)
                rows, room = rows[len(piece.rows) :], room - piece.texts
                if room < len(templates):
                    yield chunk
                    chunk, room = [], CHUNK
    if chunk:
        yield chunk


def _within(progress: Progress | None, start: int, size: int, total: int) -> Progress | None:
    """What a chunk reports, as a stretch of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(start + size * done // of, total)


def _embedded(
    backbone: TextEncoder, prompts: Sequence[tuple[str, ...]], progress: Progress | None
) -> Float[Tensor, "rows embed"]:
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


def in_memory(sections: Sections, keys: Mapping[str, Keys], rows: Rows) -> Found:
    """The matrices of all sections, gathered; torch allocates them, so that they are aligned as those in files."""
    found: Found = {}
    for name, section in sections.items():
        found[name] = {}
        for matrix, its_keys in zip(section.templates, np.split(keys[name], len(section.templates)), strict=True):
            start, whole = 0, torch.empty(0)
            for piece in rows.pieces(its_keys):
                whole = torch.empty(len(its_keys), piece.shape[1]) if not start else whole
                whole[start : start + len(piece)] = torch.from_numpy(piece)
                start += len(piece)
            found[name][matrix] = whole
    return found
