"""Studies of random numbers: shards that follow the schemas, without any model."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmk.concepts.mutual import measure
from clipmk.datasets.entries import DatasetInfo
from clipmk.records import ModelInfo
from clipmk.settings import preset
from clipmk.study.manifest import Manifest, StudyFolder, VocabularyInfo, write_manifest
from clipmk.study.schema import IMAGE, LANGUAGE, PLAN
from clipmk.system.parquet import write_rows

POOL = (
    ("ViT-B-32-quickgelu", "openai", "vit", 0.62),
    ("ViT-B-16-quickgelu", "openai", "vit", 0.68),
    ("ViT-B-32", "datacomp_xl_s13b_b90k", "vit", 0.69),
    ("ViT-B-16", "datacomp_xl_s13b_b90k", "vit", 0.73),
    ("ViT-L-14-quickgelu", "openai", "vit", 0.75),
    ("ViT-L-14-336-quickgelu", "openai", "vit", 0.76),
    ("ViT-B-16-quickgelu", "dfn2b", "vit", 0.77),
    ("RN50-quickgelu", "openai", "resnet", 0.58),
    ("RN101-quickgelu", "openai", "resnet", 0.61),
    ("RN50x4-quickgelu", "openai", "resnet", 0.65),
    ("RN50x16-quickgelu", "openai", "resnet", 0.70),
    ("convnext_base", "laion400m_s13b_b51k", "convnext", 0.65),
    ("convnext_base_w_320", "laion_aesthetic_s13b_b82k", "convnext", 0.71),
)
"""(architecture, pretrained, family, share of images predicted right) of every model: the paper's pool."""

WAYS = ("kmeans", "pca")
LANGUAGE_COUNT = 8
VISION_LIMIT = 15
TOGETHER = 5
DESCRIPTORS = 500
COLOURS = ("red", "green", "striped", "spotted", "long", "round", "pointed", "grey", "shiny", "woolly")
NOUNS = ("wheels", "ears", "leaves", "windows", "a tail", "a beak", "petals", "legs", "a roof", "a handle")


def class_names(count: int) -> list[str]:
    """Made-up class names, the nastiest first."""
    return ["<b>cat & dog</b>", "a $5 note", *(f"class {number:02d}" for number in range(2, count))][:count]


def descriptors(count: int = DESCRIPTORS) -> list[str]:
    return [f"{COLOURS[i % 10]} {NOUNS[i // 10 % 10]}" + (f" no. {i // 100}" if i >= 100 else "") for i in range(count)]


def models(pool: tuple[tuple[str, str, str, float], ...] = POOL) -> tuple[ModelInfo, ...]:
    return tuple(
        ModelInfo(
            id=f"{architecture}:{pretrained}",
            family=family,
            weights_sha256=f"{number:064x}",
            architecture=architecture,
            pretrained=pretrained,
            input_size=224,
        )
        for number, (architecture, pretrained, family, _) in enumerate(pool)
    )


def make_manifest(
    *, pool: tuple[tuple[str, str, str, float], ...] = POOL, images: int = 60, classes: int = 6, shard_size: int = 20
) -> Manifest:
    return Manifest(
        dataset=DatasetInfo(
            name="scenes", kind="folder", images=images, labelled=images, classes=classes, fingerprint="ab" * 32
        ),
        vocabulary=VocabularyInfo(
            name="world",
            sha256="cd" * 32,
            classes=classes,
            descriptors=DESCRIPTORS,
            templates=("a photo of a {}.",),
            descriptor_template="a photo showing {}",
        ),
        models=models(pool),
        parts=WAYS,
        settings=asdict(preset("paper", fit="batch")),
        shards=-(-images // shard_size),
        shard_size=shard_size,
        batch_size=32,
        device="cpu",
        dtype="float32",
        threads=2,
        versions={"clipmk": "0.1.0", "torch": "2.9.0", "open_clip": "3.2.0"},
    )


def write_study(
    root: Path, manifest: Manifest, *, pool: tuple[tuple[str, str, str, float], ...] = POOL, seed: int = 0
) -> StudyFolder:
    """A whole study: manifest, D_y and all shards; every 17th image is unlabelled and every 29th broken."""
    folder = StudyFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest, folder.manifest)
    write_plan(folder, manifest)
    names = class_names(manifest.vocabulary.classes)
    for model, (*_, skill) in zip(manifest.models, pool, strict=True):
        tied = write_language(folder, manifest, model, names, seed)
        for number in range(manifest.shards):
            rng = np.random.default_rng([seed, manifest.models.index(model), number])
            rows: list[dict[str, Any]] = []
            first = number * manifest.shard_size
            for image in range(first, min(manifest.dataset.images, first + manifest.shard_size)):
                label = None if image % 17 == 3 else names[image * len(names) // manifest.dataset.images]
                if image % 29 == 7:
                    rows += [failed_row(image, way, model=model.id, label=label) for way in manifest.parts]
                else:
                    rows += _image_rows(rng, image, label, model.id, manifest.parts, tied, skill)
            write_shard(folder, manifest, model, number, rows)
    return folder


def write_plan(folder: StudyFolder, manifest: Manifest) -> None:
    """Groups of `TOGETHER` images."""
    rows = [dict.fromkeys(PLAN.names) | {"image": i, "group": i // TOGETHER} for i in range(manifest.dataset.images)]
    write_rows(rows, folder.plan, PLAN, manifest.made_of())


def write_language(
    folder: StudyFolder, manifest: Manifest, model: ModelInfo, names: list[str], seed: int = 0
) -> dict[str, list[str]]:
    rng = np.random.default_rng([seed, len(model.id)])
    tied = {name: [descriptors()[i] for i in rng.permutation(DESCRIPTORS)[:LANGUAGE_COUNT]] for name in names}
    rows = [
        {"class": name, "rank": rank, "descriptor": descriptor, "cosine": 0.3 - 0.01 * rank}
        for name, nearest in tied.items()
        for rank, descriptor in enumerate(nearest, 1)
    ]
    write_rows(rows, folder.language(model.id), LANGUAGE, manifest.made_of(model))
    return tied


def write_shard(
    folder: StudyFolder, manifest: Manifest, model: ModelInfo, number: int, rows: list[dict[str, Any]]
) -> None:
    write_rows(rows, folder.shard(model.id, number), IMAGE, manifest.made_of(model))


def shorten(path: Path, column: str) -> None:
    """Take the last element of every list of a column away."""
    rows = pq.read_table(path)
    place = rows.schema.get_field_index(column)
    lists = pa.array([one and one[:-1] for one in rows[column].to_pylist()], rows.schema.field(place).type)
    pq.write_table(rows.set_column(place, rows.schema.field(place), lists), path)


def image_row(
    image: int,
    parts: str,
    seen: list[str],
    tied: list[str],
    *,
    label: str | None = "a",
    predicted: str = "a",
    model: str = "m",
    rank: int | None = None,
) -> dict[str, Any]:
    """A row whose numbers follow from D_v and D_y."""
    flags = [concept in tied for concept in seen]
    found = measure(flags, language_count=len(tied), vocabulary_size=DESCRIPTORS, length=VISION_LIMIT + 1)
    return {
        "image": image,
        "key": f"{image:05d}.jpg",
        "label": label,
        "model": model,
        "parts": parts,
        "predicted": predicted,
        "correct": None if label is None else label == predicted,
        "label_rank": rank if rank is not None or label is None else 1 if label == predicted else 3,
        "probability": 0.5 + found.count / 50,
        "label_probability": None if label is None else 0.5,
        "part_count": 5,
        "vision_count": len(seen),
        "language_count": len(tied),
        "mutual_count": found.count,
        "mi_paper": found.mi_paper,
        "mi_textbook": found.mi_textbook,
        "auc": found.auc,
        "auc_unpadded": found.auc_unpadded,
        "chance_mi": found.chance.mi_paper,
        "chance_auc": found.chance.auc,
        "p_value": found.p_value,
        "curve": list(found.curve),
        "vision_concepts": seen,
        "importance": [1.0 - 0.01 * i for i in range(len(seen))],
        "mutual": flags,
        "warnings": [],
    }


def failed_row(image: int, parts: str, *, model: str = "m", label: str | None = "a") -> dict[str, Any]:
    return {
        "image": image,
        "key": f"{image:05d}.jpg",
        "label": label,
        "model": model,
        "parts": parts,
        "error": f"image '{image:05d}.jpg' is truncated",
    }


def smaller(manifest: Manifest, *, models: int) -> Manifest:
    return replace(manifest, models=manifest.models[:models])


def _image_rows(
    rng: np.random.Generator,
    image: int,
    label: str | None,
    model: str,
    ways: tuple[str, ...],
    tied: dict[str, list[str]],
    skill: float,
) -> list[dict[str, Any]]:
    wrong = str(rng.choice(list(tied)))
    predicted = label if label is not None and rng.random() < skill else wrong
    rank = None if label is None else 1 if label == predicted else int(rng.integers(2, 9))
    rows = []
    for way in ways:
        mutual = int(rng.binomial(LANGUAGE_COUNT, 0.05 + 0.6 * (skill - 0.5) + (0.15 if label == predicted else 0)))
        shared = [str(one) for one in rng.choice(tied[predicted], mutual, replace=False)]
        others = [one for one in descriptors() if one not in tied[predicted]]
        size = int(rng.integers(10, VISION_LIMIT + 1))
        drawn = [str(one) for one in rng.choice(others, size - mutual, replace=False)]
        seen = [str(one) for one in rng.permutation(shared + drawn)]
        rows.append(
            image_row(image, way, seen, tied[predicted], model=model, label=label, predicted=predicted, rank=rank)
        )
    return rows
