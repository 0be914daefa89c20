"""The training loop: multi-positive contrastive learning, resumable at every checkpoint, seeded."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
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

from zoo.batches import Batch, Names, draw_batch
from zoo.data import Scenes
from zoo.recipes import Recipe

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
LOG_EVERY, CHECKPOINT_EVERY = 50, 250
"""Steps."""


def contrastive_loss(logits: Tensor, true: Tensor, known: Tensor) -> Tensor:
    """Multi-positive InfoNCE, both directions.

    For an image i with true captions P_i: mean over p in P_i of -log(e^s_ip / (e^s_ip + sum over n in N_i e^s_in)), N_i
    being the captions known to be false of it: other true captions are no negatives. Likewise for captions.
    """

    def one_way(scores: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        negatives = scores.masked_fill(~negative, -1e4).logsumexp(1, keepdim=True)
        each = functional.softplus(negatives - scores)  # = -log sigmoid(s - negatives)
        count = positive.sum(1)
        held = count > 0
        return ((each * positive).sum(1)[held] / count[held]).mean()

    false = known & ~true
    return 0.5 * (one_way(logits, true, false) + one_way(logits.T, true.T, false.T))


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
    projected: Tensor = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)] @ model.text_projection
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


def to_input(images: npt.NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """uint8 (B, S, S, 3) to normalised float32 (B, 3, S, S), channels last in memory."""
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN, device=device).view(3, 1, 1)) / torch.tensor(STD, device=device).view(3, 1, 1)


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


class Run:
    """A model in training: its weights, their moving average and the optimiser, and where they are kept."""

    def __init__(self, recipe: Recipe, tokenizer: SimpleTokenizer, checkpoint: Path, device: str) -> None:
        self._recipe, self._tokenizer, self._checkpoint, self._device = recipe, tokenizer, checkpoint, device
        self._tokens: dict[str, Tensor] = {}
        self.model: Any = build(recipe, tokenizer.vocab_size).to(device)
        self.model.visual.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.model) if recipe.average else None
        self._adam = optimiser(self.model, recipe)
        self.done = 0
        """Steps."""
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True, map_location=device)
            self.model.load_state_dict(state["model"])
            self._adam.load_state_dict(state["optimiser"])
            self.done = state["step"]
            if self.averaged:
                self.averaged.load_state_dict(state["averaged"])
        self.model.train()

    def step(self, scenes: Scenes, names: Names) -> float:
        """Take one step, and return its loss."""
        recipe, model, done = self._recipe, self.model, self.done
        for group in self._adam.param_groups:
            group["lr"] = learning_rate(recipe, done)
        side = recipe.first_px if done < recipe.first_steps else recipe.vision["image_size"]
        self._adam.zero_grad(set_to_none=True)
        batch = draw_batch(np.random.default_rng([recipe.seed, done]), scenes, names, recipe, side)
        loss = self._backward(batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self._adam.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if self.averaged:
            follow(self.averaged, model, min(recipe.average, (done + 1) / (done + 10)))
        self.done += 1
        return loss

    def _backward(self, batch: Batch) -> float:
        """Set the gradient of the batch's loss, and return the loss."""
        model, device = self.model, self._device
        # bf16 products and the plain attention kernel: 2.1x the speed of float32 with the flash kernel on two CPU
        # cores, whose backward pass takes 40 % of the step at 65 tokens.
        with torch.autocast(device, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            image = functional.normalize(encode_image(model.visual, to_input(batch.images, device)).float(), dim=-1)
            loss = torch.zeros((), device=device)
            for block in batch.blocks:
                text = functional.normalize(encode_text(model, self._tokenized(block.texts)).float(), dim=-1)
                rows, true, known = (torch.from_numpy(a).to(device) for a in (block.rows, block.true, block.known))
                with torch.autocast(device, enabled=False):
                    logits = model.logit_scale.exp() * image[rows] @ text.T
                    loss = loss + block.weight * contrastive_loss(logits, true, known)
            torch.autograd.backward(loss)
        return float(loss.detach())

    def _tokenized(self, texts: list[str]) -> Tensor:
        for text in texts:
            if text not in self._tokens:
                self._tokens[text] = self._tokenizer([text])[0]
        return torch.stack([self._tokens[text] for text in texts]).to(self._device)

    def save(self) -> None:
        """Write the checkpoint; a stop in the middle of it leaves the last one."""
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._checkpoint.with_suffix(".tmp")
        state = {"model": self.model.state_dict(), "optimiser": self._adam.state_dict(), "step": self.done}
        torch.save(state | ({"averaged": self.averaged.state_dict()} if self.averaged else {}), temporary)
        temporary.replace(self._checkpoint)


def train(
    recipe: Recipe,
    scenes: Scenes,
    names: Names,
    tokenizer: SimpleTokenizer,
    checkpoint: Path,
    log: Callable[[str], None],
    device: str = "cpu",
) -> CLIP:
    """Train to the recipe's last step, going on from `checkpoint` where it exists."""
    run = Run(recipe, tokenizer, checkpoint, device)
    started, first = time.monotonic(), run.done
    while run.done < recipe.steps:
        loss = run.step(scenes, names)
        last = run.done == recipe.steps
        if run.done % LOG_EVERY == 0 or last:
            speed, scale = (run.done - first) / (time.monotonic() - started), run.model.logit_scale.exp().item()
            log(f"step {run.done}/{recipe.steps} loss {loss:.4f} scale {scale:.1f} {speed:.2f} steps/s")
        if run.done % CHECKPOINT_EVERY == 0 or last:
            run.save()
    trained: CLIP = (run.averaged or run.model).eval().cpu()
    return trained


@torch.no_grad()
def follow(averaged: CLIP, model: CLIP, keep: float) -> None:
    """Move the averaged weights and batch statistics towards the model's."""
    values = model.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(values[name], 1 - keep)
        else:
            value.copy_(values[name])
