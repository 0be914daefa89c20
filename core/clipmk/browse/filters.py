"""The language that chooses images: `wrong a != b p < .05 concept:"a red sail" not class:boat`.

All terms are required and `not` negates the next one. `b.wrong`, `b.p`, `b.predicted:x` ask the second model, the same
without `b.` the first; a bare or quoted word is a part of the image's name.
"""

import re
from operator import eq, ge, gt, le, lt, ne
from typing import Final, NamedTuple

import pyarrow.compute as pc

from clipmk.errors import InputError, suggest
from clipmk.system.text import printable, quoted

FLAGS: Final = ("wrong", "right", "failed", "marked", "noted")
NUMBERS: Final = ("p", "prob", "m", "mi", "auc", "agree")
TEXTS: Final = ("class", "predicted", "concept", "seen")
"""Followed by a colon and a text: true class, predicted class, mutual concept, vision concept."""
POSSIBLE: Final = 'possible: wrong right failed marked noted, a != b, only a, p < .05, class:boat, concept:"a red sail"'

_COMPARE: Final = {"<": lt, "<=": le, ">": gt, ">=": ge, "=": eq, "==": eq, "!=": ne}
_QUOTED, _NUMBER, _END = r'"(?:[^"\\]|\\.)*"', r"-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?%?", r'(?![^\s"])'
_TERM: Final = re.compile(
    rf"""(?P<not>not)(?=\s) | a\s*(?P<same>[!=]?=)\s*b{_END} | only\s+(?P<only>[ab]){_END}
    | (?:(?P<side>[ab])\.)?(?: (?P<flag>{"|".join(FLAGS)}){_END}(?!\s*[<>=!:])
        | (?P<number>{"|".join(NUMBERS)})\s*(?P<operator>[<>=!]=|[<>=])\s*(?P<value>{_NUMBER}){_END}
        | (?P<field>{"|".join(TEXTS)}):\s*(?P<text>{_QUOTED}|[^\s"]+) )
    | (?P<name>{_QUOTED}|(?!(?:only|not){_END})[^\s"<>=!:]+{_END}(?!\s*[<>=!:]))""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_REASONS: Final = {
    **dict.fromkeys(("a", "b"), "is a model; two models are compared by a == b or a != b"),
    "only": "must be followed by a or b",
    "not": "must be followed by a term",
    **dict.fromkeys(FLAGS, "is not compared with anything"),
    **dict.fromkeys(NUMBERS, "must be compared with a number, as in p < .05 or prob > 50%"),
    **dict.fromkeys(TEXTS, "must be followed by a colon and a text, as in class:boat"),
}
"""Why a word that is known does not begin a term as it stands."""


class FilterError(InputError):
    """A filter that cannot be parsed or answered: why (`reason`), and a mark below the 0-based `position`."""

    def __init__(self, text: str, position: int, reason: str) -> None:
        self.position, self.reason = position, reason
        super().__init__(f"{reason}\n  {printable(text)}\n  {' ' * len(printable(text[:position]))}^")


class Term(NamedTuple):
    """One condition: its name is one of `FLAGS`, `NUMBERS`, `TEXTS`, or "same", "only", "name"."""

    name: str
    side: str
    """The model: "a" or "b"."""
    value: str
    position: int
    negated: bool
    accepts: pc.Expression | None
    """On the columns of an `image_table`; None for one of `TEXTS`, which the table looks up."""


class Filter(NamedTuple):
    """Conditions that are all required."""

    text: str
    terms: tuple[Term, ...]

    @property
    def hint(self) -> str | None:
        """A remark on a part of a name that is close to the language's own words, for when nothing matches."""
        words = [term.value for term in self.terms if term.name == "name"]
        found = ((word, suggest(word, (*FLAGS, *NUMBERS, *TEXTS, "only"))) for word in words)
        return next((f"{quoted(word)} is part of a name; {near}" for word, near in found if near[:5] == "close"), None)


def quote(text: str) -> str:
    """A text as the language quotes it."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def parse_filter(text: str) -> Filter:
    """Parse a filter, FilterError if that is not possible; the empty one accepts every image."""
    terms, negated, position = list[Term](), False, 0
    while rest := text[position:].lstrip():
        found = _TERM.match(rest)
        if found is None:
            raise FilterError(text, len(text) - len(rest), _reason(rest))
        if not found["not"]:
            terms.append(_term(found, len(text) - len(rest), negated=negated))
        negated = not negated if found["not"] else False
        position = len(text) - len(rest) + found.end()
    if negated:
        raise FilterError(text, len(text), f"'not' must be followed by a term; {POSSIBLE}")
    return Filter(text, tuple(terms))


def _term(found: re.Match[str], position: int, *, negated: bool) -> Term:
    kind = str(found.lastgroup)
    name = (found["flag"] or found["number"] or found["field"] or kind).lower()
    side = (found["only"] or found["side"] or "a").lower()
    value = found["value"] or found["text"] or found["name"] or ""
    if value[:1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    compare = _COMPARE[found["operator"] or found["same"] or "=="]
    accepts = {
        "right": pc.field(f"{side}.correct"),
        "wrong": pc.field(f"{side}.wrong"),
        "failed": pc.field(f"{side}.error").is_valid(),
        "marked": pc.field("marked"),
        "noted": pc.field("noted"),
        "same": compare(pc.field("a.predicted"), pc.field("b.predicted")),
        "only": pc.field(f"{side}.correct") & pc.field(f"{'a' if side == 'b' else 'b'}.wrong"),
        "name": pc.match_substring(pc.field("name"), value, ignore_case=True),
    }.get(name)
    if kind == "value":
        number = float(value.rstrip("%")) / (100 if value.endswith("%") else 1)
        accepts = compare(pc.field(name if name == "agree" else f"{side}.{name}"), number)
    return Term(name, side, value, position, negated, accepts)


def _reason(rest: str) -> str:
    """Why no term begins here, and what is possible."""
    word = re.split(r'[\s"<>=!:]', rest, maxsplit=1)[0].lower()
    if not word:
        return (
            "this quote is not closed" if rest[0] == '"' else f"a name is missing before {quoted(rest[0])}; {POSSIBLE}"
        )
    name = word[2:] if word[:2] in {"a.", "b."} else word
    return f"{quoted(word)} {_REASONS.get(name) or f'cannot be compared; {suggest(name, (*NUMBERS, *TEXTS))}'}"
