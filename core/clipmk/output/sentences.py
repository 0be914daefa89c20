"""What the strength of an explanation says, in the words that terminal, pages and app share."""

from typing import NamedTuple

from clipmk.concepts.mutual import FULL_LANGUAGE_COUNT_FROM
from clipmk.records import ExplanationRecord, Mutual
from clipmk.system.text import counted, one_or_many, quoted


class Measure(NamedTuple):
    """One number of an explanation's strength, and what to hold it against."""

    name: str
    value: str
    note: str


UNSURE = "?: this concept is seen best in another part, or in none"


def part_names(explanation: ExplanationRecord) -> dict[int, str]:
    """The first descriptor of each part, after a "?" where that concept is not seen in it but in others, or in none.

    Such a name is right half as often as one without the mark (docs/findings.md).
    """
    seen = {concept.text: concept.parts for concept in explanation.vision_concepts}
    names = {part.id: part.descriptors[0].text if part.descriptors else "" for part in explanation.parts}
    return {part: name if part in seen.get(name, ()) else f"? {name}".rstrip() for part, name in names.items()}


def mark_note(names: dict[int, str]) -> str:
    """What the mark of `part_names` means, if one of them has it."""
    return UNSURE if any(name.startswith("?") for name in names.values()) else ""


def overlap_sentence(mutual: Mutual, class_name: str) -> str:
    """``5 of 13 seen concepts are tied to 'car'; more than to any of 28 other classes (next: 'truck', 2)``."""
    seen = f"{mutual.count or 'none'} of {counted(mutual.vision_count, 'seen concept')}"
    return f"{seen} {one_or_many(mutual.count or 1, 'is', 'are')} tied to {quoted(class_name)}; {swap_clause(mutual)}"


def swap_clause(mutual: Mutual) -> str:
    """How m compares with others': ``6 of 28 other classes have as many or more (most: 'truck', 4; p 0.24)``."""
    swap = mutual.class_swap
    if swap is None:
        return "there is no other class to compare with"
    sample = f"a sample of {swap.of:,}; " if swap.classes < swap.of else ""
    others = counted(swap.classes - 1, "other class", "other classes")
    every = f"any of {others}" if swap.classes > 2 else f"the {others}"
    if swap.next_class is None:
        return f"none to {every}"
    following = f"{quoted(swap.next_class)}, {swap.next_count}"
    if not mutual.count:
        return f"the most to another class: {following}"
    if not swap.at_least:
        return f"more than to {every} ({sample}next: {following})"
    have = one_or_many(swap.at_least, "has", "have")
    return f"{swap.at_least:,} of {others} {have} as many or more ({sample}most: {following}; p {swap.p_value:.2g})"


def beaten(mutual: Mutual) -> str:
    """How many other classes share fewer: ``all 28``, ``22 of 28``."""
    swap = mutual.class_swap
    if swap is None:
        return "–"
    others = swap.classes - 1
    return f"all {others:,}" if not swap.at_least else f"{others - swap.at_least:,} of {others:,}"


def measures(mutual: Mutual, *, everything: bool = False) -> list[Measure]:
    """The numbers behind the sentence; with everything also the random draw, which says little."""
    rows, chance, swap = list[Measure](), mutual.chance, mutual.class_swap
    if swap is not None:
        rows.append(
            Measure(
                "class swap p",
                f"{swap.p_value:.2g}",
                f"share of {swap.classes:,} classes with as many or more, its own included",
            )
        )
    size = mutual.vocabulary_size
    share = 100 * mutual.language_count / size
    jump = "; u jumps at 2,000" if abs(size - FULL_LANGUAGE_COUNT_FROM) < 200 else ""
    rows += [
        Measure("strength", f"{mutual.mi_paper:.2f}", f"the paper's MI, in nats; by chance {chance.mi_paper:.2f}"),
        Measure(
            "AUC",
            f"{mutual.auc:.2f}",
            f"under the curve, {times_chance(mutual)} x chance ({chance.auc:.2f}); unpadded {mutual.auc_unpadded:.2f}",
        ),
        Measure(
            "u", str(mutual.language_count), f"of {size:,} descriptors are tied to each class ({share:.2g} %){jump}"
        ),
    ]
    if everything:
        note = f"mutual concepts of random ones: {chance.count:.2f}"
        rows.append(Measure("random draw p", f"{mutual.random_draw_p:.2g}", note))
    return rows


def times_chance(mutual: Mutual) -> str:
    """AUC as a multiple of the one expected by chance."""
    return f"{mutual.auc / mutual.chance.auc:.1f}" if mutual.chance.auc else "–"
