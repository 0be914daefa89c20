"""Mutual knowledge: how strongly both encoders tie the same concepts to a class, and the level of chance.

Plain Python without numpy and torch: the app recomputes all of it while the user leaves concepts out.

Letters: L_v = `vision_count` = |D_v|, L_T = `language_count` = |D_y| = u, m = `shared` = |D_v ∩ D_y|,
|D| = `vocabulary_size`. Logarithms are natural.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from math import comb, fsum, log

from clipmk.records import Chance, ClassSwap, Mutual, SoftPair

PAPER_VOCABULARY_SIZE = 4_229
"""|D| for ImageNet in the paper; with `PAPER_LANGUAGE_COUNT` it sets the accepted overlap by chance."""
PAPER_LANGUAGE_COUNT = 50  # u in the reference code, for `PAPER_VOCABULARY_SIZE` descriptors
PAPER_VISION_COUNT = 15  # 3L with the paper's L = 5 parts
FULL_LANGUAGE_COUNT_FROM = 2_000  # vocabulary size from which u is the paper's (docs/method.md, table 1a)
SWAPPED_CLASSES = 2_000  # most classes that `class_swap` compares
SWAPPED_PRODUCTS = 50_000_000
"""Most cosines of classes and descriptors computed for it, unless these are fewer than 100 classes."""


def overlap(concepts: Iterable[Hashable], others: Iterable[Hashable]) -> tuple[bool, ...]:
    """Flag the members of `concepts` that are also in `others`: D_v ∩ D_y by identity, never by a shortened text."""
    known = set(others)
    return tuple(concept in known for concept in concepts)


def mi_paper(vision_count: int, language_count: int, shared: int) -> float:
    """I = log L_v + log L_T + H(X, Y) = log(L_v · L_T · m) for m >= 1, else 0 (Eq. 9 with the code's sign).

    Not a mutual information in the textbook sense (see `mi_textbook`): H is the entropy of the contingency table that
    holds 1/m for each of the m shared concepts. ValueError for impossible counts.
    """
    if min(vision_count, language_count, shared) < 0:
        raise ValueError(f"counts {vision_count}, {language_count}, {shared} must not be negative")
    if shared > min(vision_count, language_count):
        raise ValueError(f"{shared} shared concepts out of {vision_count} and {language_count} are impossible")
    return log(vision_count * language_count * shared) if shared else 0.0


def mi_textbook(shared: int) -> float:
    """I = log m for m >= 1, else 0: H(X) + H(Y) - H(X, Y) of the normalised joint table, all three the same."""
    if shared < 0:
        raise ValueError(f"{shared} shared concepts are impossible")
    return log(shared) if shared else 0.0


def auc(curve: Sequence[float], *, length: int | None = None) -> float:
    """Arithmetic mean of the curve padded with zeros to `length` points (no trapezoid); None: without padding.

    `length` is 3L + 1 everywhere, so that AUC does not depend on other images. ValueError for an empty or longer curve.
    """
    points = len(curve) if length is None else length
    if not curve or points < len(curve):
        raise ValueError(f"a curve of {len(curve)} points cannot be padded to {points} points")
    return fsum(curve) / points


def measure(
    flags: Sequence[bool],
    *,
    language_count: int,
    vocabulary_size: int,
    removed: Collection[int] = (),
    length: int | None = None,
    swap: ClassSwap | None = None,
    soft: Iterable[SoftPair] = (),
) -> Mutual:
    """The shared knowledge of one image and one class, with its level of chance.

    `flags` says of each vision concept, most important first, whether it is mutual; `removed` holds positions that are
    left out: chance and p are those of as many concepts as remain. The dynamics: I_r = mi_paper(L_v, L_T, sum of
    flags[r:]) for r = 0, 1, ..., without the r most important of the remaining concepts. L_v stays constant in the
    logarithm, so the curve falls only where a mutual concept is left out; it has one point more than there are
    remaining concepts, the last is 0.
    """
    unknown = sorted(set(removed) - set(range(len(flags))))
    if unknown:
        raise ValueError(f"concepts {unknown} do not exist; there are {len(flags)}")
    kept = [flag for position, flag in enumerate(flags) if position not in removed]
    curve = tuple(mi_paper(len(flags), language_count, sum(kept[further:])) for further in range(len(kept) + 1))
    tail = p_value(len(kept), language_count, vocabulary_size, sum(kept))
    return Mutual(
        count=sum(kept),
        vision_count=len(kept),
        language_count=language_count,
        vocabulary_size=vocabulary_size,
        class_swap=swap,
        mi_paper=curve[0],
        mi_textbook=mi_textbook(sum(kept)),
        auc=auc(curve, length=length),
        auc_unpadded=auc(curve),
        curve=curve,
        chance=chance(len(flags), language_count, vocabulary_size, removed=len(flags) - len(kept), length=length),
        random_draw_p=tail,
        p_value=tail,
        soft=tuple(soft),
    )


def class_swap(
    tied_to: Iterable[Iterable[str]], shared: int, *, explained: str, classes: int, of: int
) -> ClassSwap | None:
    """Class swap: p = (1 + #{y != explained: m_y >= m}) / |Y|, with m_y = |D_v ∩ D_y| for every class y.

    D_v stays and the class is swapped. So descriptors that are near to everything, and images that are near to much,
    count for all classes alike; for a random draw they count as evidence. `tied_to` has, for each vision concept, the
    classes whose D_y holds it; `classes` is |Y|. None for a single class, which cannot be swapped.
    """
    if classes < 2:
        return None
    counts = Counter(chain.from_iterable(tied_to))
    del counts[explained]
    most = max(counts.values(), default=0)
    at_least = sum(count >= shared for count in counts.values()) if shared else classes - 1
    return ClassSwap(
        p_value=(1 + at_least) / classes,
        classes=classes,
        of=of,
        at_least=at_least,
        next_class=min((name for name, count in counts.items() if count == most), default=None),
        next_count=most,
    )


def swapped_classes(classes: int, vocabulary_size: int) -> list[int]:
    """Numbers of the classes that `class_swap` compares: all, or an evenly spaced sample where they are very many."""
    most = min(classes, SWAPPED_CLASSES, max(100, SWAPPED_PRODUCTS // vocabulary_size))
    return [place * classes // most for place in range(most)]


def chance(
    vision_count: int, language_count: int, vocabulary_size: int, *, removed: int = 0, length: int | None = None
) -> Chance:
    """Exact expectations of m, I and AUC for as many random concepts.

    E[m] = (L_v - r) · L_T / |D|: the mean of the hypergeometric distribution, r = `removed`. E[I] is the point of
    `chance_curve` without r concepts, E[AUC] the mean from there on, padded with zeros to `length` points (it is
    linear).
    """
    curve = chance_curve(vision_count, language_count, vocabulary_size)[removed:]
    return Chance(
        count=(vision_count - removed) * language_count / vocabulary_size if vision_count else 0.0,
        mi_paper=curve[0],
        auc=auc(curve, length=length),
    )


@lru_cache(maxsize=256)
def chance_curve(vision_count: int, language_count: int, vocabulary_size: int) -> tuple[float, ...]:
    """E[I_r] = sum over m >= 1 of P(M_r = m) · log(L_v · L_T · m) for r = 0..L_v; the last is 0.

    Without r of L_v random concepts, L_v - r random ones are left, so M_r is hypergeometric with n = L_v - r draws:
    P(M_r = m) = C(L_T, m) · C(|D| - L_T, n - m) / C(|D|, n). The logarithm keeps L_v. ValueError if |D| is smaller.
    """
    _check_sizes(vision_count, language_count, vocabulary_size)
    terms = [log(vision_count * language_count * m) for m in range(1, min(vision_count, language_count) + 1)]
    marked, others, every = (
        _binomials(total, vision_count) for total in (language_count, vocabulary_size - language_count, vocabulary_size)
    )
    return tuple(
        fsum(marked[m] * others[drawn - m] / every[drawn] * term for m, term in enumerate(terms[:drawn], 1))
        for drawn in range(vision_count, -1, -1)
    )


def p_value(vision_count: int, language_count: int, vocabulary_size: int, shared: int) -> float:
    """P(M >= m) = sum over k >= m of C(L_T, k) · C(|D| - L_T, L_v - k) / C(|D|, L_v): the hypergeometric tail.

    Summed in integers, rounded once at the end. ValueError if a side has more concepts than the vocabulary.
    """
    _check_sizes(vision_count, language_count, vocabulary_size)
    if shared < 0:
        raise ValueError(f"{shared} shared concepts are impossible")
    most = min(vision_count, language_count)
    others = vocabulary_size - language_count
    ways = sum(comb(language_count, k) * comb(others, vision_count - k) for k in range(shared, most + 1))
    return ways / comb(vocabulary_size, vision_count)


@lru_cache(maxsize=256)
def language_count_for(vocabulary_size: int, *, vision_count: int = PAPER_VISION_COUNT) -> int:
    """u, the size of D_y for the measure: 50 from 2,000 descriptors on, below it the u that keeps the chance level.

    With a fixed u = 50 a small vocabulary would overlap by chance alone (|D| = 120: AUC 6.6, above every published
    model). The chance level is measured as AUC: the u >= 1 whose `chance` is closest to that of the paper's setting
    (L_v = 15, u = 50, |D| = 4,229: 0.56), the smaller u on a tie. That gives 8 for 500 descriptors, as in table 1a
    (equal E[m] would give 6, because a smaller u also lowers every step of the curve), 15 for 1,000 and 26 for 1,999.
    At 2,000 the table's own rule applies and u steps from 26 to 50. A vocabulary of at most L_v descriptors, all of
    which could be vision concepts, gets u = 1; an empty one raises ValueError.
    """
    if vocabulary_size < 1:
        raise ValueError(f"a vocabulary of {vocabulary_size} descriptors has no language concepts")
    if vocabulary_size >= FULL_LANGUAGE_COUNT_FROM:
        return PAPER_LANGUAGE_COUNT
    if vocabulary_size <= vision_count:
        return 1

    def strength_by_chance(count: int, size: int = vocabulary_size) -> float:
        return auc(chance_curve(vision_count, count, size), length=vision_count + 1)

    target = strength_by_chance(PAPER_LANGUAGE_COUNT, PAPER_VOCABULARY_SIZE)
    counts = range(1, min(PAPER_LANGUAGE_COUNT, vocabulary_size) + 1)
    reaching = bisect_left(counts, target, key=strength_by_chance)  # it rises with u
    return min(counts[max(reaching - 1, 0) : reaching + 1], key=lambda u: abs(strength_by_chance(u) - target))


def _binomials(total: int, most: int) -> list[int]:
    """C(total, k) for k = 0..most, each from the one before: large ones take long to compute by themselves."""
    return list(accumulate(range(most), lambda value, k: value * (total - k) // (k + 1), initial=1))


def _check_sizes(vision_count: int, language_count: int, vocabulary_size: int) -> None:
    if min(vision_count, language_count) < 0 or max(vision_count, language_count) > vocabulary_size:
        raise ValueError(
            f"{vision_count} vision and {language_count} language concepts cannot come from "
            f"{vocabulary_size} descriptors"
        )
