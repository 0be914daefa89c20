"""What an explanation costs beyond its forwards: `python tools/bench/explain.py`.

A table of ratios in one run, baseline and candidate in turns, medians of the ratios; on a CPU also
against the time that the candidate itself spends inside its image forwards:

- `paper`, one warm explanation against the bare time of its 1 + 3L forwards (one by one on a CPU, in one batch else);
- `default`, one warm explanation against one bare forward;
- `default`, a batch of squares through `Explainer.stream` against `encode_images` of the same batch;
- JPEG files through `Explainer.stream`, both presets, against `encode_images` of as many images;
- `paper` against a plain loop in the manner of the reference implementation (`reference_loop.py`): one image at a time,
  15 PIL prompts encoded one by one, the candidates' descriptors encoded anew at 77 tokens, 1,000 Sinkhorn rounds, a
  full SVD. What both find is compared in the same run.

Weights are random, the same for all: times do not depend on them, but for how many parts they find, which is counted.
`--clock cpu` counts the processor seconds of this process, in all its threads, instead of wall time: with `--threads 1`
that is what a quiet machine's wall clock would say, and the only honest number on a busy one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from reference_loop import ReferenceLoop

import clipmk
from clipmk.backbones.backbone import Backbone
from clipmk.errors import ClipmkError
from clipmk.explanation import Explanation
from clipmk.images.decoder import Picture, read_picture
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset

PHOTOGRAPHS = Path(__file__).parents[2] / "sample_images" / "photographs"
WIDTH, HEIGHT = 500, 375
"""Of the JPEG files: the usual size of ImageNet's."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table."""

    name: str
    ratio: float
    """Of the candidate's time and the baseline's, or of their throughputs."""
    words: str
    """What the baseline is."""
    seconds: float | None = None
    """Of the candidate."""
    wanted: str = ""

    def __str__(self) -> str:
        return f"{self.name:22}{self.ratio:6.3f} {self.words}{f'; wanted {self.wanted}' if self.wanted else ''}"


@dataclass(frozen=True, slots=True)
class Bench:
    """A model, what it is measured with, and the clock."""

    backbone: Backbone
    default: Explainer
    paper: Explainer
    clock: Callable[[], float]
    rounds: int
    batch: int

    def seconds(self, work: Callable[[], object]) -> float:
        """What one call takes, whatever it left running on the device included."""
        started = self.clock()
        work()
        if self.backbone.device.type == "cuda":
            torch.cuda.synchronize(self.backbone.device)
        return self.clock() - started

    def ratio(self, work: Callable[[], object], bare: Callable[[], object]) -> tuple[float, float]:
        """Medians of time ratio and bare seconds, measured in turns after one round that warms both."""
        work()
        pairs = [(self.seconds(bare), self.seconds(work)) for _ in range(self.rounds)]
        return statistics.median(w / b for b, w in pairs), statistics.median(b for b, _ in pairs)

    def beyond(self, work: Callable[[], object]) -> float:
        """What one call takes as a multiple of what it spends inside its own image forwards, median.

        Free of the noise between two measurements; means nothing where forwards are only queued (CUDA).
        """
        encoder = self.backbone.images
        plain, inside = encoder.embed, 0.0
        clock = time.thread_time if self.clock is time.process_time else self.clock

        def timed(pixels: torch.Tensor) -> torch.Tensor:
            nonlocal inside
            started = clock()
            found: torch.Tensor = plain(pixels)
            inside += clock() - started
            return found

        ratios = []
        encoder.embed = timed  # type: ignore[method-assign]
        try:
            for _ in range(self.rounds):
                inside = 0.0
                ratios.append(self.seconds(work) / inside)
        finally:
            del encoder.embed
        return statistics.median(ratios)

    def encode(self, forwards: int, batch: int) -> None:
        """Encode as many images as asked, of which nothing has to be prepared."""
        side = self.backbone.info.input_size
        pixels = torch.zeros(
            min(batch, forwards), 3, side, side, device=self.backbone.device, dtype=self.backbone.dtype
        )
        for start in range(0, forwards, batch):
            self.backbone.encode_images(pixels[: forwards - start])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16:random")
    parser.add_argument("--vocab", default="imagenet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=8, help="JPEG files in a stream; 0 leaves streams out")
    parser.add_argument("--only", choices=["default", "paper"], help="measure only this preset")
    parser.add_argument("--no-loop", action="store_true", help="leave the plain loop out: it takes a minute on a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = make_bench(arguments)
    subject = f"{arguments.model}, {arguments.vocab}, {arguments.device}, {arguments.precision}"
    print(f"{subject}, {arguments.threads} threads, {arguments.clock} clock, {arguments.rounds} rounds", flush=True)
    presets = [arguments.only] if arguments.only else ["paper", "default"]
    for measure in measures(bench, presets, images=arguments.images, loop=not arguments.no_loop):
        print(measure, flush=True)


def measures(bench: Bench, presets: Sequence[str], *, images: int, loop: bool) -> Iterator[Measure]:
    """All rows, each as soon as it is measured.

    Args:
        bench: what to measure with.
        presets: which to measure.
        images: JPEG files in a stream; 0 leaves streams out.
        loop: measure the plain loop, too.
    """
    if "paper" in presets:
        yield from measure_paper(bench)
    if "default" in presets:
        yield from measure_default(bench)
        yield from measure_batch(bench)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), max(images, 1))
        if images:
            yield from measure_streams(bench, presets, paths)
        if loop and "paper" in presets:
            yield measure_loop(bench, paths[0])


def make_bench(arguments: argparse.Namespace) -> Bench:
    """Load the model once, for us and for the plain loop."""
    backbone = clipmk.load(arguments.model, device=arguments.device, precision=arguments.precision)
    default = Explainer(backbone, clipmk.load_vocabulary(arguments.vocab), preset("default"))
    return Bench(
        backbone=backbone,
        default=default,
        paper=default.with_settings(preset("paper")),
        clock=time.process_time if arguments.clock == "cpu" else time.perf_counter,
        rounds=arguments.rounds,
        batch=arguments.batch,
    )


def measure_paper(bench: Bench) -> Iterator[Measure]:
    """One warm explanation."""
    picture = read_picture(PHOTOGRAPHS / "chelsea.png")
    parts = len(bench.paper.explain([picture])[0].parts)
    forwards = 1 + 3 * parts
    together = 1 if bench.backbone.device.type == "cpu" else forwards

    def encode() -> None:
        bench.encode(1, 1)
        bench.encode(forwards - 1, together)

    ratio, bare = bench.ratio(lambda: bench.paper.explain([picture]), encode)
    yield Measure(
        "paper, one image", ratio, f"of its {forwards} bare forwards ({1_000 * bare:.1f} ms)", ratio * bare, "<= 1.05"
    )
    yield from measure_beyond(bench, lambda: bench.paper.explain([picture]))


def measure_default(bench: Bench) -> Iterator[Measure]:
    """One warm explanation."""
    picture = read_picture(PHOTOGRAPHS / "chelsea.png")
    ratio, bare = bench.ratio(lambda: bench.default.explain([picture]), lambda: bench.encode(1, 1))
    yield Measure("default, one image", ratio, f"of one bare forward ({1_000 * bare:.1f} ms)", ratio * bare, "<= 1.08")
    yield from measure_beyond(bench, lambda: bench.default.explain([picture]))


def measure_batch(bench: Bench) -> Iterator[Measure]:
    """Squares that are there already, masked pooling, one batch."""
    squares = [read_picture(bench.default.square(read_picture(path))) for path in sorted(PHOTOGRAPHS.iterdir())]
    pictures = [squares[number % len(squares)] for number in range(bench.batch)]

    def explain() -> None:
        explained(bench.default.stream(pictures, read=as_it_is, batch_size=bench.batch, keep_pictures=False))

    ratio, bare = bench.ratio(explain, lambda: bench.encode(bench.batch, bench.batch))
    yield Measure(
        f"default, batch of {bench.batch}", ratio, f"of the bare batch ({bare:.3f} s)", ratio * bare, "<= 1.08"
    )


def measure_streams(bench: Bench, presets: Sequence[str], paths: list[Path]) -> Iterator[Measure]:
    """JPEG files, decoding included."""
    alone = bench.backbone.device.type == "cpu"
    size = 1 if alone else bench.batch
    for name in presets:
        explainer = bench.default if name == "default" else bench.paper
        found = explained(explainer.stream(paths, keep_pictures=False))
        prompts = 3 * sum(len(one.parts) for one in found) if name == "paper" else 0
        forwards = len(paths) + prompts
        ratio, bare = bench.ratio(
            lambda e=explainer: explained(e.stream(paths, keep_pictures=False)),  # type: ignore[misc]
            lambda n=forwards: bench.encode(n, size),  # type: ignore[misc]
        )
        wanted = ">= 0.92" if name == "default" else ">= 0.85"
        words = f"of bare encode_image throughput, {forwards} forwards of {len(paths)} JPEG files ({bare:.2f} s)"
        yield Measure(f"{name}, stream", 1 / ratio, words, ratio * bare, wanted)


def measure_loop(bench: Bench, path: Path) -> Measure:
    """The plain loop, what it takes and whether it says the same."""
    loop = ReferenceLoop(bench.backbone, bench.paper.vocabulary, untrimmed(bench))
    picture = read_picture(path)
    ours = bench.seconds(lambda: bench.paper.explain([picture]))
    expected = bench.paper.explain([picture])[0]
    started = bench.clock()
    said = loop.explain(path)
    plain = bench.clock() - started
    same = said.concepts == tuple(concept.text for concept in expected.vision_concepts)
    equal = same and said.predicted == expected.class_name and said.forwards == 1 + 3 * len(expected.parts)
    return Measure(
        "paper, plain loop", plain / ours, f"times our {ours:.2f} s; equal results: {'yes' if equal else 'NO'}"
    )


def untrimmed(bench: Bench) -> Callable[[list[str]], torch.Tensor]:
    """Encode texts as open_clip's own examples do, with the same weights: all 77 tokens, one batch."""
    import open_clip  # noqa: PLC0415

    module = bench.backbone._texts._model  # noqa: SLF001 - the very same weights
    words = open_clip.SimpleTokenizer(context_length=int(module.context_length))

    @torch.inference_mode()
    def encode(texts: list[str]) -> torch.Tensor:
        raw = module.encode_text(words(texts).to(bench.backbone.device))
        return torch.nn.functional.normalize(raw.float(), dim=-1)

    return encode


def as_it_is(picture: Picture) -> Picture:
    """A source that is decoded already."""
    return picture


def explained(results: Any) -> list[Explanation]:
    """All of a stream.

    Raises:
        ClipmkError: one of them failed.
    """
    found = list(results)
    for one in found:
        if isinstance(one, ClipmkError):
            raise one
    return found


def write_images(folder: Path, count: int) -> list[Path]:
    """Photographs as JPEG files, each a little different."""
    sources = [np.asarray(Image.open(path).convert("RGB").resize((WIDTH, HEIGHT))) for path in PHOTOGRAPHS.iterdir()]
    paths = []
    for number in range(count):
        paths.append(folder / f"{number:04d}.jpg")
        Image.fromarray(np.roll(sources[number % len(sources)], number, axis=1)).save(paths[-1], quality=90)
    return paths


def measure_beyond(bench: Bench, work: Callable[[], object]) -> Iterator[Measure]:
    """The same by another way, on a CPU."""
    if bench.backbone.device.type == "cpu":
        yield Measure("", bench.beyond(work), "of the time inside its own forwards")


if __name__ == "__main__":
    main()
