"""Finds names by some of their characters, fast enough for every key press among 10,000 names."""

import heapq
import re
from collections.abc import Iterable, Sequence

from textual.fuzzy import FuzzySearch

_SCORED = 300
"""Matches that are scored: those that contain the query as it is, then the shortest. The others follow in order."""

_FAR = 100_000  # longer than any name
_TOGETHER = 1.5  # factor for a match of adjacent characters, as in Textual's own search


def folded(query: str) -> str:
    """A query without case and spaces, which do not matter."""
    return "".join(query.lower().split())


def matching(query: str, names: Sequence[str], among: Iterable[int] | None = None) -> list[int]:
    """Indices (of `among`, else of all) of lower-case names with all characters of a folded query in order."""
    places = range(len(names)) if among is None else among
    holds = re.compile("".join(f"[^{one}]*{one}" for one in map(re.escape, query))).match  # tries no place twice
    return [place for place in places if holds(names[place])]


def ranked(query: str, names: Sequence[str], places: Sequence[int]) -> list[int]:
    """The matches with the best ones first: characters together, at the beginnings of words, in short names."""
    if not query:
        return list(places)
    likely = heapq.nsmallest(_SCORED, places, key=lambda place: len(names[place]) + _FAR * (query not in names[place]))
    best = sorted(likely, key=lambda place: (-_score(query, names[place]), len(names[place]), place))
    chosen = set(likely)
    return best + [place for place in places if place not in chosen]


def offsets(query: str, name: str) -> list[int]:
    """Positions of a query's characters in a matching name, close together, in time linear in the name.

    Textual's own search tries every combination. Empty where the name changes its length in lower case.
    """
    length, name = len(name), name.lower()
    if len(name) != length:
        return []
    at = name.find(query)
    if at >= 0:
        return list(range(at, at + len(query)))
    at = -1
    for character in query:
        at = name.index(character, at + 1)
    found: list[int] = []
    at += 1
    for character in reversed(query):
        at = name.rindex(character, 0, at)
        found.append(at)
    return found[::-1]


def _score(query: str, name: str) -> float:
    score = FuzzySearch().score(name, offsets(query, name))
    return score * _TOGETHER if query in name else score
