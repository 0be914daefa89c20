"""Several models about one image, side by side: who predicts what, and which concepts they hold in common.

Pure Python on records: importing this loads neither torch nor numpy. The command line and the app show the same
`Comparison`.

AUC is never ranked across families. It follows the rank of the last mutual concept that survives, and how a family
spreads its importance over D_v differs between families: in the paper a ConvNeXt of 65 % top-1 has an AUC of 2.5 and a
ResNet of 65 % one of 3.8. Within one family a higher AUC means stronger shared knowledge; across families it means
nothing. So the only mark there is (`Column.best_in_family`) compares members of one family.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any, Literal

from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.output.document import Failure, error_object
from clipmk.records import Elapsed, ModelInfo, Mutual, Prediction, Provenance
from clipmk.system.serialization import plain
from clipmk.system.text import encodable, quoted

Status = Literal["mutual", "vision", "language", "none"]
"""What one model says of a concept: seen and tied to the class, only seen, only tied, neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedImage:
    """The one image; what no model could find out is None."""

    path: str | None
    """As the user gave it; None for an image in memory, "-" for standard input."""
    sha256: str | None
    width: int | None
    """Pixels, after EXIF orientation."""
    height: int | None
    """Pixels, after EXIF orientation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a model gave no explanation."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One model's share: either an explanation without its concepts, or why there is none (all else None, then)."""

    id: str
    """The name under which the model was asked for."""
    model: ModelInfo | None
    predictions: tuple[Prediction, ...]
    """The highest-ranked classes, best first; empty for a model that failed."""
    class_name: str | None
    """The class explained."""
    mutual: Mutual | None
    best_in_family: bool
    """Its AUC is the highest of those members of its family that answered, and another member's is lower."""
    elapsed_ms: Elapsed | None
    provenance: Provenance | None
    warnings: tuple[str, ...]
    error: Fault | None

    @property
    def family(self) -> str | None:
        """Of its architecture."""
        return None if self.model is None else self.model.family


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one model says of one concept."""

    status: Status
    importance: float | None
    """As in `VisionConcept`, where the model sees it; on the model's own scale."""
    cosine: float | None
    """As in `LanguageConcept`, where the model ties it to the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One concept, with what every model says of it."""

    rank: int
    text: str
    mutual_count: int
    """How many models hold it mutual."""
    seen_count: int
    """How many see it, mutual or not."""
    of: int
    """How many models answered."""
    cells: tuple[Cell | None, ...]
    """One per column, in their order; None for a model that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several models about one image."""

    image: ComparedImage
    target: str | None
    """The one class that all explain; None: each its own prediction."""
    answered: int
    """How many models did not fail."""
    agreed_class: str | None
    """The class that most models predict; the first by name where several are as frequent."""
    agreed_count: int
    """How many predict it."""
    agreement: float | None
    """`agreed_count` / `answered`, in (0, 1]; None where no model answered."""
    columns: tuple[Column, ...]
    """In the order given."""
    rows: tuple[Row, ...]
    """Most agreed first: by `mutual_count`, then `seen_count`, then mean importance where it is seen, then text."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object under "comparison", as the schema of `clipmk schema` describes it."""
        content: dict[str, Any] = plain(self)
        return content


def compare(results: Sequence[Explanation | Failure], *, target: str | None = None) -> Comparison:
    """Lay the answers of several models about one image side by side.

    Args:
        results: one per model, in the order of the columns.
        target: the class that all of them explain; None: each its own prediction.

    Raises:
        UsageError: there is nothing to compare, or the answers are about different images or come from different
            vocabularies or settings, or explain another class than `target`; the message names both.
    """
    if not results:
        raise UsageError("there is nothing to compare; name at least one model")
    answers = [result for result in results if isinstance(result, Explanation)]
    _check(answers, target)
    image = _image(results, answers)
    best = _best_in_families(results)
    agreed_class, agreed_count = _agreed(answers)
    return Comparison(
        image=image,
        target=target,
        answered=len(answers),
        agreed_class=agreed_class,
        agreed_count=agreed_count,
        agreement=agreed_count / len(answers) if answers else None,
        columns=tuple(_column(result, best=index in best) for index, result in enumerate(results)),
        rows=_rows(results),
    )


def _check(answers: Sequence[Explanation], target: str | None) -> None:
    """Only answers to the same question can be compared."""
    for one in answers[1:]:
        first = answers[0]
        if one.image.sha256 != first.image.sha256:
            raise UsageError(f"only one image can be compared: {_name(first)} and {_name(one)} are two")
        made, other = first.provenance, one.provenance
        if made.vocabulary_sha256 != other.vocabulary_sha256:
            names = " and ".join(
                f"{quoted(p.vocabulary)} (sha256 {p.vocabulary_sha256[:8]}, {quoted(e.model.id)})"
                for p, e in ((made, first), (other, one))
            )
            raise UsageError(f"models can be compared only with the same vocabulary: {names} differ")
        different = sorted(
            key for key in made.settings | other.settings if made.settings.get(key) != other.settings.get(key)
        )
        if different:
            models = f"{quoted(first.model.id)} and {quoted(one.model.id)}"
            raise UsageError(
                f"models can be compared only with the same settings: {models} differ in {', '.join(different)}"
            )
    for one in answers:
        if target is not None and one.class_name != target:
            raise UsageError(f"{quoted(one.model.id)} explains {quoted(one.class_name)}, not {quoted(target)}")


def _name(explanation: Explanation) -> str:
    return "an image in memory" if explanation.image.path is None else quoted(explanation.image.path)


def _image(results: Sequence[Explanation | Failure], answers: Sequence[Explanation]) -> ComparedImage:
    """The image of all results.

    Raises:
        UsageError: a failure is about another path than the rest.
    """
    paths = [encodable(result.path) for result in results if isinstance(result, Failure)]
    known = [encodable(one.image.path) for one in answers if one.image.path is not None]
    for path in paths:
        if path not in (known or paths[:1]) and (known or not answers):
            raise UsageError(
                f"only one image can be compared: {quoted((known or paths)[0])} and {quoted(path)} are two"
            )
    if answers:
        info = answers[0].image
        return ComparedImage(path=info.path, sha256=info.sha256, width=info.width, height=info.height)
    return ComparedImage(path=paths[0], sha256=None, width=None, height=None)


def _best_in_families(results: Sequence[Explanation | Failure]) -> set[int]:
    """Positions of the highest AUC of each family, where a lower one stands beside it; all of them on a tie."""
    members: dict[str, dict[int, float]] = defaultdict(dict)
    for index, result in enumerate(results):
        if isinstance(result, Explanation):
            members[result.model.family][index] = result.mutual.auc
    best = set()
    for family in members.values():
        high = max(family.values())
        if min(family.values()) < high:
            best |= {index for index, auc in family.items() if auc == high}
    return best


def _agreed(answers: Sequence[Explanation]) -> tuple[str | None, int]:
    votes = Counter(one.predictions[0].class_name for one in answers)
    if not votes:
        return None, 0
    return min(votes.items(), key=lambda vote: (-vote[1], vote[0]))


def _column(result: Explanation | Failure, *, best: bool) -> Column:
    if isinstance(result, Failure):
        fault = Fault(**error_object(result.code, result.message))
        return Column(
            id=encodable(result.model),
            model=None,
            predictions=(),
            class_name=None,
            mutual=None,
            best_in_family=False,
            elapsed_ms=None,
            provenance=None,
            warnings=(),
            error=fault,
        )
    return Column(
        id=result.model.id,
        model=result.model,
        predictions=result.predictions,
        class_name=result.class_name,
        mutual=result.mutual,
        best_in_family=best,
        elapsed_ms=result.elapsed_ms,
        provenance=result.provenance,
        warnings=result.warnings,
        error=None,
    )


def _rows(results: Sequence[Explanation | Failure]) -> tuple[Row, ...]:
    said = [_cells(result) if isinstance(result, Explanation) else None for result in results]
    of = sum(cells is not None for cells in said)
    nothing = Cell(status="none", importance=None, cosine=None)
    rows = []
    for text in dict.fromkeys(text for cells in said if cells is not None for text in cells):
        cells = tuple(None if one is None else one.get(text, nothing) for one in said)
        found = [cell for cell in cells if cell is not None]
        mutual = sum(cell.status == "mutual" for cell in found)
        seen = [cell.importance for cell in found if cell.importance is not None]
        row = Row(rank=1, text=text, mutual_count=mutual, seen_count=len(seen), of=of, cells=cells)
        rows.append(((-mutual, -len(seen), -_mean(seen), text), row))
    rows.sort(key=lambda pair: pair[0])
    return tuple(replace(row, rank=rank) for rank, (_, row) in enumerate(rows, 1))


def _cells(explanation: Explanation) -> dict[str, Cell]:
    """What one model says, by the concept's text."""
    cosines = {concept.text: concept.cosine for concept in explanation.language_concepts}
    made = {
        concept.text: Cell(
            status="mutual" if concept.mutual else "vision",
            importance=concept.importance,
            cosine=cosines.get(concept.text),
        )
        for concept in explanation.vision_concepts
    }
    for text, cosine in cosines.items():
        made.setdefault(text, Cell(status="language", importance=None, cosine=cosine))
    return made


def _mean(values: Iterable[float]) -> float:
    """Exactly rounded, so that it does not depend on the order; 0 of nothing."""
    listed = list(values)
    return fsum(listed) / len(listed) if listed else 0.0
