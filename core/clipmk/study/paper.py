"""The paper's table of 13 models (ImageNet validation set), and how a study compares with it.

Sammani & Deligiannis, NeurIPS 2024 (arXiv 2410.13016).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clipmk.concepts.mutual import PAPER_LANGUAGE_COUNT, PAPER_VOCABULARY_SIZE
from clipmk.concepts.statistics import Fit, fit
from clipmk.settings import preset
from clipmk.study.manifest import Manifest
from clipmk.system.text import counted

PART_METHODS: Final = ("pca", "kmeans")
"""The paper's part methods, in the order of its table."""
IMAGES: Final = 50_000
CLASSES: Final = 1_000
DESCRIPTOR_TEMPLATE: Final = "a photo showing {}"
PRINTED_FIT: Final = (11.24, 25.97)
"""Slope and intercept printed in the paper for its ViTs; its rounded table gives 11.25 and 25.90 (r = 0.91)."""

_QUICK: Final = "-quickgelu"
_ANY: Final = ("parts", "seed", "preset")
"""Settings with their own message, or that the paper does not specify."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A row of the paper's table."""

    family: str
    architecture: str
    """open_clip's name; the last one in the table is inferred."""
    pretrained: str
    top1: float
    """Per cent."""
    mi: tuple[float, float]
    """With PCA and with k-means."""
    auc: tuple[float, float]

    @property
    def mean_auc(self) -> float:
        """What the paper plots: the mean over both part methods."""
        return sum(self.auc) / 2


_DATACOMP, _LAION, _AESTHETIC = "datacomp_xl_s13b_b90k", "laion400m_s13b_b51k", "laion_aesthetic_s13b_b82k"

PUBLISHED: Final = (
    PublishedModel("vit", "ViT-B-32-quickgelu", "openai", 61.66, (7.40, 7.26), (3.61, 3.39)),
    PublishedModel("vit", "ViT-B-16-quickgelu", "openai", 67.70, (7.50, 7.44), (3.62, 3.53)),
    PublishedModel("vit", "ViT-B-32", _DATACOMP, 68.88, (7.79, 7.65), (3.93, 3.70)),
    PublishedModel("vit", "ViT-B-16", _DATACOMP, 73.37, (7.68, 7.58), (3.99, 3.81)),
    PublishedModel("vit", "ViT-L-14-quickgelu", "openai", 74.77, (7.94, 7.89), (4.47, 4.37)),
    PublishedModel("vit", "ViT-L-14-336-quickgelu", "openai", 76.23, (7.96, 7.93), (4.51, 4.44)),
    PublishedModel("vit", "ViT-B-16-quickgelu", "dfn2b", 76.24, (8.19, 8.11), (4.62, 4.46)),
    PublishedModel("resnet", "RN50-quickgelu", "openai", 58.42, (7.14, 7.20), (3.23, 3.32)),
    PublishedModel("resnet", "RN101-quickgelu", "openai", 60.90, (7.43, 7.53), (3.49, 3.60)),
    PublishedModel("resnet", "RN50x4-quickgelu", "openai", 65.28, (7.53, 7.58), (3.84, 3.90)),
    PublishedModel("resnet", "RN50x16-quickgelu", "openai", 70.04, (7.51, 7.63), (3.85, 4.03)),
    PublishedModel("convnext", "convnext_base", _LAION, 65.36, (6.47, 6.66), (2.54, 2.80)),
    PublishedModel("convnext", "convnext_base_w_320", _AESTHETIC, 71.22, (7.16, 7.56), (3.19, 3.74)),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A number of the paper beside ours; None if the study has none."""

    paper: float
    ours: float | None

    @property
    def difference(self) -> float | None:
        """Ours - paper."""
        return None if self.ours is None else self.ours - self.paper


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A model of the paper that is also in the study."""

    model: str
    """Its id in the study."""
    published: PublishedModel
    top1: Compared
    """Per cent."""
    mi: tuple[Compared, Compared]
    """With PCA and with k-means."""
    auc: tuple[Compared, Compared]


def against_paper(models: Sequence[Mapping[str, Any]]) -> list[PaperRow]:
    """The published numbers beside those of a study, for every model in both, in the paper's order.

    Models are the same if architecture and pretrained tag are; open_clip runs OpenAI's weights under both names
    (`ViT-B-32` and `ViT-B-32-quickgelu`) with the same activation.

    Args:
        models: rows of the table `models`.
    """
    rows = []
    for published in PUBLISHED:
        ours = {row["parts"]: row for row in models if _same(published, row)}
        if ours:
            rows.append(_compared(published, ours))
    return rows


def published_fit(family: str, *, only: Sequence[PublishedModel] = PUBLISHED) -> Fit | None:
    """top-1 = a · AUC + b through the published models of a family; None for fewer than four."""
    members = [model for model in only if model.family == family]
    return fit(family, [model.mean_auc for model in members], [model.top1 for model in members])


def departures(manifest: Manifest) -> list[str]:
    """How a study differs from the paper's, one line each: data set, vocabulary, settings."""
    return [*_data(manifest), *_vocabulary(manifest), *_settings(manifest)]


def _same(published: PublishedModel, row: Mapping[str, Any]) -> bool:
    names = {published.architecture}
    if published.pretrained == "openai":
        names.add(published.architecture.removesuffix(_QUICK))
    return row["pretrained"] == published.pretrained and row["architecture"] in names


def _compared(published: PublishedModel, ours: Mapping[str, Mapping[str, Any]]) -> PaperRow:
    first = next(iter(ours.values()))

    def both(name: str, values: tuple[float, float]) -> tuple[Compared, Compared]:
        pca, kmeans = (
            Compared(value, ours[parts][name] if parts in ours else None)
            for parts, value in zip(PART_METHODS, values, strict=True)
        )
        return pca, kmeans

    return PaperRow(
        model=first["model"],
        published=published,
        top1=Compared(published.top1, None if first["top1"] is None else 100 * first["top1"]),
        mi=both("mi_paper", published.mi),
        auc=both("auc", published.auc),
    )


def _data(manifest: Manifest) -> Iterator[str]:
    data = manifest.dataset
    if (data.images, data.classes) != (IMAGES, CLASSES):
        yield (
            f"data set: {counted(data.images, 'image')} of {counted(data.classes, 'class', 'classes')} ({data.name}); "
            f"the paper's is the ImageNet validation set, {IMAGES:,} images of {CLASSES:,} classes"
        )


def _vocabulary(manifest: Manifest) -> Iterator[str]:
    words = manifest.vocabulary
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


def _settings(manifest: Manifest) -> Iterator[str]:
    if set(manifest.parts) != set(PART_METHODS):
        yield f"parts: found by {', '.join(manifest.parts)}; the paper has pca and kmeans"
    paper = dataclasses.asdict(preset("paper", fit="batch"))  # the reference code fits the images of a class together
    for name, value in paper.items():
        ours = manifest.settings.get(name, value)
        if name in _ANY or ours == value:
            continue
        if name == "language_count" and ours == PAPER_LANGUAGE_COUNT:
            continue
        yield f"settings: {name} is {ours!r}; the paper preset of a study has {value!r}"
