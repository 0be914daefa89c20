"""Train embedded models on the rendered world: `python tools/train_zoo.py rn-parts --out core/clipmk/assets/models`.

Resumable: stop it at any time and start it again with the same arguments. Scenes and checkpoints live in `--runs`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from clipmk.world.tables import all_descriptors, class_names
from zoo import bpe, captions, data, export, training
from zoo.batches import Names
from zoo.recipes import ZOO, Recipe


def main() -> None:
    """Parse the command line and train each named model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", choices=sorted(ZOO))
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one folder per model")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="scenes and checkpoints")
    parser.add_argument("--threads", type=int, default=2, help="of the processor, for rendering and training")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        train_one(name, ZOO[name], arguments.runs, arguments.out, arguments.threads, arguments.device)


def train_one(name: str, recipe: Recipe, runs: Path, out: Path, threads: int, device: str) -> None:
    """Render, train, measure and export one model."""
    names = (class_names(), all_descriptors())
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(folder / "bpe.txt.gz", names, recipe)
    log(f"{name}: {recipe.scenes} scenes of {recipe.scene_px} px")
    scenes = training_scenes(recipe, runs, threads)
    log(f"{name}: training on {device}, vocabulary {tokenizer.vocab_size}")
    model = training.train(recipe, scenes, names, tokenizer, folder / "checkpoint.pt", log, device)
    side = recipe.vision["image_size"]
    accuracies = [
        export.zero_shot(model, tokenizer, split, count=1_000, side=side) for split in ("test", "counterfactual")
    ]
    for accuracy in accuracies:
        log(f"{name}: zero-shot top-1 on {accuracy.count} scenes of {accuracy.split}: {accuracy.top1:.4f}")
    card = {
        "name": name,
        "command": f"python tools/train_zoo.py {name} --out core/clipmk/assets/models",
        "recipe": recipe.to_dict(),
        "samples_seen": recipe.steps * recipe.batch,
        "prompted_pairs": f"{recipe.prompted:.0%} of images carry a drawn mark around a jittered part box",
        "trained_with": {
            "torch": torch.__version__,
            "precision": "bfloat16 autocast",
            "threads": threads,
            "device": device,
        },
        "zero_shot_top1": {a.split: {"scenes": a.count, "top1": round(a.top1, 4)} for a in accuracies},
    }
    export.write_model(out / name, model, recipe, folder / "bpe.txt.gz", tokenizer.vocab_size, card)


def training_scenes(recipe: Recipe, runs: Path, threads: int) -> data.Scenes:
    """The recipe's share of the rendered pool of its resolution (rendered on first use), with its wrong captions."""
    split, size = recipe.split, recipe.scene_px
    count = data.POOLS[split, size]
    folder = runs / f"scenes-{split}-0-{count}-{size}px"
    pool = data.render(folder, count=count, seed=0, size=size, split=split, workers=threads)
    return pool.first(recipe.scenes).mislabelled(recipe.noise)


def build_tokenizer(path: Path, names: Names, recipe: Recipe) -> SimpleTokenizer:
    """Train the small BPE on captions of made-up scenes, so that every word of the world becomes one token."""
    rng = np.random.default_rng(recipe.seed)
    texts = [*names[1], *(t.format(c) for c in names[0] for t in captions.CLASS_TEMPLATES)]
    for class_id in range(len(names[0])):
        visible = rng.integers(len(names[1]), size=6)
        texts += [captions.caption(rng, names, class_id, visible).text for _ in range(20)]
    bpe.write(bpe.train(texts, merges=1_000), path)
    return SimpleTokenizer(bpe_path=str(path), context_length=recipe.text["context_length"])


def log(message: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), message, flush=True)


if __name__ == "__main__":
    main()
