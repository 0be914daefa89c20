"""Digests that identify a model: of its weights, and of all else that decides how it embeds a text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipmk.errors import UsageError

if TYPE_CHECKING:
    from clipmk.backbones.tokenizer import Tokenizer
    from clipmk.models.spec import ModelSpec

_PROBES = (
    "a photo of a probe",
    "Ünï-cøde, 1999; it's",
    "the quick brown fox jumps over the lazy dog",
    "Café & Bär <b>",
)
"""Texts whose tokens identify a caller's tokenizer."""
_TOKENIZER_FILES = ("*token*.json", "vocab.*", "merges.txt", "*.model")
"""Files in which tokenizers of `transformers` are stored."""


def file_sha256(*paths: Path) -> str:
    """Hexadecimal SHA-256 of a file, or of the digests of several."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def module_sha256(model: nn.Module) -> str:
    """Hexadecimal SHA-256 over a module's parameters and buffers in the order of its state_dict."""
    digest = hashlib.sha256()
    state: dict[str, Any] = model.state_dict()
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def text_fingerprint(spec: ModelSpec | None, tokenizer: Tokenizer | None) -> str:
    """See `Backbone.text_fingerprint`.

    Args:
        spec: None for a module in memory.
        tokenizer: only where the caller brings one.

    Raises:
        UsageError: the caller's tokenizer does not give tokens.
    """
    known: list[object] = []
    if spec is not None:
        config = {name: value for name, value in spec.config.items() if name != "vision_cfg"}
        known += [config, spec.quick_gelu, spec.bpe and file_sha256(spec.bpe)]
        if spec.folder is not None and config["text_cfg"].get("hf_tokenizer_name"):
            files = sorted({path for pattern in _TOKENIZER_FILES for path in spec.folder.glob(pattern)})
            known += [[path.name, file_sha256(path)] for path in files]
    if tokenizer is not None:
        known.append([_tokens(tokenizer, text) for text in _PROBES])
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _tokens(tokenizer: Tokenizer, text: str) -> list[Any]:
    tokens = tokenizer([text])
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        raise UsageError(f"tokenizer gives {tokens!r:.80}; it must give an int64 tensor (texts, context)")
    return tokens.tolist()
