"""The frozen records every room hands on: plain data, no torch, no numpy.

`Explanation` is the one record that the command line, the app, the studies and notebooks read; none of them
recomputes anything. Its `to_dict` is the JSON of one result (see `clipmk schema`).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL import Image

FORMAT_VERSION = "1.0"
"""Version of the JSON: a minor step adds fields, a major step may break readers."""


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
    alias_of: str | None = None
    """The model that loads under this name: the same weights under the architecture with their activation."""
    parameters: int | None = None
    """Of all towers; None where not known without loading."""
    data: str | None = None
    """Readable name of the data it was trained on, None where not known."""
    data_pairs: int | None = None
    """Image-text pairs in the whole data set, None where not known."""
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
    transport: float
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
    """score_scale * the cosine that `Settings.importance` names: with the image, the nearest part, or their mean."""
    parts: tuple[int, ...]
    """Ids of the parts that carry it."""
    mutual: bool


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
class Mutual:
    """The strength of the knowledge that both encoders share about this class in this image."""

    count: int
    """m = |D_v ∩ D_y|."""
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
    p_value: float
    """Hypergeometric P(M >= m) for random concepts."""
    soft: tuple[SoftPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another class held against the same image ("why not B?"): needs no model any more."""

    class_name: str
    language_concepts: tuple[LanguageConcept, ...]
    mutual: Mutual


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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation:
    """Why this model says this class of this image: one record, read by every face of `clipmk`."""

    image: ImageInfo
    model: ModelInfo
    predictions: tuple[Prediction, ...]
    """The highest-ranked classes, best first."""
    class_name: str
    """The class explained: the predicted one unless another was asked for."""
    foreground: Rle
    parts: tuple[Part, ...]
    vision_concepts: tuple[VisionConcept, ...]
    language_concepts: tuple[LanguageConcept, ...]
    mutual: Mutual
    alternatives: tuple[Alternative, ...]
    """The other highest-ranked classes with their D_y, for "why not B?" without a model."""
    elapsed_ms: Elapsed
    provenance: Provenance
    warnings: tuple[str, ...]
    picture: Image.Image | None = field(default=None, repr=False, compare=False, metadata={"written": False})
    """The decoded image, for overlays and notebooks; never written out."""

    def __repr__(self) -> str:
        found = f"{self.mutual.count} mutual concepts, MI {self.mutual.mi_paper:.2f}, AUC {self.mutual.auc:.2f}"
        return f"<Explanation of {self.image.path!r} by {self.model.id!r}: {self.class_name!r}, {found}>"

    @property
    def mutual_concepts(self) -> tuple[str, ...]:
        """D_v ∩ D_y, most important first."""
        return tuple(concept.text for concept in self.vision_concepts if concept.mutual)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of one result, as the schema of `clipmk schema` describes it."""
        explanation = {
            "preset": self.provenance.settings["preset"],
            "class": self.class_name,
            **{
                name: plain(getattr(self, name))
                for name in ("foreground", "parts", "vision_concepts", "language_concepts", "mutual", "alternatives")
            },
        }
        return {
            "image": plain(self.image),
            "model": plain(self.model),
            "predictions": plain(self.predictions),
            "explanation": explanation,
            "elapsed_ms": plain(self.elapsed_ms),
            "provenance": plain(self.provenance),
            "warnings": list(self.warnings),
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """`to_dict` as JSON text; finite numbers only."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)

    def overlay(self, image: Image.Image | None = None, *, alpha: float = 0.45, scale: int = 1) -> Image.Image:
        """The picture with its parts in colour, their contours and numbers (see `clipmk.overlay`).

        Raises:
            ImageError: no picture is at hand, or `image` has another size.
        """
        from clipmk.overlay import overlay  # noqa: PLC0415 - numpy, OpenCV and Pillow only where they are needed

        return overlay(self, image, alpha=alpha, scale=scale)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from clipmk.webpage import fragment  # noqa: PLC0415

        return fragment(self)


def plain(value: Any) -> Any:
    """Turn records into JSON-ready dicts and lists; the field `class_name` is written as "class"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "class" if f.name == "class_name" else f.name: plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("written", True)
        }
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
