"""Which looks and absences are usual for a class, and which split may draw the unusual ones.

A combination of a class and a descriptor is atypical when no ordinary scene of the class shows it. Every atypical
combination, and every set of missing parts, belongs to exactly one partition, chosen by a stable hash: `train` (which
the split `val` shares) or `counterfactual`. Some descriptors belong to the vocabulary only: no scene draws them.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from itertools import combinations
from types import MappingProxyType
from typing import Final, TypeVar

from clipmk.world.tables import Look, Part, all_descriptors, classes, grammar

T = TypeVar("T")

UNDRAWN_SHARE: Final = 0.32  # share of the descriptors typical of no class that no scene draws
OCCASIONS_TO_LEARN: Final = 11
"""Classes that must be able to borrow a part with an unusual look in training before the look counts as learnt."""
SAME_COLOUR: Final = 0.15
"""Weight of a look that repeats the colour of the body, relative to its weight otherwise."""


def _fraction(*words: str) -> float:
    """Stable pseudo-random number in [0, 1) for the words."""
    return int.from_bytes(sha256("|".join(words).encode()).digest()[:6], "big") / 2**48


def body_of(class_name: str) -> Part:
    """The part that carries the others; every typical scene has it."""
    return next(part for part in classes()[class_name] if part.role == "body")


def reweighted(part: Part, avoid: str) -> tuple[tuple[Look, float], ...]:
    """Probabilities of the part's usual looks beside a body of colour `avoid`; they sum to 1."""
    weights = [weight * (SAME_COLOUR if look.colour == avoid else 1.0) for look, weight in part.looks]
    total = sum(weights)
    return tuple((look, weight / total) for (look, _), weight in zip(part.looks, weights, strict=True))


@cache
def typical_probabilities(class_name: str) -> Mapping[str, float]:
    """Probability of every descriptor in a typical scene of the class, most usual first.

    p(part, look) = chance(part) * sum over body looks b of p(b) * p(look | colour of b).
    """
    body = body_of(class_name)
    found: dict[str, float] = {}
    for part in classes()[class_name]:
        for body_look, body_chance in body.looks:
            for look, chance in ((body_look, 1.0),) if part is body else reweighted(part, body_look.colour):
                descriptor = grammar()[part.noun].phrase(look)
                found[descriptor] = found.get(descriptor, 0.0) + part.chance * (body_chance * chance)
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: -item[1])))


def typical_descriptors(class_name: str) -> tuple[str, ...]:
    """Every descriptor that a typical scene of the class can draw, most usual first."""
    return tuple(typical_probabilities(class_name))


@cache
def typical_anywhere() -> frozenset[str]:
    """Descriptors that are typical of at least one class."""
    return frozenset(descriptor for name in classes() for descriptor in typical_probabilities(name))


@cache
def undrawn() -> frozenset[str]:
    """Descriptors of the vocabulary that no scene of any split draws."""
    return frozenset(d for d in set(all_descriptors()) - typical_anywhere() if _fraction("undrawn", d) < UNDRAWN_SHARE)


def _alternating(ranked: Iterable[T], *words: str) -> dict[T, str]:
    """A partition for each: one and the other in turns, beginning with either by the hash of the words."""
    train = int(_fraction(*words) >= 0.5)
    return {item: "train" if rank % 2 == train else "counterfactual" for rank, item in enumerate(ranked)}


@cache
def _partitions(class_name: str, noun: str) -> dict[str, str]:
    """Partition of every atypical descriptor of this kind of part on the class, by the rank of its hash."""
    kind = grammar()[noun]
    names = {kind.phrase(look) for look in kind.looks()} - undrawn() - set(typical_probabilities(class_name))
    ranked = sorted(names, key=lambda name: _fraction("combination", class_name, name))
    return _alternating(ranked, "first", class_name, noun)


@cache
def _missing_partitions(class_name: str) -> dict[frozenset[str], str]:
    """Partition of every set of parts that can be missing, by the rank of its hash, size by size."""
    nouns = sorted(part.noun for part in classes()[class_name] if part.role != "body" and part.chance == 1.0)
    found: dict[frozenset[str], str] = {}
    for count in range(1, len(nouns) + 1):
        sets = sorted(combinations(nouns, count), key=lambda some: _fraction("missing", class_name, *some))
        found |= _alternating(map(frozenset, sets), "first missing", class_name, str(count))
    return found


@cache
def _reachable(class_name: str) -> frozenset[str]:
    """Kinds of parts that a scene of the class can show: its own, and what other classes have for the same roles."""
    roles = {part.role for part in classes()[class_name] if part.role != "body"}
    own = {part.noun for part in classes()[class_name]}
    return frozenset(own.union(*(replacements(class_name, role) for role in roles)))


@cache
def trained() -> frozenset[str]:
    """Descriptors that train scenes draw often enough to be learnt; counterfactual scenes draw no others.

    These are the usual ones, and the unusual ones of the train partition of a class with this kind of part, or of many
    that can borrow it.
    """
    occasions: dict[str, int] = dict.fromkeys(typical_anywhere(), OCCASIONS_TO_LEARN)
    for name, parts in classes().items():
        own = {part.noun for part in parts}
        for noun in sorted(_reachable(name)):
            for descriptor, partition in _partitions(name, noun).items():
                if partition == "train":
                    occasions[descriptor] = occasions.get(descriptor, 0) + (OCCASIONS_TO_LEARN if noun in own else 1)
    return frozenset(descriptor for descriptor, count in occasions.items() if count >= OCCASIONS_TO_LEARN)


@cache
def atypical_looks(class_name: str, noun: str, partition: str) -> tuple[Look, ...]:
    """Looks of this kind of part that are atypical for the class and belong to the partition, in grammar order."""
    kind, partitions = grammar()[noun], _partitions(class_name, noun)
    return tuple(
        look
        for look in kind.looks()
        if partitions.get(kind.phrase(look)) == partition and (partition == "train" or kind.phrase(look) in trained())
    )


@cache
def removals(class_name: str, partition: str, most: int, *, only_missing: bool) -> tuple[tuple[str, ...], ...]:
    """Sets of parts (nouns) that the partition may remove, up to `most` at a time; never the body.

    The partition is decided by the parts that every typical scene has. `only_missing` keeps only sets of such parts;
    without it, parts that are sometimes absent anyway count too, as places for a part from another class.
    """
    parts = {part.noun: part for part in classes()[class_name] if part.role != "body"}
    found = []
    for count in range(1, min(most, len(parts)) + 1):
        for nouns in combinations(parts, count):
            missing = frozenset(noun for noun in nouns if parts[noun].chance == 1.0)
            if only_missing and len(missing) < count:
                continue
            if not missing or _missing_partitions(class_name)[missing] == partition:
                found.append(nouns)
    return tuple(found)


BODY_PLACES: Final = ("top", "bottom")
"""Roles in which a small body of another class can serve too: a cap as a roof, a hull below a bird."""


@cache
def replacements(class_name: str, role: str) -> dict[str, tuple[tuple[str, Part], ...]]:
    """Parts of other classes that can serve in this role, by kind that the class itself lacks, each with its class."""
    own = {part.noun for part in classes()[class_name]}
    found: dict[str, list[tuple[str, Part]]] = {}
    for name, parts in classes().items():
        for part in parts:
            fits = part.role == role or (part.role == "body" and role in BODY_PLACES)
            if fits and name != class_name and part.noun not in own:
                found.setdefault(part.noun, []).append((name, part))
    return {noun: tuple(pairs) for noun, pairs in found.items()}
