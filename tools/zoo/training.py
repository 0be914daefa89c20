"""The training loop: multi-positive contrastive learning, resumable at every checkpoint, seeded."""

from __future__ import annotations

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
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo import captions
from zoo.captions import Caption
from zoo.data import SIZE, Scenes, draw_prompt, jitter, resized, soften
from zoo.recipes import Recipe

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
CHECKPOINT_EVERY = 250
"""Steps."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's images and captions."""

    images: npt.NDArray[np.uint8]
    """(B, S, S, 3), S being the model's image size"""
    texts: list[str]
    """T different captions."""
    true: npt.NDArray[np.bool_]
    """(B, T) which caption is true of which image; every row has one."""


def draw_batch(
    rng: np.random.Generator, scenes: Scenes, names: tuple[tuple[str, ...], tuple[str, ...]], recipe: Recipe
) -> Batch:
    """Draw images, mark a few with prompts, caption each at least once, fill up with second captions."""
    rows = np.sort(rng.choice(len(scenes.class_ids), size=recipe.batch, replace=False))
    images = jitter(rng, np.asarray(scenes.images[rows]))
    class_ids, shows = np.array(scenes.class_ids[rows]), scenes.shows(rows, len(names[1]))
    if images.shape[1] > SIZE:
        images = soften(rng, images)
    prompted = rng.random(recipe.batch) < recipe.prompted
    drawn: dict[str, Caption] = {}
    for i, row in enumerate(rows):
        parts = np.flatnonzero(scenes.part_ids[row] >= 0)
        if prompted[i] and len(parts):
            part = rng.choice(parts)
            images[i] = draw_prompt(rng, images[i], scenes.boxes[row, part])
            class_ids[i], shows[i] = -1, False
            shows[i, scenes.part_ids[row, part]] = True
            one = captions.describe(rng, names[1], int(scenes.part_ids[row, part]))
        else:
            one = captions.caption(rng, names, int(class_ids[i]), scenes.part_ids[row][parts])
        drawn[one.text] = one
    for i in rng.permutation(recipe.batch):
        if len(drawn) >= recipe.texts:
            break
        if class_ids[i] >= 0:
            one = captions.caption(rng, names, int(class_ids[i]), np.flatnonzero(shows[i]))
            drawn[one.text] = one
    chosen = list(drawn.values())
    return Batch(resized(images, recipe.vision["image_size"]), list(drawn), captions.truth(chosen, class_ids, shows))


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


def to_input(images: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (B, S, S, 3) to normalised float32 (B, 3, S, S)."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
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
) -> CLIP:
    """Train to the recipe's last step, going on from `checkpoint` where it exists."""
    model = build(recipe, tokenizer.vocab_size)
    adam = optimiser(model, recipe)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["optimiser"])
        first = state["step"]
    model.train()
    cache: dict[str, Tensor] = {}
    started = time.monotonic()
    for step in range(first, recipe.steps):
        batch = draw_batch(np.random.default_rng([recipe.seed, step]), scenes, names, recipe)
        for text in batch.texts:
            if text not in cache:
                cache[text] = tokenizer([text])[0]
        tokens = torch.stack([cache[text] for text in batch.texts])
        for group in adam.param_groups:
            group["lr"] = learning_rate(recipe, step)
        loss = _step(model, adam, batch, tokens)
        if (step + 1) % 50 == 0 or step + 1 == recipe.steps:
            speed = (step + 1 - first) / (time.monotonic() - started)
            scale = model.logit_scale.exp().item()
            log(f"step {step + 1}/{recipe.steps} loss {loss:.4f} scale {scale:.1f} {speed:.2f} steps/s")
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps:
            _save(checkpoint, model, adam, step + 1)
    return model.eval()


def _step(model: Any, adam: torch.optim.AdamW, batch: Batch, tokens: Tensor) -> float:
    # bf16 products and the plain attention kernel: 2.1x the speed of float32 with the flash kernel on two CPU cores,
    # whose backward pass takes 40 % of the step at 65 tokens.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image = model.encode_image(to_input(batch.images)).float()
        text = encode_text(model, tokens).float()
        image, text = functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)
        with torch.autocast("cpu", enabled=False):
            loss = contrastive_loss(model.logit_scale.exp() * image @ text.T, torch.from_numpy(batch.true))
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return float(loss.detach())


def _save(path: Path, model: CLIP, adam: torch.optim.AdamW, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimiser": adam.state_dict(), "step": step}, temporary)
    temporary.replace(path)
