"""The state behind the app: images walked through, models switched, explanations kept, concepts left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from app_harness import CNX, FAMILIES, RN, VIT, VIT_XS, entry, explained, loaded
from clipmk.concepts.mutual import mi_paper
from clipmk_tui.app import state as module
from clipmk_tui.app.state import State


@dataclass(frozen=True)
class Item:
    path: str
    label: str | None = None


@dataclass(frozen=True)
class ImageList:
    items: tuple[Item, ...]
    warnings: tuple[str, ...] = ()


def state(count: int = 3) -> State:
    made = State(VIT)
    made.entries = tuple(map(entry, FAMILIES))
    made.open(ImageList(tuple(Item(f"{i}.png") for i in range(count))))  # type: ignore[arg-type]
    return made


def test_an_empty_state_asks_for_nothing() -> None:
    empty = State(VIT)
    assert empty.item is None
    assert empty.explanation is None
    assert not empty.step(1)
    assert empty.place == (0, 0)
    assert empty.view.strength is None
    assert empty.view.blurred == frozenset()


def test_walking_stops_at_both_ends() -> None:
    made = state(3)
    assert not made.step(-1)
    assert made.step(1)
    assert made.place == (2, 3)
    assert made.step(5)
    assert made.place == (3, 3)
    assert not made.step(1)


def test_a_new_image_forgets_the_class_asked_about_and_what_was_left_out() -> None:
    made = state()
    made.target = "cat"
    made.leave_out("round eyes")
    made.step(1)
    assert made.target is None
    assert made.left_out == ()


def test_a_new_model_keeps_the_class_asked_about() -> None:
    made = state()
    made.target = "cat"
    assert made.choose_model(RN)
    assert made.target == "cat"
    assert not made.choose_model(RN)


def test_an_explanation_at_hand_is_found_and_answers_for_other_classes_too() -> None:
    made = state()
    known = explained(VIT, "0.png")
    made.keep(known, "0.png", VIT, None)
    assert made.explanation is known
    made.target = "cat"
    assert made.explanation is not None
    assert made.explanation.class_name == "cat"
    assert made.explanation.mutual == known.alternatives[0].mutual
    made.target = "zebra"
    assert made.explanation is None
    made.target = None
    made.choose_model(RN)
    assert made.explanation is None
    made.choose_model(VIT)
    made.step(1)
    assert made.explanation is None
    made.forget()
    made.step(-1)
    assert made.explanation is None


def test_the_explanations_not_looked_at_for_longest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    made = state()
    for image in ("0.png", "1.png"):
        made.keep(explained(VIT, image), image, VIT, None)
    assert made.find("0.png", VIT, None) is not None
    made.keep(explained(VIT, "2.png"), "2.png", VIT, None)
    assert made.find("1.png", VIT, None) is None
    assert made.find("0.png", VIT, None) is not None


def test_neighbours_are_the_marked_models_where_there_are_two_else_all_that_are_here() -> None:
    made = state()
    made.entries = (*made.entries, entry("ViT-B-32:openai", "remote"))
    assert made.neighbour(1) == VIT_XS
    assert made.neighbour(-1) == CNX
    made.mark([RN])
    assert made.neighbour(1) == VIT_XS
    made.mark([VIT])
    assert made.neighbour(1) == RN
    made.choose_model(RN)
    assert made.neighbour(1) == VIT
    made.mark([VIT])
    assert made.neighbour(1) == CNX


def test_a_comparison_has_thirteen_models_at_most() -> None:
    made = state()
    assert all(made.mark([f"m{i}"]) for i in range(13))
    assert not made.mark(["m13"])
    assert made.mark(["m0"])
    assert made.mark(["m13"])


def test_leaving_out_a_mutual_concept_lowers_the_information_and_blurs_its_parts() -> None:
    made = state()
    made.keep(explained(VIT, "0.png"), "0.png", VIT, None)
    assert made.view.strength is None
    made.leave_out("a bushy tail")
    assert made.view.strength is not None
    assert made.view.strength.mi_paper == pytest.approx(mi_paper(4, 5, 1))
    assert made.view.blurred == frozenset({1, 2})
    made.leave_out("a bushy tail")
    assert made.view.strength is None
    assert made.view.blurred == frozenset()


def test_a_concept_left_out_elsewhere_does_not_disturb() -> None:
    made = state()
    made.keep(explained(VIT, "0.png"), "0.png", VIT, None)
    made.leave_out("a red roof")
    assert made.view.strength is None
    assert made.with_what_if == made.explanation
    made.leave_out("a bushy tail")
    assert made.view.strength is not None
    assert made.view.strength.count == 1


def test_what_is_written_names_what_was_left_out_and_what_is_left() -> None:
    made = state()
    own = explained(VIT, "0.png")
    made.keep(own, "0.png", VIT, None)
    assert made.with_what_if is not None
    assert made.with_what_if.what_if is None
    for concept in own.vision_concepts:
        if concept.mutual:
            made.leave_out(concept.text)
    written = made.with_what_if.what_if
    assert written is not None
    assert written.left_out == own.mutual_concepts
    assert (written.mutual.count, written.mutual.p_value, written.predictions) == (0, 1.0, None)
    made.reranked = own.predictions
    assert made.with_what_if.what_if is not None
    assert made.with_what_if.what_if.predictions == own.predictions
    assert made.with_what_if.for_class("cat").what_if is None


def test_the_reranking_is_void_once_something_else_is_left_out() -> None:
    made = state()
    made.leave_out("round eyes")
    made.reranked = explained(VIT, "0.png").predictions
    made.leave_out("thin legs")
    assert made.reranked is None


def test_an_explanation_of_another_class_answers_for_the_predicted_one() -> None:
    made = state()
    made.keep(explained(RN, "0.png", "fox"), "0.png", RN, "fox")
    own = made.find("0.png", RN, None)
    assert own is not None
    assert own.class_name == own.predictions[0].class_name == "cat"
    assert made.find("0.png", RN, None) is own
    assert made.find("0.png", CNX, None) is None


def test_all_models_are_marked_as_far_as_there_is_room_and_then_none() -> None:
    made = state()
    made.marked = ["mine"]
    models = [f"m{index}" for index in range(20)]
    assert not made.mark(models)
    assert made.marked == ["mine", *models[:12]]
    assert made.mark(models)
    assert made.marked == ["mine"]
    assert made.mark(models[:2])
    assert made.marked == ["mine", "m0", "m1"]


def test_the_true_class_is_that_of_the_vocabulary_in_use() -> None:
    made = state()
    made.open(ImageList((Item("0.png", "Grey_Fox"),)))  # type: ignore[arg-type]
    assert made.label is None
    made.add_loaded(replace(loaded(RN), classes=("grey fox", "cat")))
    assert made.label == "grey fox"
    made.forget()
    assert made.label is None


def test_undo_goes_back_one_change_of_what_is_left_out_at_a_time() -> None:
    made = state()
    made.leave_out("round eyes")
    made.leave_out("thin legs")
    made.restore()
    made.restore()  # nothing to restore is not a change
    for left_out in (("round eyes", "thin legs"), ("round eyes",), (), ()):
        made.undo()
        assert made.left_out == left_out
    made.leave_out("round eyes")
    made.choose_class("cat")
    made.undo()
    assert made.left_out == ()
