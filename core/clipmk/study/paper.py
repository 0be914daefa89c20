"""The paper's table of 13 models (ImageNet validation set), and how a study compares with it.

Sammani & Deligiannis, NeurIPS 2024 (arXiv 2410.13016).
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clipmk.concepts.mutual import PAPER_LANGUAGE_COUNT, PAPER_VOCABULARY_SIZE
from clipmk.concepts.statistics import LineFit, fit_line
from clipmk.settings import preset
from clipmk.study.manifest import Manifest
from clipmk.study.schema import TableRow
from clipmk.system.locations import json_asset
from clipmk.system.text import counted

PART_METHODS: Final = ("pca", "kmeans")  # the paper's part methods, in the order of its table
IMAGES: Final = 50_000
CLASSES: Final = 1_000
DESCRIPTOR_TEMPLATE: Final = "a photo showing {}"
PRINTED_FIT: Final = (11.24, 25.97)
"""Slope and intercept printed in the paper for its ViTs; its rounded table gives 11.25 and 25.90 (r = 0.91)."""

_ANY: Final = ("parts", "seed", "preset")
"""Settings with their own message, or that the paper does not specify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """A row of the paper's table, `assets/paper13.json`."""

    family: str
    architecture: str
    """open_clip's name; the last one in the table is inferred."""
    pretrained: str
    top1_percent: float
    mi_pca: float
    mi_kmeans: float
    auc_pca: float
    auc_kmeans: float


NUMBERS: Final = {
    "top1_percent": ("top1", None),
    "mi_pca": ("mi_paper", "pca"),
    "mi_kmeans": ("mi_paper", "kmeans"),
    "auc_pca": ("auc", "pca"),
    "auc_kmeans": ("auc", "kmeans"),
}
"""Numbers of the paper's table -> column and part method in the table `models`; None: any part method."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A number of the paper beside ours; None if the study has none."""

    paper: float
    ours: float | None
    difference: float | None
    """Ours - paper."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A model of the paper that is also in the study."""

    model: str
    """Its id in the study."""
    published: PublishedModel
    numbers: dict[str, Compared]
    """By the names of `NUMBERS`."""


@functools.cache
def published_models() -> tuple[PublishedModel, ...]:
    """The rows of the paper's table, in its order."""
    return tuple(PublishedModel(**row) for row in json_asset("paper13.json"))


def against_paper(models: Sequence[TableRow]) -> list[PaperRow]:
    """The published numbers beside those of a study (table `models`), for every model in both, in the paper's order.

    Models are the same if architecture and pretrained tag are; open_clip runs OpenAI's weights under both names
    (`ViT-B-32` and `ViT-B-32-quickgelu`) with the same activation.
    """
    found = []
    for published in published_models():
        names = {published.architecture}
        if published.pretrained == "openai":
            names.add(published.architecture.removesuffix("-quickgelu"))
        same = [row for row in models if row["pretrained"] == published.pretrained and row["architecture"] in names]
        if same:
            found.append(PaperRow(same[0]["model"], published, _compared(published, same)))
    return found


def published_fit(family: str, models: Sequence[PublishedModel]) -> LineFit | None:
    """top-1 = a · AUC + b through published models of a family, AUC as mean over methods; None for fewer than four."""
    members = [model for model in models if model.family == family]
    auc = [(model.auc_pca + model.auc_kmeans) / 2 for model in members]
    return fit_line(family, auc, [model.top1_percent for model in members])


def departures(manifest: Manifest) -> Iterator[str]:
    """How a study differs from the paper's, one line each: dataset, vocabulary, settings."""
    data, words = manifest.dataset, manifest.vocabulary
    if (data.images, data.classes) != (IMAGES, CLASSES):
        yield (
            f"dataset: {counted(data.images, 'image')} of {counted(data.classes, 'class', 'classes')} ({data.name}); "
            f"the paper's is the ImageNet validation set, {IMAGES:,} images of {CLASSES:,} classes"
        )
    if words.classes != CLASSES:
        yield f"vocabulary: {counted(words.classes, 'class', 'classes')} ({words.name}); the paper has {CLASSES:,}"
    if words.descriptors != PAPER_VOCABULARY_SIZE:
        count = counted(words.descriptors, "descriptor")
        yield f"vocabulary: {count} ({words.name}); the paper has {PAPER_VOCABULARY_SIZE:,}"
    else:
        yield "vocabulary: as many descriptors as the paper has; clipmk cannot know whether they are the same words"
    if len(words.templates) != 8:
        yield f"vocabulary: {counted(len(words.templates), 'prompt template')}; the paper has 8 for ImageNet"
    if words.descriptor_template != DESCRIPTOR_TEMPLATE:
        yield f"vocabulary: descriptors as {words.descriptor_template!r}; the paper has {DESCRIPTOR_TEMPLATE!r}"
    if set(manifest.parts) != set(PART_METHODS):
        yield f"parts: found by {', '.join(manifest.parts)}; the paper has pca and kmeans"
    paper = dataclasses.asdict(preset("paper", fit="batch"))  # the reference code fits the images of a class together
    for name, value in paper.items():
        ours = manifest.settings.get(name, value)
        same = (value, PAPER_LANGUAGE_COUNT) if name == "language_count" else (value,)
        if name not in _ANY and ours not in same:
            yield f"settings: {name} is {ours!r}; the paper preset of a study has {value!r}"


def _compared(published: PublishedModel, rows: Sequence[TableRow]) -> dict[str, Compared]:
    """The numbers of a published model beside those of its rows in the study."""
    found = {}
    for name, (column, parts) in NUMBERS.items():
        value = next((row[column] for row in rows if parts in {None, row["parts"]}), None)
        paper, ours = getattr(published, name), value if value is None or column != "top1" else 100 * value
        found[name] = Compared(paper, ours, None if ours is None else ours - paper)
    return found
