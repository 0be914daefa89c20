"""The text half of a backbone: texts in batches of one length, as large as fits, and a tokenizer with a memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clipmk.backbones.base import without_tokens
from clipmk.backbones.library import loaded_tokenizer_classes
from clipmk.system.memory import is_out_of_memory

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from clipmk.backbones.base import Progress

Tokenizer = Callable[[list[str]], Tensor]  # texts -> int64 (texts, context)
WORD_LIMIT = 2**17  # most words remembered; beyond it all are forgotten

CPU_TOKENS = 1_024
"""Tokens of a batch per CPU thread: larger batches are not faster, and cancelling takes longer."""
GPU_TOKENS = 2**17  # most tokens of a batch on an accelerator, which is saturated by then
ACTIVATIONS = 16
"""Activations of a token within a block, in widths of the tower: residual, queries, keys, values, MLP."""
FILL = 8  # fewest texts of a batch per CPU thread, see `TextEncoder`


class TextEncoder:
    """A text tower with its tokenizer.

    A native causal tower reads the embedding at the end-of-text token, which attends to nothing after it: cutting a
    batch there changes nothing (4e-6) and saves most of the work, because descriptors are short. Towers that attend to
    the padding (SigLIP), pool elsewhere (CoCa) or come from `transformers` always run in full.

    The texts of a batch have one length, so nothing is padded, and a batch holds at most `budget` tokens: set from the
    free memory of the device, halved when that runs out. Nothing is read back between batches.

    On a CPU a text's embedding does not depend, to the last bit, on the other texts of its batch: a row of a matrix
    product has the same bits whatever the other rows are, unless there are so few that another routine is chosen, which
    is why small batches are filled up with repetitions. This was measured (MKL, one and two threads) and is not
    guaranteed; on a GPU it does not hold.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = cached(tokenizer)
        self._tower = model.text if hasattr(model, "text") else model
        self.trims = _is_causal(self._tower)
        self.budget = 0  # most tokens of a batch; 0 before the first text is embedded

    def encode(
        self, texts: Sequence[str], *, device: torch.device, progress: Progress | None
    ) -> Float[Tensor, "texts embed"]:
        """Embed texts in the order given, equal ones once; float32, L2-normalised. One text must fit into memory."""
        different = dict.fromkeys(texts)
        tokens = self._tokenizer(list(different))
        lengths, order = self._lengths(tokens).sort(stable=True)
        tokens = tokens[order][:, : int(lengths[-1])]
        if device.type == "cuda":
            tokens = tokens.pin_memory().to(device, non_blocking=True)
            order = order.pin_memory().to(device, non_blocking=True)
        self.budget = self.budget or self._fitting(device)
        embedded, start = torch.empty(0), 0
        for length, count in zip(*np.unique(lengths.numpy(), return_counts=True), strict=True):
            end = start + int(count)
            while start < end:
                raw = self._largest(tokens[start:end, : int(length)], device)
                if start == 0:
                    embedded = torch.empty(len(different), raw.shape[1], device=device)
                embedded[order[start : start + len(raw)]] = normalize(raw.float(), dim=-1)
                start += len(raw)
                if progress is not None:
                    progress(start, len(different))
        if len(different) == len(texts):
            return embedded
        place = {text: row for row, text in enumerate(different)}
        return embedded[[place[text] for text in texts]]

    def cut(self, texts: Iterable[str]) -> list[str]:
        """The different texts that are longer than the context; their ends are not embedded."""
        return cut_texts(self._tokenizer, texts)

    def _largest(self, tokens: Int[Tensor, "texts length"], device: torch.device) -> Float[Tensor, "first embed"]:
        """Embed the first texts, as many as a batch holds; running out of memory halves this and all later batches."""
        count, length = tokens.shape
        while True:
            most = max(1, self.budget // length)
            batch = tokens[:most]
            fewest = min(most, FILL * torch.get_num_threads()) if device.type == "cpu" else 1
            if len(batch) < fewest:
                batch = batch[torch.arange(fewest) % len(batch)]
            try:
                return self._forward(batch.to(device))[:most][:count]
            except (RuntimeError, MemoryError) as reason:
                if not is_out_of_memory(reason) or len(batch) == 1:
                    raise
            self.budget = len(batch) // 2 * length
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def _forward(self, tokens: Int[Tensor, "texts length"]) -> Float[Tensor, "texts embed"]:
        return self._trimmed(tokens) if self.trims else without_tokens(self._model.encode_text(tokens))

    def _fitting(self, device: torch.device) -> int:
        """First budget: tokens whose activations take a quarter of the device's free memory."""
        if device.type != "cuda":
            return CPU_TOKENS * torch.get_num_threads()
        width = max((parameter.shape[-1] for parameter in self._tower.parameters() if parameter.ndim), default=1)
        free, _ = torch.cuda.mem_get_info(device)
        return int(max(1, min(GPU_TOKENS, free // 4 // (4 * ACTIVATIONS * width))))

    def _lengths(self, tokens: Int[Tensor, "texts context"]) -> Int[Tensor, " texts"]:
        """Tokens of each text that the tower must read: up to the end-of-text token, or all."""
        if not self.trims:
            return torch.full((len(tokens),), tokens.shape[1])
        if _pool_type(self._tower) == "eos":
            eos_id = getattr(self._tower, "text_eos_id", getattr(self._tower, "eos_id", -1))
            return (tokens == int(eos_id)).int().argmax(dim=-1) + 1
        return tokens.argmax(dim=-1) + 1

    def _trimmed(self, tokens: Int[Tensor, "texts length"]) -> Float[Tensor, "texts embed"]:
        """What open_clip's CLIP.encode_text and TextTransformer.forward compute, read at the last position."""
        tower, length = self._tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        pooled: Tensor = tower.ln_final(x[:, -1])
        projection = tower.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return projected


def _pool_type(tower: Any) -> str:
    return str(getattr(tower, "text_pool_type", getattr(tower, "pool_type", "")))


def _is_causal(tower: Any) -> bool:
    needed = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    mask = getattr(tower, "attn_mask", None)
    return (
        all(hasattr(tower, name) for name in needed)
        and isinstance(mask, Tensor)
        and bool(torch.isneginf(mask).triu(1).equal(torch.ones_like(mask).triu(1).bool()))
        and getattr(tower, "cls_emb", None) is None
        and not getattr(tower, "use_pad_mask", False)
        and _pool_type(tower) in {"argmax", "eos"}
    )


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
