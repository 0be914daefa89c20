"""Opening, sorting and filtering a large study's table of images: `python tools/bench/browse.py`.

A synthetic study, written by Arrow as a study writes it: random predictions, numbers and concepts. Each time is the
median of some rounds, in a process of its own that has read nothing before but the modules; memory is its largest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipmk.browse.filters import quote
from clipmk.browse.study_table import StudyTable
from clipmk.datasets.entries import DatasetInfo
from clipmk.records import ModelInfo
from clipmk.settings import preset
from clipmk.study.manifest import Manifest, StudyFolder, VocabularyInfo, write_manifest
from clipmk.study.schema import PLAN, images_schema
from clipmk.study.tables import _ROWS
from clipmk.system.parquet import table_writer

CLASSES, DESCRIPTORS, SEEN, SHARD = 1000, 4772, 40, 128


def main() -> None:
    """Write a study, then measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: of all threads, on a busy machine"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder), arguments.images, arguments.models)
        size = (Path(folder) / "tables" / "images.parquet").stat().st_size
        print(f"{arguments.images:,} images x {arguments.models} models, table of {size / 1e6:.0f} MB")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
            found = processes.starmap(measure, [(folder, arguments.clock)] * arguments.rounds, chunksize=1)
    for name in found[0]:
        print(f"{name:<42} {statistics.median(one[name] for one in found):8.1f}")


def measure(folder: str, clock: str) -> dict[str, float]:
    """Milliseconds and megabytes of one process."""
    before, now = peak(), time.process_time if clock == "cpu" else time.perf_counter
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        started = now()
        work()
        times[f"{name}, ms"] = 1000 * (now() - started)

    started = now()
    table = StudyTable(folder)
    places = table.choose()
    first = [table.row(place) for place in places[:30].tolist()]
    times["open, list and show 30 rows, ms"] = 1000 * (now() - started)
    timed("30 other rows", lambda: [table.row(place) for place in places[-len(first) :].tolist()])
    for sort in ("prob", "b.p", "truth", "agree", "differs"):
        timed(f"sort by {sort}", partial(table.choose, "", sort, descending=True))
    one, other, *_ = table.concepts
    texts = ("wrong a != b", "p < .05 not m > 3", f"concept:{quote(one)}", f"seen:{quote(other)} only a", "00123")
    for text in (*texts, 'class:"class 007" not predicted:"class 007"'):
        timed(f"filter {text}"[:38], partial(table.choose, text, "prob"))
    timed("counts of classes", lambda: table.class_counts(places))
    timed("counts of concepts", lambda: table.concept_counts(places))
    table.use(table.models[-1], table.a)
    timed("another model", lambda: table.row(0))
    times["memory, MB"] = peak() - before
    return times


def peak() -> float:
    """Largest memory of this process so far, in MB; `ru_maxrss` would count the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def write_study(root: Path, images: int, models: int) -> None:
    """Manifest, plan and the table of images."""
    folder, rng = StudyFolder(root), np.random.default_rng(0)
    manifest = manifest_of(images, models)
    write_manifest(manifest, folder.manifest)
    labels = rng.integers(0, CLASSES, images)
    names = pa.array([f"class {number:03d}" for number in range(CLASSES)])
    keys = pa.array([f"n{label:08d}/ILSVRC2012_val_{place:08d}.JPEG" for place, label in enumerate(labels.tolist())])
    number = np.arange(images)
    plan = {
        "image": number,
        "key": keys,
        "label": names.take(pa.array(labels)),
        "path": keys,
        "offset": pa.nulls(images),
        "size": np.full(images, 1e5, np.int64),
        "group": number,
        "shard": number // SHARD,
    }
    with table_writer(folder.plan, PLAN, manifest.made_of()) as writer:
        writer.write_table(pa.table(plan).cast(PLAN), row_group_size=SHARD)
    schema = images_schema(())
    descriptors = pa.array([f"a descriptor of some words, number {number}" for number in range(DESCRIPTORS)])
    with table_writer(folder.table("images"), schema, "bench") as writer:
        for model in manifest.models:
            for start in range(0, images, _ROWS):
                rows = slice(start, min(images, start + _ROWS))
                writer.write_table(rows_of(rng, model.id, number[rows], keys[rows], labels[rows], names, descriptors))


def rows_of(
    rng: np.random.Generator,
    model: str,
    number: np.ndarray,
    keys: pa.Array,
    labels: np.ndarray,
    names: pa.Array,
    descriptors: pa.Array,
) -> pa.Table:
    """Random rows of one model."""
    count, schema = len(number), images_schema(())
    predicted = np.where(rng.random(count) < 0.6, labels, rng.integers(0, CLASSES, count))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * SEEN)
    seen = np.concatenate([rng.choice(DESCRIPTORS, SEEN, replace=False) for _ in range(count)])
    mutual = rng.random(count * SEEN) < 0.1
    known = {
        "image": number,
        "key": keys,
        "label": names.take(pa.array(labels)),
        "model": pa.array([model]).take(pa.array(np.zeros(count, np.int64))),
        "parts": pa.array(["superpixels"]).take(pa.array(np.zeros(count, np.int64))),
        "predicted": names.take(pa.array(predicted)),
        "correct": predicted == labels,
        "mutual_count": mutual.reshape(count, SEEN).sum(axis=1).astype(np.int32),
        "class_swap_p": rng.integers(1, CLASSES, count) / CLASSES,
        "vision_concepts": pa.ListArray.from_arrays(offsets, descriptors.take(pa.array(seen))),
        "importance": pa.ListArray.from_arrays(offsets, pa.array(rng.random(count * SEEN))),
        "curve": pa.ListArray.from_arrays(offsets, pa.array(rng.random(count * SEEN))),
        "mutual": pa.ListArray.from_arrays(offsets, pa.array(mutual)),
    }
    numbers = {field.name: rng.random(count) for field in schema if field.type == pa.float64()}
    empty = {name: pa.nulls(count) for name in schema.names}
    columns = {**empty, **numbers, **known}
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def manifest_of(images: int, models: int) -> Manifest:
    """Of a study of one part method."""
    return Manifest(
        dataset=DatasetInfo(
            name="synthetic", kind="folder", images=images, labelled=images, classes=CLASSES, fingerprint="0" * 64
        ),
        vocabulary=VocabularyInfo(
            name="imagenet", sha256="0" * 64, classes=CLASSES, descriptors=DESCRIPTORS, templates=("a photo of a {}.",),
            descriptor_template="a photo showing {}",
        ),
        models=tuple(
            ModelInfo(id=f"model-{number}", family="vit", weights_sha256=f"{number:064x}", architecture="ViT-B-32",
                      pretrained=None, input_size=224)
            for number in range(models)
        ),
        parts=("superpixels",), settings=asdict(preset("default")), shards=-(-images // SHARD), shard_size=SHARD,
        batch_size=64, device="cpu", dtype="float32", threads=1, versions={},
    )  # fmt: skip


if __name__ == "__main__":
    main()
