"""Inside a forward: attention and feature maps, and the gradients by them, for maps by other methods than ours.

Everything goes through `ImageEncoder.blocks` and `stages`; see `concepts.relevance` for what the numbers become.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clipmk.backbones.attention import view
from clipmk.backbones.base import ImageEncoder, captured, with_output
from clipmk.backbones.encoders import as_module
from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float

Tensors = list[Tensor]


def attention_gradients(
    encoder: ImageEncoder, pixels: Float[Tensor, "1 3 side side"], texts: Float[Tensor, "texts embed"]
) -> tuple[Tensors, Tensors]:
    """Of each block the attention (heads, tokens, tokens), and the gradients (texts, heads, tokens, tokens) by it.

    The gradients are those of the cosine of each text with what the model reads out of the block's tokens, as it reads
    its last block. An encoder without blocks has none.
    """
    attention: Tensors = []
    with torch.enable_grad():
        with captured(*encoder.blocks) as calls, _attending(encoder.blocks, attention):
            encoder.embed(pixels)
        read = [_read_out(encoder, pixels, call.output) @ texts.T for call in calls]
        gradients = [_gradients(cosines[0], one) for cosines, one in zip(read, attention, strict=True)]
    return [one.detach()[0] for one in attention], [one[:, 0] for one in gradients]


def stage_gradients(
    encoder: ImageEncoder, pixels: Float[Tensor, "1 3 side side"], texts: Float[Tensor, "texts embed"]
) -> tuple[Tensors, Tensors]:
    """Of each stage its map (channels, rows, columns), and the gradients (texts, channels, rows, columns) by it.

    The gradients are those of the cosine of each text with the image. An encoder without stages has none.
    """
    with torch.enable_grad(), captured(*encoder.stages) as calls:
        handles = [stage.register_forward_hook(lambda *call: _leaf(call[-1])) for stage in encoder.stages[:1]]
        try:
            cosines = normalize(encoder.embed(pixels).float(), dim=-1) @ texts.T
        finally:
            for handle in handles:
                handle.remove()
        maps = [call.output for call in calls]
        gradients = [_gradients(cosines[0], one) for one in maps]
    return [one.detach()[0] for one in maps], [one[:, 0] for one in gradients]


@contextmanager
def _attending(blocks: Sequence[Any], attention: Tensors) -> Iterator[None]:
    """Compute softmax(q k^T / sqrt(d)) v of every block openly, and keep the softmax, which then has gradients."""

    def attend(module: nn.Module, args: tuple[Tensor, ...], keywords: dict[str, Any], _output: Any) -> Any:
        if keywords.get("rope") is not None:
            raise ModelError("attention with rotary positions is not opened up for its gradients")
        opened, tokens = view(module), args[0]
        queries, keys = opened.queries(tokens), opened.keys(opened.raw_keys(tokens), None)
        attention.append(_leaf((queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(dim=-1)))
        return as_module(module, opened.merge(attention[-1] @ opened.values(tokens), tokens))

    with ExitStack() as hooks:
        for block in blocks:
            hooks.callback(block.attn.register_forward_hook(attend, with_kwargs=True).remove)
        yield


def _read_out(
    encoder: ImageEncoder, pixels: Tensor, outputs: Float[Tensor, "batch tokens width"]
) -> Float[Tensor, "batch embed"]:
    """What the model embeds if its last block gives these tokens; L2-normalised."""
    with with_output(encoder.blocks[-1], outputs):
        return normalize(encoder.embed(pixels).float(), dim=-1)


def _leaf(values: Tensor) -> Tensor:
    return values if values.requires_grad else values.requires_grad_()


def _gradients(cosines: Float[Tensor, " texts"], by: Tensor) -> Tensor:
    return torch.stack([torch.autograd.grad(cosine, by, retain_graph=True)[0] for cosine in cosines])
