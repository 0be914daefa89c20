from __future__ import annotations

import io
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

import samples
from clipmk.explanation import Explanation
from clipmk.output.sentences import UNSURE
from clipmk.records import SoftPair
from clipmk_tui.cli.commands.explain.report import report
from clipmk_tui.show.half_blocks import explained_picture


def _printed(explanation: Explanation, *, width: int, everything: bool = False, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    lines = explained_picture(explanation, columns=30, rows=20) if explanation.picture else []
    console.print(report(explanation, width=width, everything=everything, picture=lines))
    return stream.getvalue()


def test_report_stays_as_it_was(golden: Callable[[str, str], None]) -> None:
    golden("explain_80.txt", _trimmed(_printed(samples.explanation(), width=80)))


def test_verbose_report_stays_as_it_was(golden: Callable[[str, str], None]) -> None:
    text = _printed(samples.explanation(independent=0.4), width=100, everything=True)
    golden("explain_100_verbose.txt", _trimmed(text))


def test_the_mark_of_an_unsure_name_is_explained_where_there_is_one() -> None:
    made = samples.explanation()
    assert UNSURE not in _printed(made, width=100)
    text = _printed(replace(made, vision_concepts=()), width=100)
    assert f" {UNSURE}\n" in _trimmed(text)
    assert text.count("■ 1 ? ") == text.count("■ 2 ? ") == 1


def _trimmed(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("with_picture", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, with_picture: bool) -> None:
    explanation = samples.explanation(
        path="a/very/long/folder/name/" * 6 + "猫.png", descriptor="描述 " * 30, with_picture=with_picture
    )
    assert max(cell_len(line) for line in _printed(explanation, width=width).splitlines()) <= width


NARROW = pytest.mark.parametrize("width", [60, 62, 64, 70, 80, 120])


def _crowded() -> Explanation:
    """Longer names than there is room for, many parts, probabilities of their own, and nearly mutual pairs."""
    made = samples.explanation(independent=0.4, descriptor="round and very orange headlights")
    parts = (tuple(range(1, 13)), (11, 12, 13), (1, 2), (2,))
    seen = tuple(replace(one, parts=own) for one, own in zip(made.vision_concepts, parts, strict=True))
    pairs = (SoftPair(vision="a rather long bushy tail", language="the long tail of a fox", cosine=0.9123),)
    return replace(made, vision_concepts=seen, mutual=replace(made.mutual, soft=pairs))


def _block(text: str, sign: str, words: str) -> str:
    """The line of a concept and those that its name goes on in, as one line of single blanks."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f" {sign} {words.split(maxsplit=1)[0]}"))
    rest = itertools.takewhile(lambda line: line.startswith("   ") and line.strip(), lines[start + 1 :])
    return " ".join([*lines[start].split(), *" ".join(rest).split()])


@NARROW
def test_every_concept_keeps_its_sign_name_and_number_however_narrow(width: int) -> None:
    explanation = _crowded()
    text = _printed(explanation, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for seen in explanation.vision_concepts:
        sign, number = "∩" if seen.mutual else "◐", f"{seen.importance:.3f}"
        tokens = _block(text, sign, seen.text).split()
        assert tokens[0] == sign
        assert number in tokens
        assert [word for word in tokens if word.isalpha() and word not in {"part", "parts"}] == seen.text.split()
    for tied in (one for one in explanation.language_concepts if not one.mutual):
        assert _block(text, "◑", tied.text) == f"◑ {tied.text} cos {tied.cosine:.3f}"
    (pair,) = explanation.mutual.soft
    block = _block(text, "≈", pair.vision)
    assert Counter(block.split()) == Counter(f"≈ {pair.vision} {pair.language} cos 0.912".split())


@NARROW
def test_numbers_of_summary_and_predictions_stay_however_narrow(width: int) -> None:
    explanation = _crowded()
    text = _printed(explanation, width=width)
    for name, value in (("class swap p", "0.034"), ("strength", "3.69"), ("AUC", "0.61"), ("u", "5")):
        assert re.search(rf"^ {name} +{value}( |$)", text, re.MULTILINE), text
    assert (
        " ".join(text.split()).count("2 of 4 seen concepts are tied to 'fox'; more than to any of 28 other classes")
        == 1
    )
    for one in explanation.predictions:
        line = rf"^ {one.rank} {one.class_name} .*{100 * one.probability:.1f} % +cos {one.cosine:.3f}"
        assert re.search(line, text, re.MULTILINE), text
    assert text.count("alone 40.0 %") == 3


@NARROW
def test_no_part_of_a_concept_is_omitted_however_narrow(width: int) -> None:
    text = _printed(_crowded(), width=width)
    for seen in _crowded().vision_concepts:
        block = _block(text, "∩" if seen.mutual else "◐", seen.text).split()
        assert [word for word in block if word.isdigit()] == [str(part) for part in seen.parts]


def test_text_from_outside_is_never_markup_or_control() -> None:
    name = "[red]x[/red].png"
    evil = "[bold]\x1b[31m\u202e[/bold]\r"
    text = _printed(samples.explanation(path=name, class_name=evil, descriptor=evil), width=100)
    assert name in text
    assert text.count(r"[bold]\x1b[31m\u202e[/bold]\x0d") >= 5
    assert not set(text) & set("\x1b\u202e\r")


def test_colour_is_not_the_only_carrier() -> None:
    """Without colour the three kinds of concepts have signs, parts have numbers, and no escape is printed."""
    text = _printed(samples.explanation(with_picture=True), width=100)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert any("∩ pointed ears" in line and "part 1" in line for line in lines)
    assert any("◐ round eyes" in line for line in lines)
    assert any("◑ a white chest" in line for line in lines)
    assert any("■ 2 a bushy tail" in line and "16.0 %" in line for line in lines)


def test_explained_class_that_is_not_the_predicted_one_is_named() -> None:
    assert "why 'cat'" in _printed(samples.explanation(class_name="cat"), width=80)
