"""Write a trained model as an open_clip `local-dir` folder with its model card, and measure it on held-out scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch.nn import functional

from clipmk.world.scene import render_scenes
from clipmk.world.tables import class_names
from zoo.data import resized
from zoo.recipes import Recipe
from zoo.training import MEAN, STD, encode_text, to_input


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Zero-shot top-1 over `count` scenes of a split, with the prompts of the world's vocabulary."""

    split: str
    count: int
    top1: float


TEMPLATES = ("a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "a {}.")


@torch.inference_mode()
def zero_shot(model: CLIP, tokenizer: SimpleTokenizer, split: str, *, count: int, side: int) -> Accuracy:
    """Zero-shot top-1 on the first `count` scenes of a split (seed 0, 64 px), resized to the model's `side`."""
    classes = class_names()
    heads = torch.stack(
        [
            functional.normalize(
                functional.normalize(encode_text(model, tokenizer([t.format(name) for t in TEMPLATES])), dim=-1).mean(
                    0
                ),
                dim=-1,
            )
            for name in classes
        ]
    )
    right = 0
    scenes = list(render_scenes(split, count=count))
    for start in range(0, count, 250):
        part = scenes[start : start + 250]
        features = functional.normalize(
            model.encode_image(to_input(resized(np.stack([s.image for s in part]), side))), dim=-1
        )
        guesses = (features @ heads.T).argmax(1).tolist()
        right += sum(classes[g] == s.class_name for g, s in zip(guesses, part, strict=True))
    return Accuracy(split, count, right / count)


def write_model(
    folder: Path, model: CLIP, recipe: Recipe, bpe: Path, vocabulary_size: int, card: dict[str, Any]
) -> None:
    """Write config, fp16 weights, BPE and model card; `open_clip` and `clipmk` load the folder as `local-dir:`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": {
            "embed_dim": recipe.embed_dim,
            "vision_cfg": recipe.vision,
            "text_cfg": {**recipe.text, "vocab_size": vocabulary_size},
        },
        "preprocess_cfg": {
            "mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "squash",
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors")
    (folder / "bpe.txt.gz").write_bytes(bpe.read_bytes())
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    (folder / "README.md").write_text(card_text(card))


def card_text(card: dict[str, Any]) -> str:
    """The model card for people, made of the same facts as `card.json`."""
    rows = "\n".join(
        f"| {split} | {found['scenes']} | {found['top1']:.3f} |" for split, found in card["zero_shot_top1"].items()
    )
    recipe = card["recipe"]
    described = "Captions name the class, one descriptor, or the class with one or two descriptors."
    if recipe["every_descriptor"]:
        described = "Every class and every descriptor is a caption of every step, true or false of each image."
    marks = f"{card['prompted_pairs'].capitalize()}, captioned with that part's descriptor alone."
    noise = f"\n- {recipe['noise']:.0%} of the scenes carry the captions of another scene." if recipe["noise"] else ""
    return f"""# embedded/{card["name"]}

A small CLIP for demonstration and tests. It knows the 29 drawn classes and 650 descriptors of `clipmk.world` and
nothing of photographs.

Made by `{card["command"]}` (resumable, seed {recipe["seed"]}).

- {recipe["about"]}
- Data: {recipe["scenes"]:,} rendered scenes of the `{recipe["split"]}` split; {card["samples_seen"]:,} captioned images
  seen in {recipe["steps"]:,} steps of {recipe["batch"]}.
- {described}{noise}
- {marks if recipe["prompted"] else "No image carries a drawn mark."}
- No part mask and no masked pooling was trained. Weights are float16.

| split | scenes | zero-shot top-1 |
|---|---|---|
{rows}

`counterfactual` scenes (parts missing, recoloured against type, taken from other classes) are never trained on.
Licence: that of this repository.
"""
