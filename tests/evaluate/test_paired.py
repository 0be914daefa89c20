"""A model's report beside the first one's: differences of the same images, and only where there are the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmk.evaluate.metrics import clustered_interval, interval
from clipmk.evaluate.report import DataUsed, Report, Row, Tally
from command_line import Runner

IMAGES = 30


def report(model: str, seed: int, *, metric: str = "ap", images: int = IMAGES, **changes: Any) -> Report:
    rng, tally = np.random.default_rng(seed), Tally(seed=0)
    hard = np.random.default_rng(0).normal(size=images)  # the same images are hard for every model
    for number in range(images):
        score = hard[number] + 0.1 * rng.normal() + seed
        tally.add("default, attend", {metric: score, "hit1": math.nan if number % (7 + seed) == 0 else score})
        tally.add(f"only in {model}", {metric: 0.0})
    used = (DataUsed("test", images, labelled=True),)
    about: dict[str, Any] = {"measure": "truth", "vocabulary": "world", "seed": 0, "settings": {}}
    return Report(**about | {"model": model, "data": used, "rows": tuple(tally.rows("test"))} | changes)


def test_differences_are_means_over_the_same_images_with_paired_intervals() -> None:
    first, second = report("a", 1), report("b", 2)
    found = second.less(first)
    own, other = found.rows[0], first.rows[0]
    differences = second.rows[0].images["ap"] - other.images["ap"]
    assert own.differences["ap"] == interval(differences.tolist(), seed=0)
    assert own.differences["ap"].mean == pytest.approx(own.values["ap"].mean - other.values["ap"].mean)
    width, apart = (one["ap"].high - one["ap"].low for one in (own.differences, own.values))
    assert width < apart / 5
    both = [number for number in range(IMAGES) if number % 8 and number % 9]
    assert own.differences["hit1"].count == len(both)
    assert found.rows[1].differences == {}
    assert (found.reference, first.reference) == ("a", None)
    assert [(one.name, one.values, one.margins) for one in found.rows] == [
        (one.name, one.values, one.margins) for one in second.rows
    ]
    assert first.less(first) is first
    assert not any(row.images for row in found.rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"vocabulary": "pets"},
        {"data": (DataUsed("test", IMAGES, labelled=True, skipped=("image 3: not finite",)),)},
        {"images": IMAGES - 1, "data": (DataUsed("test", IMAGES - 1, labelled=True),)},
        {"metric": "foreground"},
    ],
)
def test_what_is_not_measured_alike_is_not_subtracted(changes: dict[str, Any]) -> None:
    found = report("b", 2, **changes).less(report("a", 1))
    assert "ap" not in found.rows[0].differences
    if "metric" not in changes:
        assert found.rows[0].differences == {}


def test_differences_over_classes_are_drawn_by_class() -> None:
    rng, classes = np.random.default_rng(0), np.repeat(np.arange(6), 5)
    rows = [Row("test", "variant: transductive", {}, images={"gain": rng.normal(size=(3, 30))}, clusters=classes)] * 2
    rows[1] = replace(rows[0], images={"gain": rng.normal(size=(3, 30))})
    first, second = (report(name, 1, measure="zero_shot", rows=(row,)) for name, row in zip("ab", rows, strict=True))
    expected = clustered_interval(rows[1].images["gain"] - rows[0].images["gain"], classes)
    assert second.less(first).rows[0].differences == {"gain": expected}


def test_tables_and_json_show_them() -> None:
    first, found = report("a", 1), report("b", 2).less(report("a", 1))
    titles = [title for title, *_ in found.tables()]
    assert [title for title in titles if "less a" in title] == ["test: concepts, less a (paired)"]
    assert not any("less" in title for title, *_ in first.tables())
    [(_, columns, body)] = [table for table in found.summary() if "less a" in table[0]]
    one = found.rows[0].differences["ap"]
    assert columns == ["", "ap", "hit1"]
    assert body[0][:2] == ["default, attend", f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"]
    content = json.loads(json.dumps(found.to_dict()))
    assert content["reference"] == "a"
    assert content["rows"][0]["differences"]["ap"]["mean"] == one.mean
    assert set(content["rows"][0]) == {"split", "name", "values", "margins", "differences"}


@pytest.mark.usefixtures("loaded_once")
def test_a_second_model_is_compared_with_the_first(
    clipmk: Runner, valid: Callable[[Any], None], tmp_path: Path
) -> None:
    few = ("--scenes", 3, "--split", "test", "--preset", "default", "--grounding", "attend", "--output", "found.json")
    models = ("-m", "embedded/vit-xs8-48", "-m", "embedded/vit-xs8-48-b")
    ran = clipmk("evaluate", "--reasons", "--zero-shot", *few, *models)
    assert "embedded/vit-xs8-48-b, test: accuracy, less embedded/vit-xs8-48 (paired)" in " ".join(ran.out.split())
    made = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    valid(made)
    for name, expected in {"reasons": {"area of the part"}, "zero_shot": {"default, attend: held out"}}.items():
        first, second = made[name]
        assert (first["reference"], second["reference"]) == (None, "embedded/vit-xs8-48")
        own = {row["name"]: row["values"] for row in first["rows"]}
        pairs = [(row, metric) for row in second["rows"] for metric in row["differences"]]
        assert {row["name"] for row, _ in pairs} >= expected
        for row, metric in pairs:
            if row["values"][metric]["count"] == own[row["name"]][metric]["count"] == 3:
                difference = row["values"][metric]["mean"] - own[row["name"]][metric]["mean"]
                assert row["differences"][metric]["mean"] == pytest.approx(difference, abs=1e-12)
