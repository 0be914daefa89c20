"""What a study says to do: every sentence follows from its numbers, and what cannot be told is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmk.concepts.statistics import POOLED, fit_line
from clipmk.study.advice import (
    CLASSES_NAMED,
    Advice,
    advice,
    best_measure,
    correct_by_model,
    distrust,
    limits,
    misleading,
    most_accurate,
    ranking,
    sentence,
)
from clipmk.study.manifest import StudyFolder
from clipmk.study.results import Results, read_results
from clipmk.study.schema import MEAN
from clipmk.study.tables import Completeness
from study_shards import POOL, make_manifest, write_study

NAMES = {letter: letter.upper() for letter in "abcdefghij"}
NUMBERED = {str(number): f"Model {number}" for number in range(6)}


def model(name: str, top1: float | None, **more: Any) -> dict[str, Any]:
    known = {"top1": top1, "top1_low": top1, "top1_high": top1, "labelled": 0 if top1 is None else 100}
    return {"model": name, "images": 100, "probability": 0.5} | known | more


def right(count: int, *, of: int = 100) -> np.ndarray[Any, np.dtype[np.float64]]:
    return (np.arange(of) < count).astype(float)


def wrong(name: str, measure: str = "probability", **more: Any) -> dict[str, Any]:
    row = {"model": name, "measure": measure, "auroc": 0.9, "auroc_low": 0.8, "auroc_high": 1.0, "threshold": 0.6}
    rates = {"wrong_below": 0.4, "wrong_below_low": 0.3, "wrong_below_high": 0.5}
    rates |= {"wrong_above": 0.08, "wrong_above_low": 0.05, "wrong_above_high": 0.1}
    less = {"less_probability": None, "less_probability_low": None, "less_probability_high": None}
    return row | rates | less | more


def cue(name: str, text: str = "a red sail", **more: Any) -> dict[str, Any]:
    counts = {"mutual_right": 5, "mutual_wrong": 15, "other_right": 72, "other_wrong": 8}
    tests = {"q": 0.001, "error_difference": 0.65, "blurred": None, "flips": None, "control_flips": None}
    return {"model": name, "parts": "pca", "class": "boat", "text": text, "check_p": None} | counts | tests | more


def texts(found: Any) -> list[str]:
    return [sentence(kind, numbers, NAMES | NUMBERED) for kind, numbers in found]


def only(found: Any) -> Advice:
    [(kind, numbers)] = found
    return Advice(kind, sentence(kind, numbers, NAMES | NUMBERED), numbers)


def test_the_most_accurate_model_is_named_with_the_paired_difference_to_the_next() -> None:
    rows = [model("a", 0.7), model("b", 0.9)]
    found = only(most_accurate(rows, {"a": right(70), "b": right(90)}))
    assert found.text.startswith(
        "B is right most often: for 90.0 % of 100 images, 20.0 points [12.1, 27.9] more than A"
    )
    numbers = found.numbers
    assert (found.kind, numbers["model"], numbers["next"], numbers["tied"]) == ("accuracy", "b", "a", [])
    assert (numbers["ahead"], numbers["p"]) == (0.2, 2 * 0.5**20)


def test_models_that_cannot_be_told_apart_are_named_together() -> None:
    rows = [model("a", 0.9), model("b", 0.88), model("c", 0.5)]
    found = only(most_accurate(rows, {"a": right(90), "b": right(88), "c": right(50)}))
    assert found.text == (
        "No difference can be told between A, right for 90.0 % of 100 images, and B: B is behind by 2.0 points "
        "[-0.8, 4.8] on the same images (p 0.5)."
    )
    many = [model(letter, 0.9) for letter in NAMES]
    [text] = texts(most_accurate(many, dict.fromkeys(NAMES, right(90))))
    assert "and B, C, D, E, F and 4 more: B is behind by 0.0 points" in text


def test_two_images_tell_no_models_apart_however_they_come_out() -> None:
    found = only(most_accurate([model("a", 1.0), model("b", 0.0)], {"a": right(2, of=2), "b": right(0, of=2)}))
    assert found.text.startswith("No difference can be told")
    assert found.numbers["p"] == 0.5


def test_one_model_is_compared_with_nothing() -> None:
    found = only(most_accurate([model("a", 0.9)], {}))
    assert found.text == "A is right for 90.0 % of 100 images."


def test_images_of_unknown_label_do_not_count_in_a_difference() -> None:
    rows = [model("a", 0.9), model("b", 0.5)]
    unknown = np.full(50, np.nan)
    correct = {"a": np.r_[right(90), unknown], "b": np.r_[right(50), unknown]}
    assert only(most_accurate(rows, correct)).numbers["ahead"] == 0.4


def test_a_probability_below_which_a_model_is_wrong_more_often_is_named() -> None:
    found = only(distrust([wrong("a")]))
    assert found.text == (
        "Distrust A below a probability of 60 %: there it is wrong for 40.0 % of the images, above it for 8.0 %: 5.0 "
        "times as often."
    )
    assert (found.kind, found.numbers["times"], found.numbers["threshold"]) == ("probability", 5.0, 0.6)


def test_how_many_times_as_often_is_not_more_exact_than_it_can_be() -> None:
    assert "above it for 0.1 %: 400 times as often." in only(distrust([wrong("a", wrong_above=0.001)])).text


def test_a_model_that_is_never_wrong_above_has_no_ratio() -> None:
    found = only(distrust([wrong("a", wrong_above=0.0)]))
    assert found.text.endswith("wrong for 40.0 % of the images, above it for 0.0 %.")
    assert found.numbers["times"] is None


def test_rates_whose_intervals_overlap_tell_nothing_and_other_models_are_counted() -> None:
    [text] = texts(distrust([wrong("a", wrong_below_low=0.09), wrong("b"), wrong("c", wrong_below_low=0.0)]))
    assert text.startswith(
        "Below which probability to distrust A cannot be told: it is wrong for 40.0 % of the images below 60 % and for "
        "8.0 % of those above, which may be chance."
    )
    assert text.endswith("The least certain fifth is wrong more often for 1 of 2 other models.")


def test_the_probability_is_what_finds_wrong_predictions_unless_another_measure_does_for_most_models() -> None:
    rows = [wrong("a"), wrong("a", "m", auroc=0.95, less_probability=0.05, less_probability_low=0.01), wrong("b")]
    found = only(best_measure(rows))
    assert found.text == (
        "To find wrong predictions use the probability (AUROC 0.90 for A, 0.5 is guessing): another measure does "
        "better for 1 of 2 models."
    )
    better = wrong("b", "m", auroc=0.97, less_probability=0.07, less_probability_low=0.02)
    found = only(best_measure([*rows, better]))
    assert found.text == (
        "m tells wrong predictions better than the probability does, for 2 of 2 models: AUROC 0.95 against 0.90 for A."
    )
    assert (found.numbers["measure"], found.numbers["less_probability"]) == ("m", 0.05)
    [text] = texts(best_measure([wrong("a")]))
    assert text.endswith("0.5 is guessing): no other measure does better.")
    [text] = texts(best_measure([wrong("a", auroc=0.38, auroc_low=0.1)]))
    assert text.startswith("It cannot be told whether the probability finds wrong predictions (AUROC 0.38 for A, 0.5")


def test_nothing_is_said_of_wrong_predictions_where_none_is_known() -> None:
    assert texts(distrust([])) == texts(best_measure([])) == texts(misleading([], 0)) == []


def test_a_cue_is_named_with_its_class_its_errors_and_the_models_it_misleads() -> None:
    rows = [cue("b", q=0.01), cue("a"), cue("a", parts="kmeans", q=0.002), cue("d", error_difference=-1)]
    found = only(misleading(rows, 90))
    assert found.text == (
        "'a red sail' misleads A to 'boat': of the 20 images predicted so with it 75 % are wrong, of the 80 without it "
        "10 % (q 0.001). It also misleads B."
    )
    assert found.numbers["also"] == ["b"]


def test_a_checked_cue_says_what_blurring_it_changed() -> None:
    [text] = texts(misleading([cue("a", blurred=20, flips=9, control_flips=1, check_p=0.0078)], 90))
    assert text.endswith("With it blurred 9 of 20 predictions change, with as much blurred elsewhere 1 (p 0.0078).")


def test_of_many_cues_of_one_class_the_clearest_is_told_and_some_others_named() -> None:
    rows = [cue(f"{i}", f"cue {i}", q=0.04 - i / 1000) for i in range(6)]
    found = only(misleading([*rows, cue("5", "cue 2")], 90))
    assert found.text.startswith("'cue 2' misleads Model 5 to 'boat': ")
    assert found.text.endswith(
        "It also misleads Model 2. Other cues that mislead to 'boat': 'cue 5', 'cue 4', 'cue 3' and 2 more."
    )
    assert found.numbers["related"] == ["cue 5", "cue 4", "cue 3", "cue 1", "cue 0"]


def test_of_many_classes_with_misleading_cues_the_clearest_are_named_and_the_others_counted() -> None:
    rows = [cue("a", q=0.04 - i / 1000) | {"class": f"class {i}"} for i in range(CLASSES_NAMED + 2)]
    found = texts(misleading(rows, 90))
    assert [text.split(": ")[0].rpartition(" to ")[2] for text in found[:-1]] == [
        f"'class {i}'" for i in range(CLASSES_NAMED + 1, 1, -1)
    ]
    assert found[-1] == "Cues mislead to 2 further classes."


def test_concepts_that_were_tested_and_mislead_nothing_are_counted() -> None:
    [text] = texts(misleading([cue("a", error_difference=-0.2)], 1200))
    assert text == "No concept is found to mislead: of 1,200 tests none with more errors has q < 0.05."


@pytest.mark.parametrize(("shift", "known"), [(0.0, True), (0.4, False)])
def test_what_ranks_models_without_labels_is_what_follows_their_accuracy(shift: float, known: bool) -> None:
    top1 = [0.1 * i for i in range(10)]
    rows = [model(letter, share) for letter, share in zip(NAMES, top1, strict=True)]
    noisy = [share if i % 2 else 0.9 - share - shift for i, share in enumerate(top1)]
    follows = top1 if known else noisy
    lines = [fit_line(group, follows, top1, name=name) for group in ("vit", POOLED) for name in ("mean confidence",)]
    lines += [fit_line(POOLED, noisy, top1, name="AUC")]
    found = only(ranking(rows, [line for line in lines if line is not None]))
    rho = found.numbers["rho"]
    if known:
        assert found.text.startswith(
            "Without labels, mean confidence ranks these 10 models best (rho with accuracy 1.00"
        )
    else:
        assert found.text.startswith("What ranks models without labels cannot be told from 10 of them")
    assert f"AUC {rho['AUC']:.2f}" in found.text or found.numbers["best"] == "AUC"
    assert (found.numbers["told"], set(rho)) == (known, {"mean confidence", "AUC"})


def test_without_labels_models_are_listed_by_mean_confidence_and_too_few_are_not_ranked() -> None:
    found = only(ranking([model("a", None), model("b", None, probability=0.8)], []))
    assert found.text.endswith("which model is right most often: B 80.0 %, A 50.0 %.")
    assert texts(ranking([model("a", None)], [])) == []
    assert texts(ranking([model("a", 0.5), model("b", 0.4)], [])) == []


def results(rows: list[dict[str, Any]], *, classes: int = 6, done: int = 2) -> Results:
    manifest = make_manifest(classes=classes)
    return Results(
        folder=StudyFolder(Path()), manifest=manifest, completeness=Completeness(done, 2), shown_parts=MEAN,
        models=tuple(rows), all_rows=(), lines=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "tests", "expected"),
    [
        (results([model("a", 0.5), model("b", 0.5)]), 9, []),
        (results([model("a", 0.5), model("b", 0.5)]), 0, ["misleads cannot be tested"]),
        (results([model("a", None), model("b", None)]), 0, ["No image has a known label"]),
        (results([model("a", 0.5)]), 9, ["one model"]),
        (results([model("a", 0.5), model("b", 0.5)], classes=1), 9, ["one class"]),
        (results([model("a", 0.5, images=2)] * 2), 9, ["2 images are too few"]),
        (results([model("a", 0.5, images=1)] * 2), 9, ["1 image is too few"]),
        (results([model("a", 0.5)] * 2, done=1), 9, ["(1 of 2 shards): numbers will change"]),
    ],
)
def test_what_cannot_be_said_is(found: Results, tests: int, expected: list[str]) -> None:
    shown = texts(limits(found, tests))
    assert len(shown) == len(expected)
    assert all(part in text for part, text in zip(expected, shown, strict=True))


def test_advice_on_a_written_study_has_its_numbers(tmp_path: Path) -> None:
    manifest = make_manifest(pool=POOL[:2])
    study = read_results(write_study(tmp_path, manifest, pool=POOL[:2]))
    found = {one.kind: one for one in advice(study)}
    best = max(study.models, key=lambda row: row["top1"])
    assert found["accuracy"].numbers["top1"] == best["top1"]
    correct = correct_by_model(study)
    for row in study.models:
        assert np.nanmean(correct[row["model"]]) == pytest.approx(row["top1"])
        assert np.count_nonzero(~np.isnan(correct[row["model"]])) == row["labelled"]


def test_advice_on_a_study_without_labels_says_so(tmp_path: Path) -> None:
    manifest = make_manifest(pool=POOL[:1])
    study = read_results(write_study(tmp_path, manifest, pool=POOL[:1]))
    unknown = tuple(row | {"top1": None, "labelled": 0} for row in study.models)
    assert [one.kind for one in advice(replace(study, models=unknown))][-2:] == ["limit", "limit"]


def test_no_probability_is_named_for_a_model_that_is_always_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_results(write_study(tmp_path, make_manifest(pool=POOL[:1]), pool=POOL[:1]))
    never = [row | {"wrong": 0, "wrong_below": 0.0, "wrong_above": 0.0, "auroc": None} for row in study.wrong()]
    monkeypatch.setattr(Results, "wrong", lambda _: never)
    assert {"probability", "measure"}.isdisjoint(one.kind for one in advice(study))
