"""Text encoding as a share of bare `encode_text`: `python tools/bench/texts.py`.

Bare is open_clip's own `model.encode_text` on the batches that `clipmk` makes, tokenized, sorted and cut to their
length beforehand, results thrown away. What `clipmk` is measured with begins at the texts: tokens, sorting, batches,
normalising, order restored. Both take turns, so that a busy machine slows both; the share is the median of the rounds.
Then how long a second start takes to read the bank of the same vocabulary. Its numbers are drawn, 512 for each text:
reading does not depend on them, and a base model needs minutes on a CPU to make real ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import clipmk
from clipmk.backbones.backbone import Backbone
from clipmk.backbones.base import Progress
from clipmk.records import ModelInfo
from clipmk.vocabulary.embeddings import load_bank
from clipmk.vocabulary.vocabulary import Vocabulary


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def batches(backbone: Backbone, texts: list[str]) -> list[Tensor]:
    """The batches that `clipmk` makes of texts, caught on their way into the tower."""
    encoder: Any = backbone._texts  # noqa: SLF001 - there is no other way to see them
    caught: list[Tensor] = []
    forward = encoder._forward  # noqa: SLF001

    def catch(tokens: Tensor) -> Tensor:
        caught.append(tokens)
        result: Tensor = forward(tokens)
        return result

    encoder._forward = catch  # noqa: SLF001
    backbone.encode_texts(texts)
    encoder._forward = forward  # noqa: SLF001
    return caught


class Bare:
    """open_clip's `encode_text` on prepared batches, the tower's constants cut to each length beforehand."""

    def __init__(self, backbone: Backbone, prepared: list[Tensor]) -> None:
        self._model: Any = backbone._texts._model  # noqa: SLF001
        self._tower: Any = self._model.text if hasattr(self._model, "text") else self._model
        self._prepared = prepared
        self._whole = self._tower.positional_embedding, self._tower.attn_mask
        self._cut = {
            length: (nn.Parameter(self._whole[0][:length], requires_grad=False), self._whole[1][:length, :length])
            for length in {batch.shape[1] for batch in prepared}
        }

    def __call__(self) -> None:
        """Run all batches."""
        with torch.inference_mode():
            for batch in self._prepared:
                self._tower.positional_embedding, self._tower.attn_mask = self._cut[batch.shape[1]]
                self._model.encode_text(batch)
        self._tower.positional_embedding, self._tower.attn_mask = self._whole


def compare(name: str, vocabulary: Vocabulary, count: int, rounds: int) -> None:
    """Print the share for one model."""
    backbone = clipmk.load(name, device="cpu")
    texts = list(vocabulary.descriptors[:: max(1, len(vocabulary.descriptors) // count)])
    bare = Bare(backbone, batches(backbone, texts))
    bare()
    pairs = [(seconds(bare), seconds(lambda: backbone.encode_texts(texts))) for _ in range(rounds)]
    share = statistics.median(one / other for one, other in pairs)
    speed = len(texts) / min(other for _, other in pairs)
    print(f"{name:20} {len(texts)} texts, best {speed:6.0f} a second; {share:5.3f} of bare encode_text", flush=True)


class Drawn(Backbone):
    """Stands for a text encoder: its embeddings are drawn."""

    def __init__(self, info: ModelInfo, embed: int = 512) -> None:
        self.info, self.device, self.dtype, self.text_fingerprint = info, torch.device("cpu"), torch.float32, ""
        self._embed = embed

    def cut_texts(self, texts: Iterable[str]) -> list[str]:
        """None: nothing is tokenized."""
        del texts
        return []

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Unit vectors, whatever the texts."""
        del batch_size, progress
        return nn.functional.normalize(torch.randn(len(texts), self._embed), dim=-1)


def second_start(vocabulary: Vocabulary, rounds: int) -> None:
    """Print how long a stored bank takes to read, from what the system has cached of the file."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMK_CACHE_DIR"] = folder
        encoder = Drawn(clipmk.load("embedded/vit-s8", device="cpu").info)
        load_bank(encoder, vocabulary)
        times = sorted(1_000 * seconds(lambda: load_bank(encoder, vocabulary)) for _ in range(rounds))
    print(
        f"bank of {len(vocabulary.classes)} classes and 2 x {len(vocabulary.descriptors)} descriptors of 512 numbers: "
        f"read in {statistics.median(times):.1f} ms (median), {times[0]:.1f} ms (best)"
    )


def main() -> None:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32:random", "embedded/vit-s8"])
    parser.add_argument("--vocab", default="imagenet")
    parser.add_argument("--texts", type=int, default=4_772)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vocabulary = clipmk.load_vocabulary(arguments.vocab)
    for name in arguments.models:
        compare(name, vocabulary, arguments.texts, arguments.rounds)
    second_start(vocabulary, 20)


if __name__ == "__main__":
    main()
