"""open_clip's tokenizer with a memory: each word is split into tokens once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipmk.backbones.library import loaded_tokenizer_classes

Tokenizer = Callable[[list[str]], Tensor]
"""Texts -> int64 (texts, context)."""

WORD_LIMIT = 2**17
"""Most words remembered; beyond it all are forgotten."""


def cached(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens, faster, where the tokenizer is open_clip's own; any other is returned as it is."""
    usable = type(tokenizer) in loaded_tokenizer_classes() and getattr(tokenizer, "reduction_fn", None) is None
    return CachedTokenizer(tokenizer) if usable else tokenizer


class CachedTokenizer:
    """open_clip's `SimpleTokenizer` (no reduction mask), word by word.

    tokens(text) = tokens(word 1) + tokens(word 2) + ...: no token of its pattern spans a space, and its clean-up
    (repair of encodings, HTML entities, runs of spaces, lower case) leaves alone or treats word by word whatever is
    printable ASCII without "&". Such texts are put together from remembered words; all others are tokenized whole.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64 (texts, context): start, tokens, end, then zeros; what is too long is cut before the end token."""
        context, end = int(self._tokenizer.context_length), self._tokenizer.eot_token_id
        rows = [self._tokens(text) for text in texts]
        for row in rows:
            if len(row) > context:
                row[context - 1 :] = [end]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        padded = np.zeros((len(rows), context), dtype=np.int64)
        padded[np.arange(context) < lengths[:, None]] = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64)
        return torch.from_numpy(padded)

    def _tokens(self, text: str) -> list[int]:
        row = [self._tokenizer.sot_token_id]
        if text.isascii() and text.isprintable() and "&" not in text:
            for word in text.split():
                row += self._known.get(word) or self._encode(word)
        else:
            row += self._tokenizer.encode(text)
        row.append(self._tokenizer.eot_token_id)
        return row

    def _encode(self, word: str) -> list[int]:
        if len(self._known) >= WORD_LIMIT:
            self._known.clear()
        tokens: list[int] = self._tokenizer.encode(word)
        self._known[word] = tokens
        return tokens
