"""Several models on one image, side by side: what they predict, and which concepts they have in common.

Pure Python on records: importing this loads neither torch nor numpy.

AUC is never ranked across families. It follows the rank of the last mutual concept that is left, and families spread
their importance over D_v differently: in the paper a ConvNeXt with 65 % top-1 has an AUC of 2.5, a ResNet with 65 % one
of 3.8. So the only mark (`ComparedModel.best_in_family`) compares members of one family.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from math import fsum

from clipmk.comparison import ComparedCell, ComparedConcept, ComparedImage, ComparedModel, Comparison, Fault, Similarity
from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.output.document import error_object
from clipmk.records import Failure
from clipmk.system.text import encodable, quoted
from clipmk.vocabulary.classes import class_key


def compare(
    results: Sequence[Explanation | Failure], *, target: str | None = None, true_class: str | None = None
) -> Comparison:
    """Put the explanations of several models for one image side by side, a column each, in order.

    `target` is the class that all of them explain; None: each its own prediction. `true_class` is None where it is not
    known, or not a class of the vocabulary. UsageError if there is nothing to compare, or the results differ in image,
    vocabulary or settings, or explain another class than `target`; the message names both.
    """
    if not results:
        raise UsageError("there is nothing to compare; name at least one model")
    answers = [result for result in results if isinstance(result, Explanation)]
    _check(answers, target)
    image = _image(results, answers)
    best = _best_in_families(results)
    agreed_class, agreed_count = _agreed(answers)
    columns = tuple(_column(result, true_class, best=index in best) for index, result in enumerate(results))
    return Comparison(
        image=image,
        target=target,
        true_class=true_class,
        right_count=None if true_class is None else sum(column.right is True for column in columns),
        answered=len(answers),
        agreed_class=agreed_class,
        agreed_count=agreed_count,
        agreement=agreed_count / len(answers) if answers else None,
        columns=columns,
        rows=_rows(results),
        similarity=Similarity(
            vision=_pairwise(results, lambda one: {concept.text for concept in one.vision_concepts}),
            mutual=_pairwise(results, lambda one: set(one.mutual_concepts)),
        ),
    )


def jaccard(first: Collection[str], second: Collection[str]) -> float | None:
    """|A ∩ B| / |A ∪ B|, in [0, 1]: the share of two sets that both have; None where both are empty."""
    union = set(first) | set(second)
    return len(set(first) & set(second)) / len(union) if union else None


def _check(answers: Sequence[Explanation], target: str | None) -> None:
    """Refuse explanations that cannot be compared."""
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
    """The image of all results; refuses a failure with another path than the rest."""
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
    """Positions of the highest AUC of each family that also has a lower one; all of them on a tie."""
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


def _column(result: Explanation | Failure, true_class: str | None, *, best: bool) -> ComparedModel:
    if isinstance(result, Failure):
        return ComparedModel(id=encodable(result.model), error=Fault(**error_object(result.code, result.message)))
    return ComparedModel(
        id=result.model.id,
        model=result.model,
        predictions=result.predictions,
        class_name=result.class_name,
        mutual=result.mutual,
        best_in_family=best,
        right=None if true_class is None else class_key(result.predictions[0].class_name) == class_key(true_class),
        elapsed_ms=result.elapsed_ms,
        provenance=result.provenance,
        warnings=result.warnings,
    )


def _pairwise(
    results: Sequence[Explanation | Failure], concepts: Callable[[Explanation], set[str]]
) -> tuple[tuple[float | None, ...], ...]:
    """The Jaccard index of the concepts of each pair."""
    found = [concepts(result) if isinstance(result, Explanation) else None for result in results]
    return tuple(tuple(None if a is None or b is None else jaccard(a, b) for b in found) for a in found)


def _rows(results: Sequence[Explanation | Failure]) -> tuple[ComparedConcept, ...]:
    by_model = [_cells(result) if isinstance(result, Explanation) else None for result in results]
    of = sum(cells is not None for cells in by_model)
    nothing = ComparedCell(status="none", importance=None, cosine=None)
    rows = []
    for text in dict.fromkeys(text for cells in by_model if cells is not None for text in cells):
        cells = tuple(None if one is None else one.get(text, nothing) for one in by_model)
        found = [cell for cell in cells if cell is not None]
        mutual = sum(cell.status == "mutual" for cell in found)
        seen = [cell.importance for cell in found if cell.importance is not None]
        row = ComparedConcept(rank=1, text=text, mutual_count=mutual, seen_count=len(seen), of=of, cells=cells)
        rows.append(((-mutual, -len(seen), -fsum(seen) / max(len(seen), 1), text), row))
    rows.sort(key=lambda pair: pair[0])
    return tuple(replace(row, rank=rank) for rank, (_, row) in enumerate(rows, 1))


def _cells(explanation: Explanation) -> dict[str, ComparedCell]:
    """One model's cells by the concept's text."""
    cosines = {concept.text: concept.cosine for concept in explanation.language_concepts}
    made = {
        concept.text: ComparedCell(
            status="mutual" if concept.mutual else "vision",
            importance=concept.importance,
            cosine=cosines.get(concept.text),
        )
        for concept in explanation.vision_concepts
    }
    for text, cosine in cosines.items():
        made.setdefault(text, ComparedCell(status="language", importance=None, cosine=cosine))
    return made
