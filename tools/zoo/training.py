"""The training loop: multi-positive contrastive learning, resumable at every checkpoint, seeded."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo import captions, exhaustive
from zoo.captions import Caption
from zoo.data import SIZE, Scenes, draw_prompt, jitter, resized, soften
from zoo.recipes import Recipe

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
CHECKPOINT_EVERY = 250
"""Steps."""


def contrastive_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Multi-positive InfoNCE, both directions.

    For an image i with true captions P_i: mean over p in P_i of -log(e^s_ip / (e^s_ip + sum over n not in P_i e^s_in));
    other true captions are left out of the denominator, since they are no negatives. Likewise for captions.
    """

    def one_way(scores: Tensor, positive: Tensor) -> Tensor:
        negatives = scores.masked_fill(positive, -torch.inf).logsumexp(1, keepdim=True)
        each = functional.softplus(negatives - scores)  # = -log sigmoid(s - negatives)
        held = positive.any(1)
        each = (each * positive).sum(1)[held] / positive.sum(1)[held]
        return each.mean()

    return 0.5 * (one_way(logits, true) + one_way(logits.T, true.T))


def build(recipe: Recipe, vocabulary: int) -> CLIP:
    """A freshly initialised open_clip model of the recipe's configuration."""
    torch.manual_seed(recipe.seed)
    text = CLIPTextCfg(**recipe.text, vocab_size=vocabulary)
    return CLIP(embed_dim=recipe.embed_dim, vision_cfg=CLIPVisionCfg(**recipe.vision), text_cfg=text)


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """`model.encode_text` on the batch's longest caption instead of the whole context (exact: the tower is causal)."""
    longest = int((tokens != 0).sum(1).max())
    tokens = tokens[:, :longest]
    x = model.token_embedding(tokens) + model.positional_embedding[:longest]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:longest, :longest]))
    projected: Tensor = x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection
    return projected


def encode_image(visual: Any, pixels: Tensor) -> Tensor:
    """Embeddings of images; a ResNet takes smaller ones than its own, with its position embeddings averaged."""
    side, own = pixels.shape[-1], visual.image_size
    if side == (own[0] if isinstance(own, tuple) else own):
        return torch.as_tensor(visual(pixels))
    positions, grid = visual.attnpool.positional_embedding, side // 32
    count = math.isqrt(len(positions) - 1)
    table = positions[1:].T.unflatten(1, (count, count))[None]
    coarse = functional.adaptive_avg_pool2d(table, grid)[0].flatten(1).T
    changed = {"attnpool.positional_embedding": torch.cat([positions[:1], coarse])}
    return torch.as_tensor(functional_call(visual, changed, (pixels,)))


def to_input(images: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (B, S, S, 3) to normalised float32 (B, 3, S, S)."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255  # stays channels last
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine to zero; or a constant rate, then a straight line to zero."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    if recipe.decay < 1:
        return recipe.learning_rate * min(1.0, (recipe.steps - step) / (recipe.decay * recipe.steps))
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def optimiser(model: CLIP, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW without decay on gains, biases, embeddings and the logit scale."""
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or "embedding" in name
        (free if plain else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def train(
    recipe: Recipe,
    scenes: Scenes,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    tokenizer: SimpleTokenizer,
    checkpoint: Path,
    log: Callable[[str], None],
    device: str = "cpu",
) -> CLIP:
    """Train to the recipe's last step, going on from `checkpoint` where it exists."""
    model = build(recipe, tokenizer.vocab_size).to(device)
    model.visual.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model) if recipe.average else None
    adam = optimiser(model, recipe)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["optimiser"])
        first = state["step"]
        if averaged:
            averaged.load_state_dict(state["averaged"])
    model.train()
    cache: dict[str, Tensor] = {}

    def tokens(texts: list[str]) -> Tensor:
        for text in texts:
            if text not in cache:
                cache[text] = tokenizer([text])[0]
        return torch.stack([cache[text] for text in texts]).to(device)

    started = time.monotonic()
    for step in range(first, recipe.steps):
        rng = np.random.default_rng([recipe.seed, step])
        for group in adam.param_groups:
            group["lr"] = learning_rate(recipe, step)
        side = recipe.first_px if step < recipe.first_steps else recipe.vision["image_size"]
        if recipe.every_descriptor:
            batch: Any = exhaustive.draw_batch(rng, scenes, names, recipe, side)
        else:
            batch = draw_batch(rng, scenes, names, recipe)
        loss = _step(model, adam, batch, tokens, device)
        if averaged:
            follow(averaged, model, min(recipe.average, (step + 1) / (step + 10)))
        if (step + 1) % 50 == 0 or step + 1 == recipe.steps:
            speed = (step + 1 - first) / (time.monotonic() - started)
            scale = model.logit_scale.exp().item()
            log(f"step {step + 1}/{recipe.steps} loss {loss:.4f} scale {scale:.1f} {speed:.2f} steps/s")
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps:
            _save(checkpoint, model, adam, step + 1, averaged)
    return (averaged or model).eval().cpu()


@torch.no_grad()
def follow(averaged: CLIP, model: CLIP, keep: float) -> None:
    """Move the averaged weights and batch statistics towards the model's."""
    values = model.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(values[name], 1 - keep)
        else:
            value.copy_(values[name])


def _step(
    model: Any,
    adam: torch.optim.AdamW,
    batch: Any,
    tokens: Callable[[list[str]], Tensor],
    device: str,
) -> float:
    exhausted = isinstance(batch, exhaustive.Batch)
    # bf16 products and the plain attention kernel: 2.1x the speed of float32 with the flash kernel on two CPU cores,
    # whose backward pass takes 40 % of the step at 65 tokens.
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        pixels = to_input(batch.images).to(device)
        image = functional.normalize(encode_image(model.visual, pixels).float(), dim=-1)
        groups = [block.texts for block in batch.blocks] if exhausted else [batch.texts]
        texts = tuple(functional.normalize(encode_text(model, tokens(group)).float(), dim=-1) for group in groups)
        with torch.autocast(device, enabled=False):
            scale = model.logit_scale.exp()
            if exhausted:
                loss = exhaustive.loss(scale, image, texts, batch.blocks)
            else:
                loss = contrastive_loss(scale * image @ texts[0].T, torch.from_numpy(batch.true).to(device))
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return float(loss.detach())


def _save(path: Path, model: CLIP, adam: torch.optim.AdamW, step: int, averaged: CLIP | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    state = {"model": model.state_dict(), "optimiser": adam.state_dict(), "step": step}
    torch.save(state | ({"averaged": averaged.state_dict()} if averaged else {}), temporary)
    temporary.replace(path)
