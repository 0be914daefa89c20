"""open_clip's tokenizer with a memory: each word is split into tokens once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipmk.backbones.library import loaded_tokenizer_classes

Tokenizer = Callable[[list[str]], Tensor]
"""Texts -> int64 (texts, context)."""

WORD_LIMIT = 2**17
"""Most words remembered; beyond it all are forgotten."""


def cut_texts(tokenizer: Any, texts: Iterable[str]) -> list[str]:
    """The different texts whose ends a tokenizer leaves out, because they have more tokens than its context.

    None where the tokenizer takes no other `context_length` to compare with, as open_clip's do.
    """
    context = tokenizer([""]).shape[1]
    # a token has at least a byte; besides, there are two marks, and a blank that some put at the start
    long = list(dict.fromkeys(text for text in texts if len(text.encode("utf-8", "replace")) + 3 > context))
    if not long:
        return []
    try:
        tokens, marks = tokenizer(long, context_length=context + 1), tokenizer([""], context_length=context + 1)
    except TypeError:
        return []
    whole = torch.isin(tokens[:, context - 1], marks)
    return [text for text, fits in zip(long, whole.tolist(), strict=True) if not fits]


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

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """int64 (texts, context): start, tokens, end, then zeros; what is too long is cut before the end token."""
        context, end = context_length or int(self._tokenizer.context_length), self._tokenizer.eot_token_id
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
