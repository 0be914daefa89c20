"""What tells two models apart: every concept in one group, and one sentence."""

from __future__ import annotations

import samples
from clipmk.pipeline.comparison import compare
from clipmk_tui.app.screens.difference import answers, groups, what_separates
from compared import by

LEFT = by(
    "a",
    predicted="cat",
    vision={"ears": 0.9, "tail": 0.8, "snow": 0.3, "fog": 0.2, "same": 0.1},
    language={"ears": 0.9, "paws": 0.7, "nose": 0.6, "same": 0.5},
)
RIGHT = by(
    "b",
    predicted="robot",
    vision={"arms": 0.7, "paws": 0.6, "tail": 0.5, "same": 0.4},
    language={"arms": 0.4, "tail": 0.3, "fog": 0.2, "bolts": 0.1, "same": 0.5},
)
MADE = compare([LEFT, RIGHT], true_class="cat")


def test_every_concept_is_in_one_group_the_most_telling_first() -> None:
    found = [(title, [row.text for row in rows]) for title, rows in groups(MADE, ("a", "b"))]
    assert found == [
        ("only a sees and ties", ["ears"]),
        ("only b sees and ties", ["tail", "arms"]),
        ("seen by one, tied by the other", ["paws", "fog"]),
        ("only a sees", ["snow"]),
        ("only a ties", ["nose"]),
        ("only b ties", ["bolts"]),
        ("the same in both", ["same"]),
    ]
    assert sum(len(texts) for _, texts in found) == len(MADE.rows)


def test_one_sentence_says_what_separates_them() -> None:
    assert what_separates(MADE, ("a", "b")) == (
        "a says 'cat' (right) and alone sees and ties 'ears'; "
        "b says 'robot' (wrong) and alone sees and ties 'tail', 'arms'"
    )
    same = compare([by("a"), by("b")])
    clause = "says 'fox' and sees and ties nothing that the other does not"
    assert what_separates(same, ("a", "b")) == f"a {clause}; b {clause}"
    many = by("a", vision=dict.fromkeys("uvwxyz", 0.5), language=dict.fromkeys("uvwxyz", 0.5))
    assert "alone sees and ties 'u', 'v' and 4 more; b" in what_separates(compare([many, by("b")]), ("a", "b"))


def test_answers_name_the_place_of_the_true_class() -> None:
    made = samples.explanation()
    (column,) = compare([made], true_class="cat").columns
    assert answers(column, made, "cat") == [
        "says fox 71 %, wrong",
        "cat: rank 2, 14.9 %",
        f"{made.mutual.count} of 4 seen are tied",
        "beats all 28 other classes",
        f"strength {made.mutual.mi_paper:.2f} AUC {made.mutual.auc:.2f} u {made.mutual.language_count}",
    ]
    assert answers(column, made, "owl")[1] == f"owl: not among its {len(made.predictions)} first"
    (right,) = compare([made], true_class="fox").columns
    assert answers(right, made.for_class("cat"), "fox")[:2] == ["says fox 71 %, right", "1 of 4 seen are tied to cat"]
