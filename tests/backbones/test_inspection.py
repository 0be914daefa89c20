"""Inside a forward: maps by published methods, against their formulas on random weights, written plainly in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchcam.methods import GradCAM

import clipmk
from backbone_zoo import EMBED, VISION, make, masks_for, model_config, pixels_for, save, unit
from clipmk.backbones.backbone import Backbone
from clipmk.backbones.base import with_output
from clipmk.backbones.encoders import image_encoder
from clipmk.backbones.inspection import attention_gradients, stage_gradients
from clipmk.concepts.relevance import grad_cam, hires_cam, legrad, rollout
from clipmk.errors import ModelError
from clipmk.pipeline.encoder import worker_threads

NOT_OPENED = {"eva", "eva-average", "perception"}
"""Their positions are rotary."""
TRANSFORMERS = {kind for kind in VISION if kind.startswith(("vit", "timm-vit"))} | {"coca", "siglip"} | NOT_OPENED
CONVOLUTIONAL = {"resnet", "convnext", "convnext-mlp"}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Backbone]:
    def load(kind: str) -> Backbone:
        save(tmp_path / kind, model_config(kind))
        return clipmk.load(f"local-dir:{tmp_path / kind}", device="cpu")

    return load


class PlainVit:
    """open_clip's VisionTransformer by its equations, from its weights; attention maps are leaves."""

    def __init__(self, visual: Any, pixels: Tensor) -> None:
        self.visual = visual
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        token = visual.class_embedding.expand(1, 1, -1)
        x = visual.ln_pre(torch.cat([token, patches], dim=1) + visual.positional_embedding)[0]
        self.attention: list[Tensor] = []
        self.outputs: list[Tensor] = []
        for block in visual.transformer.resblocks:
            x = self.after(block, x, self.attended(block, block.ln_1(x)))
            self.outputs.append(x)

    def attended(self, block: Any, x: Tensor) -> Tensor:
        query, key, value = self.heads(block, x)
        maps = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(dim=-1).detach().requires_grad_()
        self.attention.append(maps)
        return self.joined(block, maps @ value)

    def heads(self, block: Any, x: Tensor) -> list[Tensor]:
        projected = x @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        count = block.attn.num_heads
        return [one.reshape(len(x), count, -1).transpose(0, 1) for one in projected.chunk(3, dim=1)]

    def joined(self, block: Any, heads: Tensor) -> Tensor:
        out: Tensor = block.attn.out_proj(heads.transpose(0, 1).flatten(1))
        return out

    def after(self, block: Any, x: Tensor, attended: Tensor) -> Tensor:
        x = x + attended
        out: Tensor = x + block.mlp(block.ln_2(x))
        return out

    def read(self, token: Tensor) -> Tensor:
        return unit(self.visual.ln_post(token) @ self.visual.proj)


def plain_vit() -> tuple[Any, PlainVit, Tensor]:
    model: Any = make(model_config("vit")).double()
    pixels = drawn(1, 3, 32, 32, seed=3)
    return image_encoder(model), PlainVit(model.visual, pixels), pixels


def test_legrad_is_the_published_formula() -> None:
    """E_l = mean over heads and rows of relu(ds_l / dA_l), s_l = cos(class token after block l, text)."""
    encoder, plain, pixels = plain_vit()
    texts = unit(drawn(2, EMBED, seed=5))
    found = legrad(attention_gradients(encoder, pixels, texts.float())[1], patches=16)
    for text in range(2):
        expected = torch.zeros(17, dtype=torch.float64)
        # as each block's map is cut from the blocks before, its gradient is that of its own block alone
        for maps, tokens in zip(plain.attention, plain.outputs, strict=True):
            (gradient,) = torch.autograd.grad(plain.read(tokens[0]) @ texts[text], maps, retain_graph=True)
            expected += gradient.clamp_min(0).mean(dim=(0, 1)) / len(plain.attention)
        torch.testing.assert_close(found[text].double(), expected[1:], rtol=1e-5, atol=1e-9)


def test_rollout_is_the_published_formula() -> None:
    """R = A'_L ... A'_1 with A' = (mean over heads of A + I) / 2, read at the class token."""
    encoder, plain, pixels = plain_vit()
    found = rollout(attention_gradients(encoder, pixels, drawn(1, EMBED).float())[0], patches=16)
    row = [1.0, *[0.0] * 16]
    for maps in reversed(plain.attention):
        mean = maps.detach().mean(dim=0).tolist()
        step = [[(mean[i][j] + (i == j)) / 2 for j in range(17)] for i in range(17)]
        row = [sum(row[i] * step[i][j] for i in range(17)) for j in range(17)]
    assert found.tolist() == pytest.approx(row[1:], rel=1e-6)


def test_the_value_path_of_a_vit_is_the_published_formula() -> None:
    """MaskCLIP: v_n = x_n + out(W_v x_n), then the MLP and the projection, patch by patch."""
    encoder, plain, pixels = plain_vit()
    block: Any = plain.visual.transformer.resblocks[-1]
    inputs = plain.outputs[-2]
    _, _, value = plain.heads(block, block.ln_1(inputs))
    expected = plain.read(plain.after(block, inputs, plain.joined(block, value))[1:])
    texts = unit(drawn(3, EMBED))
    with torch.no_grad():
        values = encoder.values(pixels)
    assert values is not None
    torch.testing.assert_close(normalize(values, dim=1) @ texts.T, expected.detach() @ texts.T)


def test_the_value_path_of_a_resnet_is_the_published_formula() -> None:
    """MaskCLIP: the value and output projections of the attention pool as 1 x 1 convolutions."""
    model: Any = make(model_config("resnet")).double()
    pixels, visual = drawn(1, 3, 96, 96), model.visual
    with torch.no_grad():
        found = image_encoder(model).values(pixels)
        features = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
        placed = features + visual.attnpool.positional_embedding[1:].T.reshape(1, -1, *features.shape[2:])
        pool = visual.attnpool
        mixed = nn.functional.conv2d(placed, pool.v_proj.weight[..., None, None], pool.v_proj.bias)
        expected = nn.functional.conv2d(mixed, pool.c_proj.weight[..., None, None], pool.c_proj.bias)
    torch.testing.assert_close(found, expected[0].flatten(1).T)


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONAL))
def test_grad_cam_is_torchcams(kind: str) -> None:
    encoder = image_encoder(make(model_config(kind)))
    side = int(VISION[kind]["image_size"])
    pixels, texts = drawn(1, 3, side, side).float(), unit(drawn(3, EMBED)).float()

    class Scores(nn.Module):
        """Cosines of the image with the texts, as class scores."""

        def __init__(self) -> None:
            super().__init__()
            self.tower = encoder._visual

        def forward(self, pixels: Tensor) -> Tensor:
            return normalize(encoder.embed(pixels), dim=-1) @ texts.T

    maps, gradients = stage_gradients(encoder, pixels, texts)
    assert len(maps) == 4
    for stage, features, by in zip(encoder.stages, maps, gradients, strict=True):
        scores = Scores().eval()
        with GradCAM(scores, stage) as extractor:
            for text, own in enumerate(grad_cam(features, by)):
                output = scores(pixels.clone().requires_grad_())
                (expected,) = extractor(text, output, normalized=False)
                torch.testing.assert_close(own, expected[0], rtol=1e-4, atol=1e-8)


def test_hires_cam_multiplies_cell_by_cell() -> None:
    features, gradients = drawn(3, 2, 2, seed=1), drawn(1, 3, 2, 2, seed=2)
    for row in range(2):
        for column in range(2):
            cell = sum(float(features[c, row, column] * gradients[0, c, row, column]) for c in range(3))
            assert float(hires_cam(features, gradients)[0, row, column]) == pytest.approx(max(cell, 0.0))


@pytest.mark.parametrize("kind", sorted(VISION))
def test_every_tower_gives_what_it_has(kind: str, loaded: Callable[[str], Backbone]) -> None:
    backbone = loaded(kind)
    pixels, texts = pixels_for(backbone, batch=1), unit(drawn(2, backbone.embed_dim)).float()
    encoded = backbone.encode_with_patches(pixels)
    count = encoded.patches.shape[1]
    maps, gradients = stage_gradients(backbone.images, pixels, texts)
    assert (len(maps) > 1) == (kind in CONVOLUTIONAL)
    assert all(by.shape == (2, *features.shape) for features, by in zip(maps, gradients, strict=True))
    if kind in NOT_OPENED:
        with pytest.raises(ModelError, match="attention"):
            attention_gradients(backbone.images, pixels, texts)
        return
    attention, gradients = attention_gradients(backbone.images, pixels, texts)
    assert bool(attention) == (kind in TRANSFORMERS)
    for one, by in zip(attention, gradients, strict=True):
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(one.shape[:2]))
        assert by.shape == (2, *one.shape)
    if attention:
        assert legrad(gradients, count).shape == (2, count)
        assert rollout(attention, count).shape == (count,)
    values = backbone.images.values(pixels)
    assert (values is not None) == (kind in TRANSFORMERS | {"resnet"})
    if values is not None:
        assert values.shape == (count, backbone.embed_dim)
        assert bool(values.isfinite().all())
    torch.testing.assert_close(backbone.encode_images(pixels), encoded.embeddings)  # no hook stays behind


def test_a_module_that_is_wrapped_by_its_user_stays_wrapped() -> None:
    module = torch.nn.Linear(2, 2)
    wrapped = module.forward = lambda values: values + 1
    with with_output(module, "ours"):
        assert module(torch.zeros(2)) == "ours"
    assert module.forward is wrapped
    assert module(torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_threads_look_inside_one_model_at_the_same_time(kind: str, loaded: Callable[[str], Backbone]) -> None:
    backbone = loaded(kind)
    pixels = pixels_for(backbone, batch=4)
    count = backbone.encode_with_patches(pixels).patches.shape[1]

    def look(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoded = backbone.encode_with_patches(image)
        return encoded.embeddings, encoded.patches, backbone.pool_regions(encoded, masks_for(count, batch=1))

    images = [*pixels.split(1)] * 10
    alone = [look(image) for image in images]
    with worker_threads(4) as (threads,):
        for found, expected in zip(threads.map(look, images), alone, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
