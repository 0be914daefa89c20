"""The records of several models about one image; `pipeline.comparison` makes them, `output.document` writes them."""

from dataclasses import dataclass

from clipmk.records import ConceptStatus, Elapsed, ModelInfo, Mutual, Prediction, Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedImage:
    """The one image; what no model could find out is None."""

    path: str | None
    """As the user gave it; None for an image in memory, "-" for standard input."""
    sha256: str | None
    width: int | None
    """Pixels, after EXIF orientation."""
    height: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a model gave no explanation."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """One model's share: either an explanation without its concepts, or why there is none (all else None, then)."""

    id: str
    """The name under which the model was asked for."""
    model: ModelInfo | None = None
    predictions: tuple[Prediction, ...] = ()
    """The highest-ranked classes, best first; empty for a model that failed."""
    class_name: str | None = None
    mutual: Mutual | None = None
    best_in_family: bool = False
    """Its AUC is the highest of those members of its family that answered, and another member's is lower."""
    right: bool | None = None
    """Whether it predicts the true class; None where that is not known."""
    elapsed_ms: Elapsed | None = None
    provenance: Provenance | None = None
    warnings: tuple[str, ...] = ()
    error: Fault | None = None

    @property
    def family(self) -> str | None:
        """Of its architecture."""
        return None if self.model is None else self.model.family


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCell:
    """What one model says of one concept."""

    status: ConceptStatus
    importance: float | None
    """As in `VisionConcept`, where the model sees it; on the model's own scale."""
    cosine: float | None
    """As in `LanguageConcept`, where the model ties it to the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedConcept:
    """One concept, with what every model says of it."""

    rank: int
    text: str
    mutual_count: int
    """How many models hold it mutual."""
    seen_count: int
    """How many see it, mutual or not."""
    of: int
    """How many models answered."""
    cells: tuple[ComparedCell | None, ...]
    """One per column, in their order; None for a model that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """How alike the concepts of each pair of models are: the Jaccard index, in [0, 1], of two sets of texts.

    By row and column in the order of `Comparison.columns`; None where a model failed or both sets are empty.
    """

    vision: tuple[tuple[float | None, ...], ...]
    """Of the vision concepts, D_v."""
    mutual: tuple[tuple[float | None, ...], ...]
    """Of the mutual concepts, D_v ∩ D_y."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several models about one image."""

    image: ComparedImage
    target: str | None
    """The one class that all explain; None: each its own prediction."""
    true_class: str | None
    """None where it is not known."""
    right_count: int | None
    """How many models predict it."""
    answered: int
    """How many models did not fail."""
    agreed_class: str | None
    """The class that most models predict; the first by name where several are as frequent."""
    agreed_count: int
    """How many predict it."""
    agreement: float | None
    """`agreed_count` / `answered`, in (0, 1]; None where no model answered."""
    columns: tuple[ComparedModel, ...]
    """In the order given."""
    rows: tuple[ComparedConcept, ...]
    """Most agreed first: by `mutual_count`, then `seen_count`, then mean importance where it is seen, then text."""
    similarity: Similarity
