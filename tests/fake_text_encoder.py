"""A text encoder of a few lines that counts what it is asked, for tests of what is kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipmk.backbones.backbone import Backbone
from clipmk.records import ModelInfo
from clipmk.vocabulary.embeddings import TextBank
from clipmk.vocabulary.vocabulary import Vocabulary

FARM = Vocabulary(
    name="farm",
    classes=("hen", "barn owl", "cat"),
    templates=("a photo of a {}.", "art of the {}.", "{}"),
    descriptors=("a red comb", "cat", "a small beak", "round eyes"),
)
"""The descriptor "cat" is also the prompt of a class: it is to be embedded once."""

GROWN = replace(
    FARM, name="grown", descriptors=("a long tail", *FARM.descriptors[::-1], *(f"tail {i}" for i in range(9)))
)
"""FARM and ten descriptors more, in another order."""

MATRICES = ("classes", "descriptors", "raw")
"""Of a `TextBank`."""


def banks(folder: Path) -> list[Path]:
    """The files of embedded texts, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def same(one: TextBank, other: TextBank) -> bool:
    """Whether they hold the same numbers, to the bit."""
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in MATRICES)


def tokenize(texts: Sequence[str]) -> Tensor:
    """int64 (texts, 40): character codes, 0 behind the end."""
    rows = torch.zeros(len(texts), 40, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        codes = [ord(character) % 128 for character in text[:40]]
        row[: len(codes)] = torch.tensor(codes)
    return rows


class TinyText(nn.Module):
    """A text tower with open_clip's method, depending on the order of the characters."""

    def __init__(self, seed: int = 0, activation: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.characters = nn.Parameter(torch.randn(128, 16, generator=draw))
        self.positions = nn.Parameter(torch.randn(40, 16, generator=draw))
        self.activation = activation

    def encode_text(self, tokens: Tensor, *, normalize: bool = False) -> Tensor:
        embedded = self.activation(self.characters[tokens] * self.positions).mean(dim=1)
        return functional.normalize(embedded, dim=-1) if normalize else embedded


@dataclass
class FakeBackbone(Backbone):
    weights: str = "w"
    architecture: str = "tiny"
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    text_fingerprint: str = ""
    model: TinyText = field(default_factory=TinyText)
    seconds: float = 0.0
    asked: list[list[str]] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            id="fake",
            family="vit",
            weights_sha256=self.weights,
            architecture=self.architecture,
            pretrained=None,
            input_size=32,
        )

    def cut_texts(self, texts: Iterable[str]) -> list[str]:
        return [text for text in texts if len(text) > 40]

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        self.asked.append(list(texts))
        time.sleep(self.seconds)
        if progress is not None:
            progress(len(texts), len(texts))
        with torch.inference_mode():
            return self.model.encode_text(tokenize(texts), normalize=True)
