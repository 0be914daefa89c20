"""The thirteen embedded models: one loader, one way to be explained, compared and measured."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch

import zoo_accuracy
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.models.catalog import list_models
from clipmk.models.loading import load
from clipmk.pipeline.builder import VAGUE_PARTS
from clipmk.pipeline.comparison import compare
from clipmk.pipeline.explainer import Explainer
from clipmk.records import ModelEntry
from clipmk.settings import preset
from clipmk.world.scene import render_scenes
from embedded import scenes, words
from zoo.recipes import ZOO, Recipe

ROOT = Path(__file__).parents[2]
SHIPPED = tuple(list_models(("embedded",)))
TABLE = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
KINDS = {"vit": "vit", "rn": "resnet", "cnx": "convnext"}
"""What the first word of a name says."""

NEWER = {field.name: field.default for field in dataclasses.fields(Recipe)} | {"about": ZOO["vit-s8"].about}
"""What older cards do not say yet, because recipes had no such field: the defaults."""


def cells(name: str) -> list[str]:
    """The model's row in docs/zoo.md, without its name."""
    (row,) = re.findall(rf"^\| {name}(?: \(default\))? \|(.*)\|$", TABLE, flags=re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


@pytest.fixture(scope="module")
def told() -> dict[str, Explanation]:
    """What every model says of one picture, by id; each goes through the loader of all models."""
    torch.set_num_threads(1)
    picture, vocabulary, found = read_picture(scenes()[0].image), words(60, classes=29), {}
    for entry in SHIPPED:
        explainer = Explainer(load(entry.id, device="cpu"), vocabulary, preset("default"), cache=False)
        found[entry.id] = explainer.explain([picture])[0]
    return found


def test_what_is_shipped_is_what_the_recipes_make_and_the_docs_list() -> None:
    assert {entry.id for entry in SHIPPED} == {f"embedded/{name}" for name in ZOO}
    assert len(SHIPPED) == 13
    assert all(cells(name) for name in ZOO)


def test_the_zoo_takes_at_most_thirty_megabytes() -> None:
    folders = [Path(entry.path or "") for entry in SHIPPED]
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) <= 30e6


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.id)
def test_every_model_explains_a_picture(entry: ModelEntry, told: dict[str, Explanation]) -> None:
    explanation = told[entry.id]
    assert explanation.model.id == entry.id
    assert explanation.model.family == KINDS[entry.id.removeprefix("embedded/").split("-")[0]]
    assert explanation.model.input_size == ZOO[entry.id.removeprefix("embedded/")].vision["image_size"]
    assert explanation.parts
    assert len({part.mask.counts for part in explanation.parts}) == len(explanation.parts)
    assert explanation.vision_concepts
    assert explanation.language_concepts
    assert 0 <= explanation.mutual.mi_paper < math.inf
    few, *more = explanation.warnings
    assert "the vocabulary has 60 descriptors" in few
    assert more == ([VAGUE_PARTS] if explanation.model.family == "convnext" else [])


def test_the_whole_zoo_can_be_compared(told: dict[str, Explanation]) -> None:
    made = compare(list(told.values()))
    assert [column.model.id for column in made.columns if column.model] == [entry.id for entry in SHIPPED]
    assert not [column.model for column in made.columns if column.error]
    assert made.rows
    assert len({column.predictions[0].probability for column in made.columns}) == len(SHIPPED)


@pytest.mark.parametrize("name", ZOO)
def test_card_says_of_recipe_and_accuracy_what_tools_and_docs_say(name: str) -> None:
    card = json.loads((ROOT / "core/clipmk/assets/models" / name / "card.json").read_text(encoding="utf-8"))
    recipe = ZOO[name].to_dict()
    assert card["recipe"].items() <= recipe.items()
    assert {key: recipe[key] for key in recipe.keys() - card["recipe"].keys()}.items() <= NEWER.items()
    listed = cells(name)
    assert [f"{card['zero_shot_top1'][split]['top1']:.3f}" for split in ("test", "counterfactual")] == listed[3:5]


def test_accuracy_is_the_share_of_scenes_whose_first_class_is_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    zoo_accuracy.main(["embedded/vit-xs8-48", "--scenes", "12", "--seed", "3", "--split", "hard", "test"])
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| model | hard | test |"
    explainer = Explainer(
        load("embedded/vit-xs8-48", device="cpu"), zoo_accuracy.load_vocabulary("world"), preset("default")
    )
    shares = []
    for split in ("hard", "test"):
        looked = [
            (one, explainer.encode(explainer.square(read_picture(one.image))))
            for one in render_scenes(split, count=12, seed=3)
        ]
        shares.append(
            sum(explainer.builder.predict(seen.embeddings[0])[0].class_name == one.class_name for one, seen in looked)
            / 12
        )
    assert min(shares) > 0
    assert re.findall(r"(\d\.\d+) \[", row) == [f"{share:.3f}" for share in shares]


@pytest.mark.parametrize(("right", "count"), [(0, 50), (37, 50), (1000, 1000), (306, 1000)])
def test_interval_holds_the_share_and_is_wilsons(right: int, count: int) -> None:
    share, low, high = map(float, re.findall(r"\d\.\d+", str(zoo_accuracy.Accuracy(right, count))))
    z = 1.959964
    middle = (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(right * (count - right) / count + z * z / 4)
    assert (share, low, high) == pytest.approx((right / count, middle - half, middle + half), abs=6e-4)
