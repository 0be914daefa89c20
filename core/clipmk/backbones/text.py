"""The text half of a backbone: tokens, batches sorted by length, trimmed where trimming is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from clipmk.backbones.base import Progress

Tokenizer = Callable[[list[str]], Tensor]
"""Texts -> int64 (texts, context)."""


class TextEncoder:
    """A text tower with its tokenizer.

    A native causal tower reads the embedding at the end-of-text token, which sees nothing behind it: cutting a batch
    after its last end-of-text token changes nothing (4e-6) and saves most of the work, because descriptors are short.
    Towers that see the padding (SigLIP), pool elsewhere (CoCa) or come from `transformers` always run in full.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._tower = model.text if hasattr(model, "text") else model
        self.trims = _is_causal(self._tower)

    def encode(
        self, texts: Sequence[str], *, device: torch.device, batch_size: int, progress: Progress | None
    ) -> Float[Tensor, "texts embed"]:
        """Embed texts in the order given, equal ones once; float32, L2-normalised."""
        different = list(dict.fromkeys(texts))
        tokens = self._tokenizer(different)
        lengths = self._ends(tokens) + 1
        order = lengths.argsort(stable=True)
        rows: list[Tensor] = []
        for start in range(0, len(different), batch_size):
            chosen = order[start : start + batch_size]
            batch = tokens[chosen].to(device)
            raw = (
                self._trimmed(batch[:, : int(lengths[chosen].max())]) if self.trims else self._model.encode_text(batch)
            )
            rows.append(normalize(raw.float(), dim=-1))
            if progress is not None:
                progress(min(start + batch_size, len(different)), len(different))
        sorted_embeddings = torch.cat(rows)
        place = {text: int(row) for text, row in zip(different, order.argsort(), strict=True)}
        return sorted_embeddings[[place[text] for text in texts]]

    def _ends(self, tokens: Int[Tensor, "texts context"]) -> Int[Tensor, " texts"]:
        """Index of the token that the embedding is read from."""
        if _pool_type(self._tower) == "eos":
            return (tokens == _eos_id(self._tower)).int().argmax(dim=-1)
        return tokens.argmax(dim=-1)

    def _trimmed(self, tokens: Int[Tensor, "texts length"]) -> Float[Tensor, "texts embed"]:
        """The forward of open_clip's CLIP.encode_text and TextTransformer.forward, on fewer positions."""
        tower, length = self._tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        pooled: Tensor = x[torch.arange(len(tokens), device=tokens.device), self._ends(tokens)]
        projection = tower.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return projected


def _pool_type(tower: Any) -> str:
    return str(getattr(tower, "text_pool_type", getattr(tower, "pool_type", "")))


def _eos_id(tower: Any) -> int:
    return int(getattr(tower, "text_eos_id", getattr(tower, "eos_id", -1)))


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
