"""The filter language: what it accepts, and how it says what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipmk.browse.filters import FLAGS, NUMBERS, TEXTS, FilterError, parse_filter, quote

WORDS = (
    *FLAGS,
    *NUMBERS,
    *TEXTS,
    "a",
    "b",
    "only",
    "not",
    "boat",
    "b.",
    "a.",
    "==",
    "!=",
    "!",
    "<",
    ":",
    "=",
    '"',
    ".5",
    "5%",
)


def named(text: str) -> list[tuple[str, str, str, bool]]:
    return [(term.name, term.side, term.value, term.negated) for term in parse_filter(text).terms]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("  \t ", []),
        ("wrong", [("wrong", "a", "", False)]),
        ("WRONG b.right", [("wrong", "a", "", False), ("right", "b", "", False)]),
        ("not marked", [("marked", "a", "", True)]),
        ("not not noted", [("noted", "a", "", False)]),
        ("not wrong failed", [("wrong", "a", "", True), ("failed", "a", "", False)]),
        ("a!=b a == b a = b", [("same", "a", "", False)] * 3),
        ("only a only B", [("only", "a", "", False), ("only", "b", "", False)]),
        ("p<.05", [("p", "a", ".05", False)]),
        ("b.prob >= 60%", [("prob", "b", "60%", False)]),
        ("m > 3 mi<=-1e-3 auc!=2. agree=1", [("m", "a", "3", False), ("mi", "a", "-1e-3", False),
                                             ("auc", "a", "2.", False), ("agree", "a", "1", False)]),
        ("class:boat", [("class", "a", "boat", False)]),
        ("b.predicted: boat", [("predicted", "b", "boat", False)]),
        ('concept:"a red sail" seen:sky', [("concept", "a", "a red sail", False), ("seen", "a", "sky", False)]),
        ("IMG_0042", [("name", "a", "IMG_0042", False)]),
        ("b.png m p.jpg a", [("name", "a", word, False) for word in ("b.png", "m", "p.jpg", "a")]),
        ('"wrong" "x = \\"1\\" \\\\"', [("name", "a", "wrong", False), ("name", "a", 'x = "1" \\', False)]),
        ("caf\u00e9/\u72ac.jpg", [("name", "a", "caf\u00e9/\u72ac.jpg", False)]),
    ],
)  # fmt: skip
def test_terms_are_read(text: str, found: list[tuple[str, str, str, bool]]) -> None:
    assert named(text) == found


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("wrong prb < .5", 6, "'prb' cannot be compared; close: 'prob'"),
        ("clas:boat", 0, "'clas' cannot be compared; close: 'class'"),
        ("a != c", 0, "'a' is a model; two models are compared by a == b or a != b"),
        ("wrong a <= b", 6, "'a' is a model; two models are compared by a == b or a != b"),
        ("p <", 0, "'p' must be compared with a number, as in p < .05 or prob > 50%"),
        ("b.m > many", 0, "'b.m' must be compared with a number, as in p < .05 or prob > 50%"),
        ("p < .05x", 0, "'p' must be compared with a number, as in p < .05 or prob > 50%"),
        ("class:", 0, "'class' must be followed by a colon and a text, as in class:boat"),
        ('class:"a', 0, "'class' must be followed by a colon and a text, as in class:boat"),
        ("class = boat", 0, "'class' must be followed by a colon and a text, as in class:boat"),
        ("only c", 0, "'only' must be followed by a or b"),
        ("wrong only", 6, "'only' must be followed by a or b"),
        ("not", 0, "'not' must be followed by a term"),
        ("wrong:x", 0, "'wrong' is not compared with anything"),
        ('boat "x', 5, "this quote is not closed"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(text: str, position: int, reason: str) -> None:
    with pytest.raises(FilterError) as error:
        parse_filter(text)
    assert (error.value.position, error.value.reason) == (position, reason)
    assert str(error.value) == f"{reason}\n  {text}\n  {' ' * position}^"


def test_an_error_without_a_word_says_what_is_possible() -> None:
    with pytest.raises(FilterError, match=r"a name is missing before '<'; possible: wrong right .* class:boat"):
        parse_filter("< 3")
    with pytest.raises(FilterError, match="'not' must be followed by a term; possible") as error:
        parse_filter("wrong not ")
    assert error.value.position == len("wrong not ")


def test_the_mark_stands_below_the_place_after_characters_that_are_escaped() -> None:
    with pytest.raises(FilterError) as error:
        parse_filter("\x1b[31m prb <")
    assert str(error.value).splitlines()[1:] == [r"  \x1b[31m prb <", "           ^"]


words = st.lists(st.sampled_from(WORDS), max_size=8)


@given(words.map(" ".join) | words.map("".join) | st.text(max_size=20))
@example("\x85 not\x1f")
@example('"\\')
@example("class:\\")
def test_any_text_is_a_filter_or_an_error_of_its_own(text: str) -> None:
    position = 0
    try:
        parse_filter(text)
    except FilterError as error:
        position = error.position
    assert 0 <= position <= len(text)


@given(st.text(min_size=1))
def test_a_quoted_text_is_read_as_it_is(text: str) -> None:
    assert named(f"concept:{quote(text)}") == [("concept", "a", text, False)]
    assert named(f"not {quote(text)}") == [("name", "a", text, True)]


def test_a_bare_word_that_is_nearly_of_the_language_is_remarked_on() -> None:
    assert parse_filter("wrng p < 1").hint == "'wrng' is part of a name; close: 'wrong'"
    assert parse_filter("IMG_0042 wrong").hint is None
