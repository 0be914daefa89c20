"""The last attention of an image encoder: its keys, and the row of its query."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from backbone_zoo import VISION, masks_for, pixels_for
from clipmk.errors import ModelError

torch.set_num_threads(1)

KEYED = [kind for kind in VISION if kind.startswith(("vit", "coca", "siglip", "timm-", "eva", "perception"))]
QUERIED = ["vit", "vit-layer-scale", "vit-custom-block", "coca", "resnet", "siglip", "timm-vit", "eva", "perception"]


@pytest.mark.parametrize("kind", KEYED)
def test_keys_are_the_key_projection_of_the_last_attention_with_its_bias(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels, visual = pixels_for(backbone), plain.visual
    native = hasattr(visual, "transformer")
    block = visual.transformer.resblocks[-1] if native else visual.trunk.blocks[-1]
    seen: dict[str, Tensor] = {}
    hook = block.attn.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    with torch.no_grad():
        plain.encode_image(pixels)
        hook.remove()
        width = seen["x"].shape[-1]
        if native:
            keys = (
                seen["x"] @ block.attn.in_proj_weight[width : 2 * width].T + block.attn.in_proj_bias[width : 2 * width]
            )
        elif block.attn.qkv is None:
            keys = block.attn.k_proj(seen["x"])
        else:  # EVA has no key bias
            keys = seen["x"] @ block.attn.qkv.weight[width : 2 * width].T
            keys = keys if block.attn.qkv.bias is None else keys + block.attn.qkv.bias[width : 2 * width]
    encoded = backbone.encode_with_patches(pixels, features="keys")
    prefix = seen["x"].shape[1] - encoded.patches.shape[1]
    torch.testing.assert_close(encoded.patches, keys[:, prefix:], atol=1e-5, rtol=1e-5)
    ordinary = backbone.encode_with_patches(pixels)
    assert not torch.allclose(encoded.patches, ordinary.patches, atol=1e-2)
    weights = masks_for(encoded.patches.shape[1])
    torch.testing.assert_close(
        backbone.pool_regions(encoded, weights), backbone.pool_regions(ordinary, weights), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("kind", ["resnet", "convnext"])
def test_encoders_without_keys_refuse_them(zoo: Any, kind: str) -> None:
    backbone, _ = zoo(kind)
    assert not backbone.supports_keys
    with pytest.raises(ModelError, match="no attention keys"):
        backbone.encode_with_patches(pixels_for(backbone), features="keys")


@pytest.mark.parametrize("kind", ["vit", "vit-layer-scale"])
def test_attention_is_the_class_token_row_of_torch_with_need_weights(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels, block = pixels_for(backbone), plain.visual.transformer.resblocks[-1]
    seen: dict[str, Tensor] = {}
    hook = block.attn.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    with torch.no_grad():
        plain.encode_image(pixels)
        hook.remove()
        weights = block.attn(seen["x"], seen["x"], seen["x"], need_weights=True, average_attn_weights=True)[1]
    attention = backbone.encode_with_patches(pixels).attention
    torch.testing.assert_close(attention, weights[:, 0, 1:], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["timm-vit", "eva"])
def test_attention_of_a_timm_vit_is_the_class_token_row_of_its_own_softmax(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels, attention = pixels_for(backbone), plain.visual.trunk.blocks[-1].attn
    seen: list[Tensor] = []
    attention.fused_attn = False  # timm then passes its probabilities through a dropout
    hook = attention.attn_drop.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        plain.encode_image(pixels)
    hook.remove()
    encoded = backbone.encode_with_patches(pixels)
    expected = seen[0].mean(dim=1)[:, 0, -encoded.patches.shape[1] :]
    torch.testing.assert_close(encoded.attention, expected, atol=1e-6, rtol=1e-4)


def plain_row(query: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Mean over the heads of softmax(q k / sqrt(d))."""
    size = len(query) // heads
    parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
    return torch.stack([(keys[:, part] @ query[part] / size**0.5).softmax(dim=0) for part in parts]).mean(dim=0)


def test_attention_of_a_pool_is_that_of_its_query(zoo: Any) -> None:
    backbone, plain = zoo("resnet")
    encoded, pool = backbone.encode_with_patches(pixels_for(backbone)), plain.visual.attnpool
    with torch.no_grad():
        patches = encoded.patches[1]
        tokens = torch.cat([patches.mean(dim=0, keepdim=True), patches]) + pool.positional_embedding
        expected = plain_row(pool.q_proj(tokens[0]), pool.k_proj(tokens), pool.num_heads)[1:]
    torch.testing.assert_close(encoded.attention[1], expected, atol=1e-6, rtol=1e-4)
    backbone, plain = zoo("siglip")
    trunk, pool, pixels = plain.visual.trunk, plain.visual.trunk.attn_pool, pixels_for(backbone)
    with torch.no_grad():
        keys = pool.kv(trunk.forward_features(pixels)[1]).chunk(2, dim=-1)[0]
        expected = plain_row(pool.q(pool.latent[0, 0]), keys, pool.num_heads)[trunk.num_prefix_tokens :]
    torch.testing.assert_close(backbone.encode_with_patches(pixels).attention[1], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", QUERIED)
def test_attention_rows_are_positive_and_sum_to_less_than_one(zoo: Any, kind: str) -> None:
    backbone, _ = zoo(kind)
    encoded = backbone.encode_with_patches(pixels_for(backbone))
    assert encoded.attention.shape == encoded.patches.shape[:2]
    assert (encoded.attention > 0).all()
    assert (encoded.attention.sum(dim=1) < 1).all()


@pytest.mark.parametrize("kind", ["vit-average", "convnext", "eva-average"])
def test_encoders_without_a_query_have_no_attention(zoo: Any, kind: str) -> None:
    backbone, _ = zoo(kind)
    assert backbone.encode_with_patches(pixels_for(backbone)).attention is None
    assert not backbone.has_cls
