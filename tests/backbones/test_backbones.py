"""Image encoders: embeddings, patch features, masked pooling, against plain loops and open_clip itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbone_zoo import EMBED, VISION, make, masks_for, model_config, pixels_for, save, unit
from clipmk.errors import ModelError
from clipmk.models.loading import load

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", VISION)
def test_full_mask_pooling_gives_the_ordinary_embedding(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels = pixels_for(backbone)
    encoded = backbone.encode_with_patches(pixels)
    pooled = backbone.pool_regions(encoded, torch.ones(2, 3, encoded.patches.shape[1]))
    with torch.no_grad():
        expected = unit(plain.encode_image(pixels))
    torch.testing.assert_close(encoded.embeddings, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.encode_images(pixels), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, expected[:, None].expand(-1, 3, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", VISION)
def test_patches_are_the_last_intermediate_of_open_clip_row_by_row(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels = pixels_for(backbone)
    encoded = backbone.encode_with_patches(pixels)
    with torch.no_grad():
        seen = plain.visual.forward_intermediates(
            pixels, indices=1, output_fmt="NCHW", intermediates_only=kind != "resnet"
        )
    feature_map = seen["image_intermediates"][0]
    assert encoded.grid == tuple(feature_map.shape[2:]) == backbone.grid
    torch.testing.assert_close(encoded.patches, feature_map.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", VISION)
def test_one_forward_serves_embedding_patches_and_regions_and_leaves_no_hook(zoo: Any, kind: str) -> None:
    backbone, _ = zoo(kind)
    pixels = pixels_for(backbone, batch=1)
    model = backbone.images._model
    stem = next(module for module in model.visual.modules() if isinstance(module, nn.Conv2d))
    calls = []
    counter = stem.register_forward_hook(lambda *_: calls.append(1))
    encoded = backbone.encode_with_patches(pixels)
    backbone.pool_regions(encoded, masks_for(encoded.patches.shape[1], batch=1))
    counter.remove()
    assert len(calls) == 1
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_hooks_are_removed_when_the_forward_fails(zoo: Any) -> None:
    backbone, _ = zoo("vit")
    with pytest.raises(RuntimeError):
        backbone.encode_with_patches(torch.zeros(1, 3, 16, 16))
    assert all(not module._forward_hooks for module in backbone.images._model.modules())


@pytest.mark.parametrize("kind", VISION)
def test_results_are_unit_float32_in_the_order_of_the_batch(zoo: Any, kind: str) -> None:
    backbone, _ = zoo(kind)
    pixels = pixels_for(backbone, batch=2)
    encoded = backbone.encode_with_patches(pixels)
    masks = masks_for(encoded.patches.shape[1])
    together = backbone.pool_regions(encoded, masks)
    assert together.shape == (2, 3, backbone.embed_dim)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(2, 3))
    alone = backbone.encode_with_patches(pixels[1:])
    torch.testing.assert_close(alone.patches[0], encoded.patches[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(backbone.pool_regions(alone, masks[1:])[0], together[1], atol=1e-5, rtol=0)
    for values in (encoded.embeddings, encoded.patches, together):
        assert values.dtype == torch.float32
        assert not values.is_inference()


def one_query(block: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, weights: Tensor) -> Tensor:
    """The block on all tokens of an image, with log(weight) added to what the class token sees, region by region."""
    bias = torch.zeros(tokens.shape[1], tokens.shape[1])
    bias[0, -len(weights) :] = weights.log()
    return block(tokens, bias)[:, 0]


@pytest.mark.parametrize("kind", ["vit", "vit-layer-scale", "vit-custom-block"])
def test_region_of_a_vit_is_its_last_block_under_an_explicit_mask(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels = pixels_for(backbone)
    encoded = backbone.encode_with_patches(pixels)
    masks, visual = masks_for(16), plain.visual
    pooled = backbone.pool_regions(encoded, masks)
    with torch.no_grad():
        tokens = visual._embeds(pixels)
        for block in visual.transformer.resblocks[:-1]:
            tokens = block(tokens)
        last = visual.transformer.resblocks[-1]
        for image in range(2):
            for region in range(3):
                query = one_query(lambda x, m: last(x, attn_mask=m), tokens[image : image + 1], masks[image, region])
                expected = unit(visual.ln_post(query) @ visual.proj)[0]
                torch.testing.assert_close(pooled[image, region], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["eva", "timm-vit"])
def test_region_of_a_timm_vit_is_its_last_block_under_an_explicit_mask(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels, trunk = pixels_for(backbone, batch=1), plain.visual.trunk
    encoded = backbone.encode_with_patches(pixels)
    masks = masks_for(encoded.patches.shape[1], batch=1)
    pooled = backbone.pool_regions(encoded, masks)
    with torch.no_grad():
        embedded = trunk._pos_embed(trunk.patch_embed(pixels))
        tokens, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        tokens, keywords = trunk.norm_pre(tokens), {} if rope is None else {"rope": rope}
        for block in trunk.blocks[:-1]:
            tokens = block(tokens, **keywords)
        for region in range(3):
            query = one_query(lambda x, m: trunk.blocks[-1](x, attn_mask=m, **keywords), tokens, masks[0, region])
            expected = unit(plain.visual.head(trunk.head(trunk.fc_norm(trunk.norm(query)))))[0]
            torch.testing.assert_close(pooled[0, region], expected, atol=1e-5, rtol=0)


def plain_attention(query: Tensor, keys: Tensor, values: Tensor, weights: Tensor, heads: int) -> Tensor:
    """softmax(q k / sqrt(d) + log w) v of one query (width,) over (tokens, width), head by head, patch by patch."""
    size = len(query) // heads
    visible = torch.cat([torch.ones(len(keys) - len(weights)), weights])
    joined = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = [float(query[part] @ key[part]) / size**0.5 for key in keys]
        masses = [float(w) * torch.tensor(score).exp() for w, score in zip(visible, scores, strict=True)]
        joined.append(sum(mass * value[part] for mass, value in zip(masses, values, strict=True)) / sum(masses))
    return torch.cat(joined)


def test_region_of_a_resnet_is_its_attention_pool_written_out(zoo: Any) -> None:
    backbone, plain = zoo("resnet")
    pixels, pool = pixels_for(backbone), plain.visual.attnpool
    encoded = backbone.encode_with_patches(pixels)
    masks = masks_for(9)
    pooled = backbone.pool_regions(encoded, masks)
    with torch.no_grad():
        for image in range(2):
            patches = encoded.patches[image]
            tokens = torch.cat([patches.mean(dim=0, keepdim=True), patches]) + pool.positional_embedding
            query, keys, values = pool.q_proj(tokens[0]), pool.k_proj(tokens), pool.v_proj(tokens)
            for region in range(3):
                attended = plain_attention(query, keys, values, masks[image, region], pool.num_heads)
                expected = unit(pool.c_proj(attended))
                torch.testing.assert_close(pooled[image, region], expected, atol=1e-5, rtol=0)


def test_region_of_siglip_is_its_latent_query_written_out(zoo: Any) -> None:
    backbone, plain = zoo("siglip")
    pixels, trunk = pixels_for(backbone, batch=1), plain.visual.trunk
    encoded, pool = backbone.encode_with_patches(pixels), plain.visual.trunk.attn_pool
    masks = masks_for(100, batch=1)
    pooled = backbone.pool_regions(encoded, masks)
    with torch.no_grad():
        tokens = trunk.forward_features(pixels)[0]  # this one's register is pooled, too, and always visible
        keys, values = pool.kv(tokens).chunk(2, dim=-1)
        for region in range(3):
            attended = plain_attention(pool.q(pool.latent[0, 0]), keys, values, masks[0, region], pool.num_heads)
            projected = pool.proj(attended)
            expected = unit(trunk.head(trunk.fc_norm(projected + pool.mlp(pool.norm(projected)))))
            torch.testing.assert_close(pooled[0, region], expected, atol=1e-5, rtol=0)


def test_region_of_coca_is_its_pooler_written_out(zoo: Any) -> None:
    backbone, plain = zoo("coca")
    pixels, visual = pixels_for(backbone, batch=1), plain.visual
    encoded, pooler = backbone.encode_with_patches(pixels), plain.visual.attn_pool
    masks = masks_for(16, batch=1)
    pooled = backbone.pool_regions(encoded, masks)
    with torch.no_grad():
        tokens = pooler.ln_k(visual.transformer(visual._embeds(pixels)))
        query = pooler.ln_q(pooler.query)[:1].unsqueeze(0)
        for region in range(3):
            bias = torch.cat([torch.zeros(1), masks[0, region].log()]).unsqueeze(0)
            attended = pooler.attn(query, tokens, tokens, attn_mask=bias, need_weights=False)[0]
            expected = unit(visual.ln_post(attended[:, 0]) @ visual.proj)[0]
            torch.testing.assert_close(pooled[0, region], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["convnext", "convnext-mlp", "channels-last", "resnet-timm"])
def test_region_of_a_feature_map_is_its_cells_alone_through_the_head(zoo: Any, kind: str) -> None:
    backbone, plain = zoo(kind)
    pixels, trunk = pixels_for(backbone, batch=1), plain.visual.trunk
    encoded = backbone.encode_with_patches(pixels)
    chosen = torch.tensor([1, 2, 5])
    weights = torch.zeros(1, 2, encoded.patches.shape[1])
    weights[0, 0, chosen] = 1
    weights[0, 1, chosen] = torch.tensor([0.25, 0.5, 0.25])  # as if the second cell were there twice
    pooled = backbone.pool_regions(encoded, weights)
    for region, cells in enumerate(([1, 2, 5], [1, 2, 2, 5])):
        row = encoded.patches[:, cells]
        shown = row[:, None] if kind == "channels-last" else row.transpose(1, 2)[:, :, None]
        with torch.no_grad():
            shown = trunk.norm(shown) if kind == "channels-last" else shown  # Swin's norm comes before its average
            expected = unit(plain.visual.head(trunk.forward_head(shown)))[0]
        torch.testing.assert_close(pooled[0, region], expected, atol=1e-5, rtol=0)


def test_region_of_an_averaging_vit_is_the_mean_of_its_tokens_alone(zoo: Any) -> None:
    for kind in ("vit-average", "vit-average-late-norm"):
        backbone, plain = zoo(kind)
        encoded = backbone.encode_with_patches(pixels_for(backbone, batch=1))
        weights = torch.zeros(1, 1, 16)
        weights[0, 0, [3, 7]] = 0.5
        tokens, norm = encoded.patches[0, [3, 7]], plain.visual.ln_post
        with torch.no_grad():
            mean = norm(tokens.mean(dim=0)) if "late" in kind else norm(tokens).mean(dim=0)
            expected = unit(mean @ plain.visual.proj)
        torch.testing.assert_close(backbone.pool_regions(encoded, weights)[0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", VISION)
def test_a_region_that_covers_nothing_counts_as_the_whole_image(zoo: Any, kind: str) -> None:
    backbone, _ = zoo(kind)
    encoded = backbone.encode_with_patches(pixels_for(backbone))
    weights = masks_for(encoded.patches.shape[1])
    weights[0, 1] = 0
    pooled = backbone.pool_regions(encoded, weights)
    torch.testing.assert_close(pooled[0, 1], encoded.embeddings[0], atol=1e-5, rtol=0)
    assert (pooled[0, 0] - encoded.embeddings[0]).norm() > 1e-3, "other regions of the same image keep their masks"


def test_class_tokens_are_reported_where_the_embedding_is_read_from_one(zoo: Any) -> None:
    has = {kind: zoo(kind)[0].has_cls for kind in VISION}
    assert [kind for kind, cls in has.items() if cls] == [
        "vit",
        "vit-layer-scale",
        "vit-custom-block",
        "timm-vit",
        "eva",
    ]


def test_weights_of_another_shape_are_refused(zoo: Any) -> None:
    backbone, _ = zoo("vit")
    encoded = backbone.encode_with_patches(pixels_for(backbone))
    for shape in ((2, 16), (1, 3, 16), (2, 3, 15)):
        with pytest.raises(ValueError, match="batch 2 and patches 16"):
            backbone.pool_regions(encoded, torch.ones(shape))


def test_an_encoder_that_masked_pooling_does_not_reproduce_refuses_to_pool() -> None:
    model = make(model_config("vit", text={"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}))

    class Shifted(type(model.visual)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1.0

    model.visual.__class__ = Shifted
    backbone = load(model, device="cpu")
    encoded = backbone.encode_with_patches(pixels_for(backbone))
    with pytest.raises(ModelError, match="does not reproduce the embedding"):
        backbone.pool_regions(encoded, torch.ones(2, 1, 16))


def test_unknown_poolings_refuse_to_pool_regions_but_still_embed(tmp_path: Any) -> None:
    config = model_config("timm-vit")
    config["vision_cfg"]["timm_pool"] = "max"
    save(tmp_path, config)
    backbone = load(f"local-dir:{tmp_path}", device="cpu")
    encoded = backbone.encode_with_patches(pixels_for(backbone))
    assert encoded.embeddings.shape == (2, EMBED)
    with pytest.raises(ModelError, match="not supported for VisionTransformer with 'max' pooling"):
        backbone.pool_regions(encoded, torch.ones(2, 1, 100))


def test_bytes_and_floats_are_normalised_alike(zoo: Any) -> None:
    backbone, _ = zoo("vit")
    mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
    data = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    by_hand = torch.stack(
        [(data[..., channel].double() / 255 - mean[channel]) / std[channel] for channel in range(3)], dim=1
    )
    torch.testing.assert_close(backbone.normalise(data).double(), by_hand, atol=1e-5, rtol=0)
    floats = data.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(backbone.normalise(floats), backbone.normalise(data))


def test_pixels_of_another_layout_are_refused(zoo: Any) -> None:
    backbone, _ = zoo("vit")
    for wrong in (torch.zeros(3, 32, 32), torch.zeros(1, 32, 32, 3), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="is needed"):
            backbone.normalise(wrong)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("vit", "bf16"), ("vit", "fp16"), ("resnet", "bf16"), ("siglip", "bf16"), ("convnext", "bf16"), ("eva", "bf16")],
)
def test_half_precision_stays_close_and_answers_in_float32(tmp_path: Any, zoo: Any, kind: str, precision: str) -> None:
    full, _ = zoo(kind)
    save(tmp_path, model_config(kind))
    half = load(f"local-dir:{tmp_path}", device="cpu", precision=precision)
    assert half.logit_scale == full.logit_scale, "read before the cast"
    encoded = half.encode_with_patches(pixels_for(half))
    reference = full.encode_with_patches(pixels_for(full))
    weights = masks_for(encoded.patches.shape[1])
    pooled = half.pool_regions(encoded, weights)
    for values in (encoded.embeddings, encoded.patches, pooled, half.encode_texts(["a cat"])):
        assert values.dtype == torch.float32
    assert ((encoded.embeddings * reference.embeddings).sum(-1) > 0.99).all()
    assert ((pooled * full.pool_regions(reference, weights)).sum(-1) > 0.99).all()


def test_a_real_vit_b_32_has_the_shapes_of_its_paper() -> None:
    backbone = load("ViT-B-32:random", device="cpu")
    encoded = backbone.encode_with_patches(backbone.normalise(torch.zeros(1, 224, 224, 3, dtype=torch.uint8)))
    assert encoded.patches.shape == (1, 49, 768)
    assert encoded.embeddings.shape == (1, 512)
    assert backbone.grid == (7, 7)
    pooled = backbone.pool_regions(encoded, torch.ones(1, 1, 49))
    torch.testing.assert_close(pooled[:, 0], encoded.embeddings, atol=1e-5, rtol=0)
