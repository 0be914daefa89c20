"""The frozen records that the rooms pass to one another: plain data, no torch, no numpy.

`ExplanationRecord` is what the command line, the app, the studies and notebooks read; none of them recomputes anything.
`output.document` writes it as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from clipmk.errors import ClipmkError
from clipmk.system.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection

    from PIL import Image

FORMAT_VERSION = "1.1"  # version of the JSON: a minor step adds fields, a major step may break readers
FAMILIES: Final = {
    "vit": "ViT",
    "resnet": "ResNet",
    "convnext": "ConvNeXt",
    "siglip": "SigLIP",
    "eva": "EVA",
    "timm": "timm",
}
"""Families of models and how people write them, in the order they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rle:
    """A binary mask as compressed COCO run-length encoding, in pixels of the original image."""

    size: tuple[int, int]
    """(height, width)."""
    counts: str
    """COCO's compressed counts, column-major."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """Which image was explained."""

    path: str | None
    """As the user gave it; None for an image in memory, "-" for standard input."""
    sha256: str
    """Of the file's bytes, or of the decoded RGB pixels for an image in memory."""
    width: int
    """Pixels, after EXIF orientation."""
    height: int
    """Pixels, after EXIF orientation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Which model explained it."""

    id: str
    """The name under which `clipmk` loads it."""
    family: str
    """"vit", "resnet", "convnext", "siglip", "eva" or "timm": AUC is comparable only within one family."""
    weights_sha256: str
    """Of the weight file, or of the parameters in order for a module in memory."""
    architecture: str
    """open_clip's architecture name, "custom" for a module in memory."""
    pretrained: str | None
    """open_clip's pretrained tag, None where there is none."""
    input_size: int
    """Side of the square input in pixels."""


Source = Literal["embedded", "cached", "local", "remote"]
"""Shipped with clipmk; in the download cache; a folder or file of the user's; to be downloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model that can be named."""

    id: str
    """What `load` takes."""
    source: Source
    architecture: str
    """open_clip's architecture name; the folder's name where it is described by its own configuration."""
    pretrained: str | None
    """open_clip's pretrained tag, None where there is none."""
    family: str
    """"vit", "resnet", "convnext", "siglip", "eva" or "timm"."""
    input_size: int
    """Side of the square input in pixels."""
    embed_dim: int
    needs_transformers: bool = False
    """Its text encoder or tokenizer comes from the `transformers` package."""
    path: str | None = None
    """The weight file or folder, where it is on this machine."""
    weights: str | None = None
    """The weight file, or the index of its shards, where it is on this machine."""
    alias_of: str | None = None
    """The model that loads under this name: the same weights under the architecture with their activation."""
    parameters: int | None = None
    """Of all towers; None where not known without loading."""
    data: str | None = None
    """Readable name of the data it was trained on, None where not known."""
    data_pairs: int | None = None
    """Image-text pairs in the whole dataset, None where not known."""
    samples_seen: int | None = None
    """Pairs shown in training, repetitions included; None where not known."""
    licence: str | None = None
    """Of the weights, None where not known: the model card decides."""
    licence_source: str | None = None
    """Where the licence is written."""
    repository: str | None = None
    """Repository of the hub that holds the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One class in the zero-shot ranking."""

    rank: int
    class_name: str
    probability: float
    """softmax(logit_scale * cosine + logit_bias) over the classes."""
    cosine: float
    independent: float | None
    """sigmoid(logit_scale * cosine + logit_bias) for models trained with a sigmoid loss (SigLIP), else None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDescriptor:
    """A descriptor that a part was given."""

    text: str
    cosine: float
    """Between the part's embedding and the templated descriptor."""
    share: float
    """The part's share of this descriptor, in [0, 1]: in the transport plan, or in a softmax over the parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A visual part that the model's patch features set apart."""

    id: int
    """1-based."""
    area: float
    """Share of the original image's pixels, in [0, 1]."""
    bbox_xyxy: tuple[int, int, int, int]
    """Pixels of the original image, right and bottom exclusive."""
    mask: Rle
    descriptors: tuple[PartDescriptor, ...]
    """Best first, as `Settings.assignment` ranks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConcept:
    """A member of D_v, most important first."""

    rank: int
    text: str
    importance: float
    """score_scale * what `Settings.importance` names: the cosine with the image, a part's score, or their mean."""
    parts: tuple[int, ...]
    """Ids of the parts that carry it."""
    mutual: bool
    tied_to: tuple[str, ...] = ()
    """Classes whose D_y holds it, in the vocabulary's order; of those that a `ClassSwap` compares."""
    influence: float | None = None
    """Mean of these parts' `Alternative.part_margins` over the runner-up, weighted by area; None without either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConcept:
    """A member of D_y, nearest first."""

    rank: int
    text: str
    cosine: float
    """Between the class embedding and the templated descriptor."""
    mutual: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftPair:
    """Two different wordings matched one-to-one by text-text cosine."""

    vision: str
    language: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What random concepts of the same numbers would give on average."""

    count: float
    mi_paper: float
    auc: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSwap:
    """How many of the same vision concepts are tied to other classes: does m say more than that they are common?"""

    p_value: float
    """(1 + `at_least`) / `classes`."""
    classes: int
    """Compared, the explained one included; at least two."""
    of: int
    """Classes of the vocabulary; more than `classes` where an evenly spaced sample was compared."""
    at_least: int
    """Other classes with as many mutual concepts or more."""
    next_class: str | None
    """The other class with the most, the first by name of several; None if no other class has any."""
    next_count: int
    """Its mutual concepts."""

    @property
    def floor(self) -> float:
        """The smallest p that so many classes allow."""
        return 1 / self.classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutual:
    """The strength of the knowledge that both encoders share about this class in this image."""

    count: int
    """m = |D_v ∩ D_y|."""
    vision_count: int
    """Vision concepts that m is counted among: L_v, less those left out."""
    language_count: int
    """L_T = u = |D_y|."""
    vocabulary_size: int
    """|D|."""
    class_swap: ClassSwap | None
    """m against that of other classes; None where there is no other class."""
    mi_paper: float
    """log(L_v L_T m) for m >= 1, else 0 (the paper's Eq. 9; not a textbook mutual information)."""
    mi_textbook: float
    """log m for m >= 1, else 0: the mutual information of the normalised joint table."""
    auc: float
    """Mean of the dynamics curve padded with zeros to 3L + 1 points."""
    auc_unpadded: float
    """Mean of the curve's own L_v + 1 points."""
    curve: tuple[float, ...]
    """mi_paper after leaving out the 0, 1, ... most important vision concepts; L_v + 1 points."""
    chance: Chance
    random_draw_p: float
    """Hypergeometric P(M >= m) for random concepts; small for most predictions, right or wrong (see `class_swap`)."""
    p_value: float
    """`random_draw_p` under its name in format 1.0."""
    soft: tuple[SoftPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another class held against the same image ("why not B?"): needs no model any more."""

    class_name: str
    language_concepts: tuple[LanguageConcept, ...]
    mutual: Mutual
    part_margins: tuple[float, ...]
    """For each part, its cosine with the class explained minus that with this class: above 0 it speaks against this."""
    share_explained: float | None
    """As `ExplanationRecord.share_explained`, of this class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What changes without some vision concepts."""

    left_out: tuple[str, ...]
    """Texts of vision concepts, in the order in which they were left out."""
    mutual: Mutual
    """Of the concepts that remain; chance and p are those of as many random ones."""
    predictions: tuple[Prediction, ...] | None
    """Of the picture with the parts of these concepts blurred; None where it was not asked for."""


ConceptStatus = Literal["mutual", "vision", "language", "none"]
"""What one model says of a concept: seen and tied to the class, only seen, only tied, neither."""


def status_of(*, seen: bool, tied: bool) -> ConceptStatus:
    """Seen and tied, only seen, only tied, or neither."""
    if seen:
        return "mutual" if tied else "vision"
    return "language" if tied else "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether a text that was asked for is seen in the image, measured against the descriptors of the vocabulary."""

    rank: int
    """1 + how many descriptors are nearer to the image."""
    percentile: float
    """Share of the descriptors that are farther from the image, in [0, 1]."""
    score: float
    """(cosine - mean of the descriptors' cosines) / their standard deviation."""
    p_value: float
    """Share of the descriptors that are at least as near, the text included: its chance to be there by accident."""
    seen: bool
    """Whether `p_value` is at most `concepts.relevance.SEEN_LEVEL`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """How near a text that was asked for is to one class."""

    class_name: str
    cosine: float
    """Between the class embedding and the templated text."""
    rank: int
    """1 + how many descriptors of the vocabulary are nearer to the class."""
    in_d_y: bool
    """Whether it would be a language concept: the rank is at most the size of D_y."""
    overlap: int
    """m = |D_v ∩ D_y| if the text were in the vocabulary."""
    overlap_p_value: float
    """Hypergeometric P(M >= m) for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelevanceMap:
    """Where in the image a text is seen, over a grid; `images.masks` reads it."""

    size: tuple[int, int]
    """(rows, columns)."""
    bbox_xyxy: tuple[int, int, int, int]
    """The region of the original image that the grid covers: what the model sees; right and bottom exclusive."""
    scale: float
    """Relevance of a byte of 255; relevance is in [0, 1]."""
    values: str
    """A byte per cell, row by row, in base64: relevance = scale · byte / 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model says of a text that was asked for."""

    text: str
    in_vocabulary: bool
    """Whether it is one of the descriptors."""
    status: ConceptStatus
    """From `presence` and the first of `ties`."""
    cosine: float
    """Between the whole image and the templated text."""
    presence: Presence
    ties: tuple[Tie, ...]
    """To the class explained, then to the other highest-ranked classes."""
    parts: tuple[int, ...]
    """Ids of the parts that carry it, most relevant first; empty where it is not seen."""
    map: RelevanceMap | None
    """None for a model whose patches cannot be pooled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elapsed:
    """Wall time in milliseconds."""

    load: float
    explain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is needed to make the same bytes again."""

    clipmk: str
    torch: str
    open_clip: str
    device: str
    dtype: str
    templates: tuple[str, ...]
    descriptor_template: str
    vocabulary: str
    vocabulary_sha256: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationRecord:
    """Why this model says this class of this image; `explanation.Explanation` adds what can be asked of it."""

    image: ImageInfo
    model: ModelInfo
    predictions: tuple[Prediction, ...]
    """The highest-ranked classes, best first; then the class explained, if it is not among them."""
    class_name: str
    """The class explained: the predicted one unless another was asked for."""
    foreground: Rle
    parts: tuple[Part, ...]
    vision_concepts: tuple[VisionConcept, ...]
    language_concepts: tuple[LanguageConcept, ...]
    mutual: Mutual
    alternatives: tuple[Alternative, ...]
    """The other highest-ranked classes with their D_y, for "why not B?" without a model."""
    share_explained: float | None
    """Share of the similarity to the class, beyond that to the mean class, that the vision concepts recover: at most
    about 1, it may be negative; None where the image is not nearer to the class (`concepts.influence`)."""
    elapsed_ms: Elapsed
    provenance: Provenance
    warnings: tuple[str, ...]
    what_if: WhatIf | None = None
    """With some vision concepts left out; None unless this was asked for."""
    asked: tuple[Asked, ...] = ()
    """What was asked for in one's own words, in that order."""
    picture: Image.Image | None = field(default=None, repr=False, compare=False, metadata={"written": False})
    """The decoded image, for overlays and notebooks; never written out."""

    @property
    def runner_up(self) -> Alternative | None:
        """The highest-ranked of the other classes."""
        held = {one.class_name: one for one in self.alternatives}
        return next((held[one.class_name] for one in self.predictions if one.class_name in held), None)

    def parts_of(self, texts: Collection[str]) -> frozenset[int]:
        """Ids of the parts that carry some vision concepts."""
        return frozenset(part for concept in self.vision_concepts if concept.text in texts for part in concept.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One image that could not be explained with one model."""

    path: str
    """As the user gave it, "-" for standard input."""
    model: str
    """As the user gave it."""
    code: str
    message: str
    exit_status: int

    @classmethod
    def of(cls, error: ClipmkError, *, path: str, model: str) -> Failure:
        """The failure that an error means for one image and model."""
        return cls(
            path=path, model=model, code=error.code, message=printable(str(error)), exit_status=error.exit_status
        )
