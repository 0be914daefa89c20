"""Explain one image with the smallest architecture of every kind that open_clip holds, with random weights.

python tools/check_families.py [--most 500] [NAME...] > table.md

A kind is an image tower of one design with a text tower of one origin. Tokenizers that lie on the hub are replaced by
CLIP's own, its numbers taken modulo the vocabulary: with random weights one text is as good as another.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import clipmk
from clipmk.backbones.library import open_clip
from clipmk.models.inventory import inventory
from clipmk.vocabulary.vocabulary import from_descriptor_json

_SIZES = re.compile(
    r"_(tiny|small|base|medium|large2?|xlarge|xxlarge|huge|giant|giantopt|gigantic|enormous|so400m|patch\d+|window\d+|\d{3})"
    r"(?=_|$)"
)
_WORDS = {
    "apple": ["a short stalk", "smooth red skin", "a round body", "a green leaf"],
    "bicycle": ["two thin wheels", "a metal frame", "a narrow saddle", "round handlebars"],
    "owl": ["large round eyes", "a short beak", "brown feathers", "sharp claws"],
}


def kind_of(config: Mapping[str, Any]) -> str:
    """What the towers are made of, sizes left out."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    trunk = str(vision.get("timm_model_name") or "")
    if trunk:
        image = re.sub(r"mci\d", "mci", _SIZES.sub("", trunk)) + f" ({vision.get('timm_pool') or 'own'} pooling)"
    elif isinstance(vision.get("layers"), list):
        image = "ModifiedResNet"
    else:
        marks = ("attentional_pool", "pool_type", "no_ln_pre", "ls_init_value")
        image = " ".join(["ViT", *(mark for mark in marks if vision.get(mark))])
    words = "hub text tower" if text.get("hf_model_name") else "hub tokenizer" if text.get("hf_tokenizer_name") else ""
    return " + ".join([image, *([words] if words else []), *(["CoCa"] if "multimodal_cfg" in config else [])])


def smallest() -> dict[str, str]:
    """Kind -> its architecture with the fewest parameters, kinds in alphabetical order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in open_clip().list_models():
        config = open_clip().get_model_config(name)
        found.setdefault(kind_of(config), []).append((inventory().architectures[name].parameters or 0, name))
    return {kind: min(names)[1] for kind, names in sorted(found.items())}


def tokenizer(config: Mapping[str, Any]) -> Any:
    """CLIP's own tokenizer in place of one on the hub; None where the model has its own."""
    text = config["text_cfg"]
    if not text.get("hf_tokenizer_name"):
        return None
    words = open_clip().SimpleTokenizer(context_length=int(text.get("context_length", 77)))
    return lambda texts: words(texts) % int(text.get("vocab_size", 49408))


def explained(name: str, most: int) -> tuple[str, str, str]:
    """(parameters, what came out, seconds) of one architecture."""
    size = inventory().architectures[name].parameters
    shown = "?" if size is None else f"{size / 1e6:.0f} M"
    if size is not None and size > most * 1e6:
        return shown, f"skipped: more than {most} M parameters", ""
    start = time.perf_counter()
    try:
        config = open_clip().get_model_config(name)
        backbone = clipmk.load(f"{name}:random", device="cpu", tokenizer=tokenizer(config))
    except clipmk.ClipmkError as error:
        return shown, f"refused: {error}", ""
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    words = from_descriptor_json(json.dumps(_WORDS), name="families")
    found = []
    for how in ("attend", "prompts"):
        try:
            result = clipmk.explain(image, backbone, vocabulary=words, settings={"grounding": how})
            found.append(f"{how}: explained, {len(result.parts)} part{'s' if len(result.parts) > 1 else ''}")
        except clipmk.ClipmkError as error:
            found.append(f"{how}: refused, {error}")
    return shown, "; ".join(found), f"{time.perf_counter() - start:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these architectures")
    parser.add_argument("--most", type=int, default=500, help="skip what has more parameters, in millions")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMK_CACHE_DIR"] = folder
        print("| kind | smallest architecture | parameters | outcome | s |\n|---|---|---|---|---|")
        for kind, name in smallest().items():
            if chosen.names and name not in chosen.names:
                continue
            print(name, file=sys.stderr)
            size, outcome, seconds = explained(name, chosen.most)
            print(f"| {kind} | {name} | {size} | {outcome} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
