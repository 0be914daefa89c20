"""Tokens without the price of making them: the words of open_clip's tokenizer, each split once and remembered."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipmk.models import catalog

Tokenizer = Callable[[list[str]], Tensor]
"""Texts -> int64 (texts, context)."""

_ALONE = f"{__name__}.open_clip_tokenizer"
"""What open_clip's tokenizer is called where it was imported alone."""

MOST_WORDS = 2**17
"""Words remembered; beyond it the memory starts anew."""


def simple_tokenizer() -> Any:
    """open_clip's class `SimpleTokenizer`, without importing open_clip for it.

    Importing open_clip takes longer than importing torch (docs/performance.md), and its tokenizer needs none of it: the
    module is run by itself, from the installed file and under a name of ours, unless open_clip is here already.
    """
    known = _own_classes()
    return known[0] if known else _alone()


def quick(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens, sooner, where the tokenizer is open_clip's own; any other is given back as it is."""
    usable = type(tokenizer) in _own_classes() and getattr(tokenizer, "reduction_fn", None) is None
    return Words(tokenizer) if usable else tokenizer


def _own_classes() -> list[type]:
    """`SimpleTokenizer` of open_clip and of its tokenizer alone, as far as they have been imported."""
    modules = (sys.modules.get(name) for name in ("open_clip", _ALONE))
    return [found for module in modules if (found := getattr(module, "SimpleTokenizer", None))]


def _alone() -> Any:
    try:
        module = _tokenizer_module()
    except (ImportError, OSError):  # a release whose tokenizer stands elsewhere, or needs more of it
        return catalog.open_clip().SimpleTokenizer
    return sys.modules.setdefault(_ALONE, module).SimpleTokenizer  # another thread may have been faster


def _tokenizer_module() -> ModuleType:
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    spec = importlib.util.spec_from_file_location(_ALONE, Path(package.origin).with_name("tokenizer.py"))
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'open_clip.tokenizer'", name="open_clip.tokenizer")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
