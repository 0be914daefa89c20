"""Tokens without the price of making them: the words of open_clip's tokenizer, each split once and remembered."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Tokenizer = Callable[[list[str]], Tensor]
"""Texts -> int64 (texts, context)."""

MOST_WORDS = 2**17
"""Words remembered; beyond it the memory starts anew."""


def quick(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens, sooner, where the tokenizer is open_clip's own; any other is given back as it is."""
    library = sys.modules.get("open_clip")  # not imported, it has made no tokenizer; importing it takes a second
    own = None if library is None else library.SimpleTokenizer
    usable = type(tokenizer) is own and getattr(tokenizer, "reduction_fn", None) is None
    return Words(tokenizer) if usable else tokenizer


class Words:
    """open_clip's `SimpleTokenizer` (no reduction mask), word by word.

    tokens(text) = tokens(word 1) + tokens(word 2) + ...: no token of its pattern spans a space, and its clean-up
    (repair of encodings, HTML entities, runs of spaces, lower case) leaves alone or treats word by word whatever is
    printable ASCII without "&". Such texts are put together from remembered words, all others are tokenized whole.
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
                row += self._known.get(word) or self._learnt(word)
        else:
            row += self._tokenizer.encode(text)
        row.append(self._tokenizer.eot_token_id)
        return row

    def _learnt(self, word: str) -> list[int]:
        if len(self._known) >= MOST_WORDS:
            self._known.clear()
        tokens: list[int] = self._tokenizer.encode(word)
        self._known[word] = tokens
        return tokens
