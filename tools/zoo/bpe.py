"""A small byte-pair vocabulary in the format of open_clip's `SimpleTokenizer`.

The stock 49,408 tokens would be nine tenths of a small model's file.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

Symbols = tuple[str, ...]


def train(texts: Iterable[str], *, merges: int) -> list[tuple[str, str]]:
    """Learn `merges` byte-pair merges, most frequent pair first (ties: alphabetical), as in Sennrich et al. 2016."""
    words: Counter[Symbols] = Counter()
    for text in texts:
        for word in re.findall(r"[a-z]+|[^\sa-z]+", text.lower()):
            words[(*word[:-1], word[-1] + "</w>")] += 1
    learned: list[tuple[str, str]] = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        words = _apply(words, best)
    return learned


def _apply(words: Counter[Symbols], pair: tuple[str, str]) -> Counter[Symbols]:
    merged: Counter[Symbols] = Counter()
    for word, count in words.items():
        out: list[str] = []
        for symbol in word:
            if out and (out[-1], symbol) == pair:
                out[-1] += symbol
            else:
                out.append(symbol)
        merged[tuple(out)] += count
    return merged


def write(merges: list[tuple[str, str]], path: Path) -> None:
    """Write merges as `SimpleTokenizer` reads them: gzip, one header line, a pair per line. Same merges, same bytes."""
    lines = ["#version: clipmk", *(" ".join(pair) for pair in merges)]
    path.write_bytes(gzip.compress(("\n".join(lines)).encode(), mtime=0))


def vocabulary_size(merges: list[tuple[str, str]]) -> int:
    """512 byte symbols (plain and word-final), one per merge, start and end of text."""
    return 512 + len(merges) + 2
