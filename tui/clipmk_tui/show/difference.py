"""Two models about one image: which concepts tell them apart, in groups, and one sentence about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipmk.comparison import ComparedConcept, ComparedModel, Comparison
from clipmk.explanation import Explanation
from clipmk.output.sentences import beaten
from clipmk.system.text import quoted

_NAMED = 2  # concepts that the sentence names of each model


@dataclass(frozen=True, slots=True)
class Group:
    """Concepts that tell the models apart in the same way."""

    title: str
    rows: tuple[ComparedConcept, ...]


def groups(comparison: Comparison, names: tuple[str, str]) -> tuple[Group, ...]:
    """Every concept of either of two models that answered once, what separates them most first; no empty groups."""
    left, right = names
    titles = (
        f"only {left} sees and ties",
        f"only {right} sees and ties",
        "seen by one, tied by the other",
        f"only {left} sees",
        f"only {right} sees",
        f"only {left} ties",
        f"only {right} ties",
        "the same in both",
    )
    members: list[list[ComparedConcept]] = [[] for _ in titles]
    for row in comparison.rows:
        members[_place(row)].append(row)
    return tuple(
        Group(title, tuple(sorted(rows, key=_weight))) for title, rows in zip(titles, members, strict=True) if rows
    )


def _place(row: ComparedConcept) -> int:
    """Index of the group of a concept."""
    found = [cell.status if cell is not None else "none" for cell in row.cells]
    if found[0] == found[1]:
        return 7
    if "mutual" in found:
        return found.index("mutual")
    if "none" not in found:
        return 2
    return 3 + found.index("vision") if "vision" in found else 5 + found.index("language")


def _weight(row: ComparedConcept) -> tuple[float, float]:
    """The most important ones first, then the nearest ones."""
    cells = [cell for cell in row.cells if cell is not None]
    return -max(cell.importance or 0.0 for cell in cells), -max(cell.cosine or 0.0 for cell in cells)


def what_separates(comparison: Comparison, names: tuple[str, str]) -> str:
    """One sentence: what each model says, and what it alone sees and ties to that."""
    alone: list[list[str]] = [[], []]
    for row in sorted(comparison.rows, key=_weight):
        if (place := _place(row)) < 2:
            alone[place].append(row.text)
    return "; ".join(
        _clause(column, name, texts) for column, name, texts in zip(comparison.columns, names, alone, strict=True)
    )


def _clause(column: ComparedModel, name: str, alone: Sequence[str]) -> str:
    verdict = {None: "", True: " (right)", False: " (wrong)"}[column.right]
    says = f"{name} says {quoted(column.predictions[0].class_name)}{verdict}"
    if not alone:
        return f"{says} and sees and ties nothing that the other does not"
    more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
    return f"{says} and alone sees and ties {', '.join(map(quoted, alone[:_NAMED]))}{more}"


def answers(column: ComparedModel, explanation: Explanation, true_class: str | None) -> list[str]:
    """What a model says, also of the true class, and how strong its shared knowledge is: a few short lines."""
    first, mutual = column.predictions[0], explanation.mutual
    verdict = {None: "", True: ", right", False: ", wrong"}[column.right]
    lines = [f"says {first.class_name} {100 * first.probability:.0f} %{verdict}"]
    if true_class is not None and not column.right:
        lines.append(_rank_words(explanation, true_class))
    tied = "" if explanation.class_name == first.class_name else f" to {explanation.class_name}"
    lines.append(f"{mutual.count} of {mutual.vision_count} seen are tied{tied}")
    lines.append(f"beats {beaten(mutual)} other classes")
    lines.append(f"strength {mutual.mi_paper:.2f} AUC {mutual.auc:.2f} u {mutual.language_count}")
    return lines


def _rank_words(explanation: Explanation, class_name: str) -> str:
    found = next((one for one in explanation.predictions if one.class_name == class_name), None)
    if found is None:
        return f"{class_name}: not among its {len(explanation.predictions)} first"
    return f"{class_name}: rank {found.rank}, {100 * found.probability:.1f} %"
