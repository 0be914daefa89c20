from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.cells import cell_len

import clipmk as package
from command_line import FAST, Ran, Runner

loaded_once = pytest.mark.usefixtures("loaded_once")
MODEL = "embedded/vit-s8"


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded model under another name."""
    folder = tmp_path_factory.mktemp("models") / "twin"
    shutil.copytree(Path(package.__file__ or "").parent / "assets" / "models" / "vit-s8", folder)
    return f"local-dir:{folder}"


def _comparison(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran.out)["comparison"]
    return found


@loaded_once
def test_json_of_two_models_is_valid_and_equal_weights_give_equal_results(
    clipmk: Runner, scene_files: list[Path], valid: Callable[[Any], None], twin: str
) -> None:
    ran = clipmk("compare", scene_files[0], "-m", MODEL, "-m", twin, *FAST, "--json")
    assert ran.status == 0
    valid(json.loads(ran.out))
    made = _comparison(ran)
    assert (made["image"]["path"], made["target"], made["answered"]) == (str(scene_files[0]), None, 2)
    assert [column["id"] for column in made["columns"]] == [MODEL, twin]
    assert made["agreement"] == 1.0
    assert made["rows"]
    for row in made["rows"]:
        assert row["cells"][0] == row["cells"][1]
        assert row["mutual_count"] in {0, 2}


@loaded_once
def test_comparison_agrees_with_explain(clipmk: Runner, scene_files: list[Path], twin: str) -> None:
    options = (*FAST, "--json", "--seed", 3, "--top", 2)
    (alone,) = json.loads(clipmk("explain", scene_files[1], "-m", MODEL, *options).out)["results"]
    column = _comparison(clipmk("compare", scene_files[1], "-m", MODEL, "-m", twin, *options))["columns"][0]
    assert column["predictions"] == alone["predictions"]
    assert len(column["predictions"]) == 2
    assert column["mutual"] == alone["explanation"]["mutual"]
    assert column["provenance"] == alone["provenance"]


@loaded_once
def test_table_names_models_families_and_concepts(clipmk: Runner, scene_files: list[Path], twin: str) -> None:
    ran = clipmk("compare", scene_files[0], "-m", MODEL, "-m", twin, *FAST)
    assert ran.status == 0
    assert "\x1b" not in ran.out
    assert all(
        word in ran.out
        for word in ("vit-s8", "twin", "ViT", "says", "tied", "beats", "strength", "AUC  / chance", "alike", "of 2")
    )
    assert "the true class is not known" in ran.out
    assert "∩ mutual  ◐ vision only  ◑ language only" in ran.out
    assert max(cell_len(line) for line in ran.out.splitlines()) <= 100


@loaded_once
def test_failing_model_fills_its_column_and_the_others_continue(
    clipmk: Runner, scene_files: list[Path], valid: Callable[[Any], None], twin: str
) -> None:
    argv = ("compare", scene_files[0], "-m", "embedded/nope", "-m", MODEL, "-m", twin, *FAST)
    ran = clipmk(*argv, "--json")
    assert ran.status == 4
    valid(json.loads(ran.out))
    made = _comparison(ran)
    assert [column["error"] and column["error"]["code"] for column in made["columns"]] == ["model", None, None]
    assert made["answered"] == 2
    assert "error" not in json.loads(ran.out)
    text = clipmk(*argv)
    assert text.status == 4
    assert "failed: model" in text.out
    assert text.err.count("clipmk: error: model 'embedded/nope' does not exist") == 1


@loaded_once
def test_warning_is_printed_once_with_its_models(clipmk: Runner, tmp_path: Path, twin: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    argv = ("compare", "a.gif", "-m", MODEL, "-m", twin, *FAST, "--json")
    assert clipmk(*argv).err.count(f"clipmk: warning: {MODEL}, {twin}: the image is animated") == 1
    assert clipmk(*argv, "--quiet").err == ""


@loaded_once
def test_target_is_explained_by_all_models_as_the_vocabulary_spells_it(
    clipmk: Runner, scene_files: list[Path], twin: str
) -> None:
    made = _comparison(clipmk("compare", scene_files[0], "-m", MODEL, "-m", twin, *FAST, "--json", "--target", "CAT"))
    assert made["target"] == "cat"
    assert [column["class"] for column in made["columns"]] == ["cat", "cat"]


@loaded_once
def test_models_without_a_vocabulary_use_the_first_that_a_model_brings(
    clipmk: Runner, scene_files: list[Path], twin: str
) -> None:
    made = _comparison(clipmk("compare", scene_files[0], "-m", twin, "-m", MODEL, *FAST, "--json"))
    assert [column["provenance"]["vocabulary"] for column in made["columns"]] == ["world", "world"]


@loaded_once
def test_named_vocabulary_and_classes_apply_to_all_models(
    clipmk: Runner, scene_files: list[Path], twin: str, tmp_path: Path
) -> None:
    descriptors = {"cat": [f"a {word} tail" for word in ("long", "short", "red", "blue")], "owl": ["round eyes"]}
    (tmp_path / "own.json").write_text(json.dumps(descriptors), encoding="utf-8")
    ran = clipmk(
        *("compare", scene_files[0], "-m", twin, "-m", MODEL, *FAST, "--json"),
        *("--vocab", "own.json", "--classes", "hen,owl,cat"),
    )
    made = _comparison(ran)
    for column in made["columns"]:
        assert column["provenance"]["vocabulary"] == "own"
        assert {one["class"] for one in column["predictions"]} == {"hen", "owl", "cat"}


def test_no_model_with_a_vocabulary_is_an_error(
    clipmk: Runner, scene_files: list[Path], twin: str, tmp_path: Path
) -> None:
    shutil.copytree(twin.removeprefix("local-dir:"), tmp_path / "third")
    ran = clipmk("compare", scene_files[0], "-m", twin, "-m", "local-dir:third")
    assert ran.status == 2
    assert "brings no vocabulary; choose one with --vocab" in ran.err


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "2 to 13 models can be compared, 0 named"),
        ([MODEL], "2 to 13 models can be compared, 1 named: embedded/vit-s8"),
        ([f"embedded/m{i}" for i in range(14)], "2 to 13 models can be compared, 14 named"),
        ([MODEL, "embedded/nope", MODEL], "model 'embedded/vit-s8' is named twice"),
    ],
)
def test_too_few_too_many_or_repeated_models_are_a_usage_error(
    models: list[str], message: str, clipmk: Runner, scene_files: list[Path]
) -> None:
    ran = clipmk("compare", scene_files[0], *(word for model in models for word in ("-m", model)), "--json")
    assert ran.status == 2
    assert message in ran.err
    assert json.loads(ran.out)["error"]["code"] == "usage"


def test_models_can_come_from_the_environment(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMK_MODEL", "embedded/a,embedded/b,embedded/a")
    assert "model 'embedded/a' is named twice" in clipmk("compare", scene_files[0]).err


def test_several_images_are_a_usage_error(clipmk: Runner, scene_files: list[Path]) -> None:
    models = ("-m", MODEL, "-m", "embedded/nope")
    folder = scene_files[0].parent
    ran = clipmk("compare", folder, *models)
    assert ran.status == 2
    assert f"'{folder}' names 3 images; models are compared on exactly one" in ran.err
    assert clipmk("compare", *scene_files[:2], *models).status == 2
    assert clipmk("compare", *models).status == 2


def test_unreadable_image_is_reported_once(clipmk: Runner, tmp_path: Path, valid: Callable[[Any], None]) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    argv = ("compare", "bad.png", "-m", MODEL, "-m", "embedded/nope")
    ran = clipmk(*argv)
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.count("clipmk: error: ") == 1
    made = clipmk(*argv, "--json")
    valid(json.loads(made.out))
    assert json.loads(made.out)["error"]["code"] == "image"
    assert json.loads(made.out)["comparison"]["answered"] == 0


def test_unknown_target_stops_everything_before_a_model_is_loaded(clipmk: Runner, scene_files: list[Path]) -> None:
    ran = clipmk("compare", scene_files[0], "-m", MODEL, "-m", "embedded/nope", "--target", "cta")
    assert ran.status == 2
    assert "class 'cta' is not in world; close: 'cat'" in ran.err


@loaded_once
def test_labels_beside_the_image_say_who_is_right(
    clipmk: Runner, scene_files: list[Path], valid: Callable[[Any], None], twin: str
) -> None:
    labels = scene_files[0].parent / "labels.csv"
    argv = ("compare", scene_files[0], "-m", MODEL, "-m", twin, *FAST)
    try:
        labels.write_text(f"path,label\n{scene_files[0].name},CAT\n", encoding="utf-8")
        ran = clipmk(*argv, "--json")
        valid(json.loads(ran.out))
        made = _comparison(ran)
        answers = [column["predictions"][0]["class"] == "cat" for column in made["columns"]]
        assert made["true_class"] == "cat"
        assert [column["right"] for column in made["columns"]] == answers
        assert made["right_count"] == sum(answers)
        assert "true class: cat" in clipmk(*argv).out
        labels.write_text("nonsense", encoding="utf-8")
        ran = clipmk(*argv)
        assert ran.status == 0
        assert "labels.csv'" in ran.err
        assert "it is ignored" in ran.err
        assert "the true class is not known" in ran.out
    finally:
        labels.unlink()
