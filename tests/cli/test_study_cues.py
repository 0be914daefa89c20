"""`clipmk study cues`: what misleads each model of a study, in sentences and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipmk.study.manifest import Manifest, StudyFolder, write_manifest
from clipmk.study.results import read_results
from command_line import Runner
from study_shards import POOL, image_row, make_manifest, write_language, write_plan, write_shard

ONE, OTHER = POOL[0], POOL[7]


def study(folder: Path, case: str = "labels") -> tuple[StudyFolder, Manifest, str]:
    """Two models, one class predicted for 40 images; the first model is wrong where it sees one concept."""
    manifest = make_manifest(pool=(ONE, OTHER), images=40, classes=2, shard_size=40)
    place, cue = StudyFolder(folder), ""
    folder.mkdir()
    write_manifest(manifest, place.manifest)
    write_plan(place, manifest)
    for number, model in enumerate(manifest.models):
        tied = write_language(place, manifest, model, ["a", "b"])["a"]
        cue = cue or tied[0]
        rows: list[dict[str, Any]] = []
        for image in range(40):
            wrong, seen = image % 4 == 0, tied[:1] if image % 4 == 0 or number else tied[1:3]
            label = None if case == "no labels" else "b" if wrong else "a"
            rows += [image_row(image, way, seen, tied, model=model.id, label=label) for way in manifest.parts]
        write_shard(place, manifest, model, 0, rows)
    return place, manifest, cue


def test_every_cue_is_a_sentence_under_its_model(clipmk: Runner, tmp_path: Path) -> None:
    place, manifest, cue = study(tmp_path / "study")
    out = clipmk("study", "cues", place.root).out
    assert f"kmeans: '{cue}' misleads to 'a': wrong in 10 of 10 images where it is mutual, in 0 of 30 others; q " in out
    assert out.index("ViT-B-32") < out.index(cue) < out.index("RN50") < out.index("nothing to compare")
    assert "supports" in out
    only = clipmk("study", "cues", place.root, "-m", manifest.models[1].id).out
    assert "ViT-B-32" not in only
    assert "nothing to compare" in only


def test_a_model_is_named_by_its_id_or_as_the_tables_name_it(clipmk: Runner, tmp_path: Path) -> None:
    place, manifest, _ = study(tmp_path / "study")
    for model, name in zip(manifest.models, ("ViT-B-32 openai", "RN50 openai"), strict=True):
        of_id, of_name = (clipmk("study", "cues", place.root, "-m", one, "--json") for one in (model.id, name))
        assert (of_id.status, of_id.out) == (0, of_name.out)
        assert list(json.loads(of_name.out)["cues"]["tests"]) == [model.id]
    refused = clipmk("study", "cues", place.root, "-m", "RN5 openai")
    assert "the study has no results of model 'RN5 openai'; close: 'RN50 openai'" in refused.err


def test_the_id_of_one_model_is_never_taken_as_the_name_of_another(tmp_path: Path) -> None:
    results = read_results(study(tmp_path / "study")[0])
    first, second = results.models
    named_alike = {**first, "model": "a/rn", "pretrained": None}
    both = replace(results, models=(named_alike, {**second, "model": "rn"}))
    assert (both.names["a/rn"], both.model("rn"), both.model("RN50 openai")) == ("rn", "rn", "rn")
    assert replace(results, models=(named_alike, second)).model("rn") == "a/rn"


def test_json_has_the_number_of_tests_and_every_cue(clipmk: Runner, tmp_path: Path) -> None:
    place, manifest, cue = study(tmp_path / "study")
    found = json.loads(clipmk("study", "cues", place.root, "--json").out)["cues"]
    assert found["tests"] == {manifest.models[0].id: 6, manifest.models[1].id: 0}
    assert found["found"] == read_results(place).cues()
    assert found["found"][0]["text"] == cue


def test_images_without_labels_have_nothing_to_compare(clipmk: Runner, tmp_path: Path) -> None:
    place, *_ = study(tmp_path / "study", "no labels")
    assert clipmk("study", "cues", place.root).out.count("nothing to compare") == 2
    assert clipmk("study", "cues", place.root, "--check", "3").status == 0  # there is nothing to blur


def test_a_checked_cue_says_what_blurring_did(clipmk: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, *_ = study(tmp_path / "study")
    row = {**read_results(place).cues()[0], "blurred": 12, "flips": 9, "control_flips": 1, "check_p": 0.0078}
    monkeypatch.setattr("clipmk.study.results.Results.cues", lambda self: [row])
    out = clipmk("study", "cues", place.root).out
    assert "; blurred, 9 of 12 predictions change, 1 with as much blurred elsewhere (p 0.0078)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("-m", "nope"), "the study has no results of model 'nope'"), (("--check", "0"), "--check")],
)
def test_what_cannot_be_is_refused(clipmk: Runner, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    place, *_ = study(tmp_path / "study")
    result = clipmk("study", "cues", place.root, *arguments)
    assert (result.status, message in result.err) == (2, True)


def test_a_study_that_is_not_finished_says_so_and_lists_what_there_is(clipmk: Runner, tmp_path: Path) -> None:
    place, manifest, cue = study(tmp_path / "study")
    place.shard(manifest.models[1].id, 0).unlink()
    result = clipmk("study", "cues", place.root)
    assert cue in result.out
    assert "RN50" not in result.out
    assert "not finished: 1 of 2 shards is done" in result.err


def test_a_folder_that_is_not_a_study_is_refused(clipmk: Runner, tmp_path: Path) -> None:
    assert "is not a study" in clipmk("study", "cues", tmp_path).err
