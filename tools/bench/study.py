"""Throughput of a study against the bare model and against a plain loop: `python tools/bench/study.py`.

Three rates in one run, in turns, so that a busy machine slows all alike:

- the study: `paper` preset, k-means and PCA, JPEG files decoded, batch-fitted by class, one shard (what engines do);
- bare: `encode_images` on tensors that are there already, as many forwards (1 + 3L per way and image, the image's own
  once) at the same batch size;
- a plain loop in the manner of the reference implementation: one image at a time, k-means only, 15 PIL prompts encoded
  one by one, up to 500 candidate descriptors encoded anew for every image at the full context, SVD, 1,000 Sinkhorn
  rounds.

Times do not depend on the weights, so they are random; how many parts random features give is counted, not assumed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from PIL import Image
from reference_loop import ReferenceLoop

from clipmk.backbones.backbone import Backbone
from clipmk.datasets.opening import open_dataset
from clipmk.models.loading import describe
from clipmk.settings import preset
from clipmk.study.manifest import StudyFolder, StudyRequest
from clipmk.study.resolve import resolve_manifest
from clipmk.study.shard_worker import ShardWorker, StudyTask
from clipmk.vocabulary.vocabulary import load_vocabulary

PHOTOGRAPHS = Path(__file__).parents[2] / "sample_images" / "photographs"
WIDTH, HEIGHT = 500, 375
"""Of the JPEG files: the usual size of ImageNet's."""


def main() -> None:
    """Print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32:random")
    parser.add_argument("--vocab", default="imagenet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop-images", type=int, default=1, help="images of the plain loop; 0 leaves it out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a study takes beside its bare forwards."""

    forwards: float
    """Per image."""
    bare: float
    """Seconds an image, median."""
    study: float
    """Seconds an image, median."""
    share: float
    """Of the bare throughput: median of the ratios."""

    def __str__(self) -> str:
        return "\n".join(
            [
                f"forwards per image     {self.forwards:8.1f}",
                f"bare encode_image      {self.bare:8.3f} s an image",
                f"study                  {self.study:8.3f} s an image, {self.share:.2f} of the bare throughput",
            ]
        )


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Make a dataset, run all three in turns, print."""
    rates, backbone = measure_rates(folder, arguments)
    print(f"{arguments.model}, {arguments.device}, {arguments.precision}, {arguments.threads} threads, "
          f"batch {arguments.batch_size}, {arguments.images} images, {arguments.rounds} rounds")  # fmt: skip
    print(rates)
    if arguments.loop_images:
        report_loop(backbone, folder, arguments, rates.study / 2)  # k-means alone; the study finds parts by PCA, too


def measure_rates(folder: Path, arguments: argparse.Namespace) -> tuple[Rates, Backbone]:
    """Study and bare forwards in turns, over JPEG files made in `folder`."""
    write_images(folder / "images" / load_vocabulary(arguments.vocab).classes[0], arguments.images)
    task = make_task(folder, arguments)
    with contextlib.closing(ShardWorker(task, [arguments.model])) as worker:
        backbone = worker.explainers[arguments.model].encoder.backbone

        def run_study() -> None:
            list(worker.work(worker.prepare(0), [arguments.model]))

        run_study()  # warm
        forwards = count_forwards(task.request.folder, arguments.model)
        study, bare = [], []
        for _ in range(arguments.rounds):
            bare.append(seconds(lambda: encode_bare(backbone, forwards, arguments.batch_size)))
            study.append(seconds(run_study))
    rates = Rates(
        forwards=forwards / arguments.images,
        bare=statistics.median(bare) / arguments.images,
        study=statistics.median(study) / arguments.images,
        share=statistics.median(b / s for b, s in zip(bare, study, strict=True)),
    )
    return rates, backbone


def report_loop(backbone: Backbone, folder: Path, arguments: argparse.Namespace, study: float) -> None:
    """Time the plain loop and print it beside the study's time per image and way."""
    loop = ReferenceLoop(backbone, load_vocabulary(arguments.vocab), untrimmed(arguments.model, arguments.device))
    paths = sorted((folder / "images").rglob("*.jpg"))[: arguments.loop_images]
    plain = seconds(lambda: [loop.explain(path) for path in paths]) / len(paths)
    times = plain / study
    print(f"plain loop             {plain:8.3f} s an image and way; study {study:.3f}, {times:.1f} times as fast")


def untrimmed(model: str, device: str) -> Callable[[list[str]], torch.Tensor]:
    """Encode texts as open_clip's own examples do: all 77 tokens, one batch."""
    import open_clip  # noqa: PLC0415 - only here

    name = model.partition(":")[0]
    module, words = open_clip.create_model(name).eval().to(device), open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def encode(texts: list[str]) -> torch.Tensor:
        return torch.nn.functional.normalize(module.encode_text(words(texts).to(device)).float(), dim=-1)

    return encode


def write_images(folder: Path, count: int) -> None:
    """Photographs as JPEG files, each a little different."""
    folder.mkdir(parents=True)
    sources = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.iterdir())]
    for number in range(count):
        image = sources[number % len(sources)].resize((WIDTH, HEIGHT))
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT if number % 8 > 3 else Image.Transpose.ROTATE_180).save(
            folder / f"{number:04d}.jpg", quality=90
        )


def make_task(folder: Path, arguments: argparse.Namespace) -> StudyTask:
    """A study of one shard, as `clipmk study` makes it."""
    place = StudyFolder(folder / "study")
    place.root.mkdir()
    request = StudyRequest(
        folder=place,
        dataset=open_dataset(str(folder / "images")),
        models=(arguments.model,),
        vocabulary=load_vocabulary(arguments.vocab),
        settings=preset("paper", fit="batch"),
        shard_size=max(128, arguments.images),
        batch_size=arguments.batch_size,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    manifest, _ = resolve_manifest(request, [describe(arguments.model)[0]])
    return StudyTask(request=request, manifest=manifest, device=arguments.device, threads=arguments.threads)


def count_forwards(folder: StudyFolder, model: str) -> int:
    """Images encoded for the shard: each once, and three prompts of every part of every way."""
    table = pq.read_table(folder.shard(model, 0), columns=["image", "part_count"])
    return len(set(table["image"].to_pylist())) + 3 * int(sum(table["part_count"].to_pylist()))


@torch.inference_mode()
def encode_bare(backbone: Backbone, forwards: int, batch_size: int) -> None:
    """Encode as many images as asked, of which nothing has to be prepared."""
    side = backbone.info.input_size
    pixels = torch.randn(batch_size, 3, side, side, device=backbone.device, dtype=backbone.dtype)
    for start in range(0, forwards, batch_size):
        backbone.encode_images(pixels[: forwards - start])
    if backbone.device.type == "cuda":
        torch.cuda.synchronize(backbone.device)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
