"""A vocabulary of a million descriptors, end to end: `python tools/bench/million.py --count 1000000`.

Synthetic descriptors in the world's words ("a large striped red and blue sail"), an embedded model, and explanations
of a sample image. Prints seconds and memory of each step, one line each, as it is done. Memory is read from /proc
(Linux): `anonymous` is what the process itself holds, `file` the mapped pages of the bank, which the system takes back
whenever it needs them. Peaks are sampled every 50 ms. The cache lies in a folder of its own (`--folder`), so that a
second run shows a second start; an interrupted run resumes from its last chunk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import clipmk
from clipmk.backbones.backbone import Backbone
from clipmk.images.decoder import read_picture
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset
from clipmk.system.locations import cache_info
from clipmk.vocabulary.embeddings import load_bank
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary
from clipmk.world.tables import all_descriptors, class_names, colours

SIZES = ("", "small ", "large ", "long ", "short ", "thin ", "wide ", "old ", "new ", "wet ", "dry ", "soft ", "hard ",
         "dark ", "pale ", "bent ", "flat ", "open ", "thick ", "round ")  # fmt: skip


DEGREES = ("", "very ", "quite ", "rather ")


def descriptors(count: int) -> tuple[str, ...]:
    """The first `count` of all degrees x sizes x pairs of colours x the world's descriptors."""

    def every() -> Iterator[str]:
        words = {tuple(text.removeprefix("an ").removeprefix("a ").split(" ", 2)) for text in all_descriptors()}
        looks = sorted({(modifier, noun) for modifier, _, noun in words})
        for degree, size, one, two, (modifier, noun) in itertools.product(DEGREES, SIZES, colours(), colours(), looks):
            yield f"a {degree}{size}{modifier} {one}{'' if one == two else f' and {two}'} {noun}"

    return tuple(itertools.islice(dict.fromkeys(every()), count))


class Memory:
    """Peaks of this process's memory, in MiB, since the last `lap`."""

    def __init__(self) -> None:
        self._peaks: dict[str, float] = {}
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith(("RssAnon", "RssFile")):
                    name, value = line.split(":")
                    self._peaks[name] = max(self._peaks.get(name, 0.0), int(value.split()[0]) / 1_024)
            time.sleep(0.05)

    def lap(self) -> str:
        """The peaks since the last call, in words."""
        time.sleep(0.1)
        peaks, self._peaks = self._peaks, {}
        return f"peak {peaks['RssAnon']:6.0f} MiB anonymous, {peaks['RssFile']:6.0f} MiB file"


class Steps:
    """Prints a line for each step: how long it took and how much memory."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._started = time.perf_counter()

    def done(self, name: str, more: str = "") -> None:
        """End a step and begin the next."""
        seconds = time.perf_counter() - self._started
        print(f"{name:24} {seconds:9.2f} s; {self._memory.lap()}  {more}", flush=True)
        self._started = time.perf_counter()


def read_vocabulary(folder: Path, count: int, steps: Steps) -> Vocabulary:
    """Write the descriptors to a file and read it, as a user's would be."""
    path = folder / f"vocabulary-{count}.json"
    texts = descriptors(count)
    table = {"classes": class_names(), "templates": ["a photo of a {}."], "descriptors": texts}
    path.write_text(json.dumps(table), encoding="ascii")
    steps.done("texts written", f"{len(texts)} descriptors, {path.stat().st_size / 2**20:.0f} MiB")
    del table, texts
    vocabulary = load_vocabulary(str(path))
    steps.done("vocabulary read")
    steps.done("vocabulary sha256", vocabulary.sha256[:8])
    return vocabulary


def build(backbone: Backbone, vocabulary: Vocabulary, steps: Steps) -> None:
    """Build the bank and read it again."""
    begun, told = time.perf_counter(), 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done == total or done - told >= 100_000:
            told = done
            print(f"  {done} of {total} texts, {done / (time.perf_counter() - begun):.0f} a second", flush=True)

    load_bank(backbone, vocabulary, progress=tell)
    steps.done("bank, first start", f"{cache_info().bytes / 2**20:.0f} MiB in {cache_info().files} files")
    load_bank(backbone, vocabulary)
    steps.done("bank, second start")


def main() -> None:
    """Print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--model", default="embedded/vit-s8")
    parser.add_argument("--image", default="sample_images/photographs/chelsea.png")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "clipmk-million")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--explanations", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ["CLIPMK_CACHE_DIR"] = str(arguments.folder)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    steps = Steps()
    backbone = clipmk.load(arguments.model, device="cpu")
    steps.done("model")
    vocabulary = read_vocabulary(arguments.folder, arguments.count, steps)
    build(backbone, vocabulary, steps)
    picture = read_picture(arguments.image)
    for name in ("default", "paper"):
        explainer = Explainer(backbone, vocabulary, preset(name))
        steps.done(f"explainer, {name}")
        for number in range(arguments.explanations):
            found = explainer.explain([picture])[0]
            steps.done(f"explanation {number + 1}, {name}", found.vision_concepts[0].text)


if __name__ == "__main__":
    main()
