from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from clipmk.models import loading
from clipmk.pipeline.stream import Stream
from clipmk.system.locations import assets_dir
from command_line import FAST, Ran, Runner

pytestmark = pytest.mark.usefixtures("loaded_once")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def _results(ran: Ran) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ran.out)["results"]
    return found


def test_bad_images_do_not_stop_the_run(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path, valid: Callable[[Any], None]
) -> None:
    whole = scene_files[0].read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    arguments = ["gone.png", scene_files[0], "cut.png", "text.png", "empty", scene_files[1]]
    ran = clipmk("explain", *arguments, *FAST, "--json")
    made = json.loads(ran.out)
    valid(made)
    assert ran.status == 3
    assert ["error" in result for result in made["results"]] == [True, False, True, True, True, False]
    assert [result["image"]["path"] for result in made["results"]] == [str(argument) for argument in arguments]
    assert "error" not in made
    assert [result["error"]["code"] for result in made["results"] if "error" in result] == ["image"] * 3 + ["input"]
    assert ran.err.count("clipmk: error: ") == 4
    text = clipmk("explain", "gone.png", scene_files[0], *FAST)
    assert (text.status, text.out.count("predictions")) == (3, 1)


@posix
def test_pipe_named_as_an_image_is_refused_without_waiting(clipmk: Runner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    ran = clipmk("explain", "pipe.png")
    assert (ran.status, ran.err) == (3, "clipmk: error: image 'pipe.png' is a pipe, not a regular file\n")


def test_missing_image_names_close_ones(clipmk: Runner, scene_files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "fox_03.png").write_bytes(scene_files[0].read_bytes())
    ran = clipmk("explain", "fox_3.png", "--json")
    assert ran.status == 3
    assert json.loads(ran.out)["error"] == {
        "code": "image",
        "message": "image 'fox_3.png' does not exist; close: 'fox_03.png'",
    }


def test_unknown_class_names_close_ones(clipmk: Runner, scene_files: list[Path]) -> None:
    ran = clipmk("explain", scene_files[0], "--target", "catsle", "--vocab", "world", "--json")
    assert ran.status == 2
    assert json.loads(ran.out)["error"]["code"] == "usage"
    assert "class 'catsle' is not in world; close: 'castle'" in ran.err
    assert clipmk("explain", scene_files[0], "--target", "catsle").status == 2


def test_unknown_model_names_close_ones_and_the_other_models_continue(
    clipmk: Runner, scene_files: list[Path], valid: Callable[[Any], None]
) -> None:
    models = ("-m", "embedded/vit-s9", "-m", "embedded/vit-s8")
    ran = clipmk("explain", *scene_files[:2], *models, *FAST, "--json")
    made = json.loads(ran.out)
    valid(made)
    assert ran.status == 4
    assert [result["model"]["id"] for result in made["results"]] == ["embedded/vit-s9"] * 2 + ["embedded/vit-s8"] * 2
    assert ["error" in result for result in made["results"]] == [True, True, False, False]
    assert "model 'embedded/vit-s9' does not exist; close: 'embedded/vit-s8'" in ran.err
    assert ran.err.count("clipmk: error") == 1


def test_several_models_explain_each_image_under_their_own_names(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    """The same weights under a registered name: the same answer, and overlays of their own."""
    folder = assets_dir() / "models" / "vit-s8"
    (tmp_path / "config.toml").write_text(f"[models]\nmine = {json.dumps(str(folder))}\n", encoding="utf-8")
    models = ("-m", "mine", "-m", "embedded/vit-s8", "--vocab", "world")
    ran = clipmk("explain", *scene_files[:2], *models, *FAST, "--json", "-q", "--overlay", "o.png")
    results = _results(ran)
    assert (ran.status, ran.err) == (0, "")
    assert [result["model"]["id"] for result in results] == ["mine", "mine", "embedded/vit-s8", "embedded/vit-s8"]
    for one, other in zip(results[:2], results[2:], strict=True):
        assert one["explanation"] == other["explanation"]
    stems = [path.stem for path in scene_files[:2]]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(
        f"o-{stem}-{model}.png" for stem in stems for model in ("mine", "embedded-vit-s8")
    )


def test_model_without_a_vocabulary_says_how_to_name_one(clipmk: Runner, scene_files: list[Path]) -> None:
    ran = clipmk("explain", scene_files[0], "-m", "ViT-B-32:random")
    assert ran.status == 2
    assert "choose one with --vocab NAME|FILE" in ran.err


def test_wrong_model_is_reported_before_its_missing_vocabulary(clipmk: Runner, scene_files: list[Path]) -> None:
    for model, words in (("ViT-B-32", "needs a pretrained tag: ViT-B-32:openai"), ("ViT-B-33:openai", "close:")):
        ran = clipmk("explain", scene_files[0], "-m", model)
        assert ran.status == 4
        assert f"model {model!r}" in ran.err
        assert words in ran.err


def test_explanation_of_a_model_with_random_weights_carries_a_warning(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "own.json").write_text('{"fox": ["pointed ears"], "car": ["round wheels"]}', encoding="utf-8")
    ran = clipmk("explain", scene_files[0], "-m", "ViT-B-32:random", "--vocab", "own.json", "--json")
    (result,) = _results(ran)
    assert any("random weights" in warning for warning in result["warnings"])


def test_missing_device_is_a_device_error(clipmk: Runner, scene_files: list[Path]) -> None:
    ran = clipmk("explain", scene_files[0], "--device", "cuda:99", "--json")
    assert ran.status == 5
    assert json.loads(ran.out)["error"]["code"] == "device"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--preset", "papr"), "preset 'papr' does not exist; close: 'paper'"),
        (("--json", "--jsonl"), "choose one of them"),
        (("--seed", "many"), "--seed is 'many'; it must be a whole number; see clipmk explain --help"),
        (("--top", "0"), "--top is 0; it must be at least 1"),
        (("--modle", "x"), "No such option: --modle"),
        (("--overlay", "nowhere/o.png"), "the folder 'nowhere' does not exist"),
    ],
)
def test_usage_errors_are_one_line_and_come_before_the_work(
    argv: tuple[str, ...], message: str, clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", _never)
    ran = clipmk("explain", scene_files[0], *argv)
    assert ran.status == (1 if "nowhere/o.png" in argv else 2)
    assert message in ran.err
    assert ran.err.startswith("clipmk: error: ")
    assert ran.err.count("\n") == 1


def test_a_number_that_is_too_small_is_refused_in_our_words(clipmk: Runner) -> None:
    ran = clipmk("evaluate", "--truth", "--scenes", "0")
    assert (ran.status, ran.err) == (
        2,
        "clipmk: error: --scenes is 0; it must be at least 1; see clipmk evaluate --help\n",
    )


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("no model should be loaded")


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("short", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["gpu", "cpu"])
def test_running_out_of_memory_is_a_device_error_with_advice(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch, count: int, short: Exception
) -> None:
    def encode(*_: Any, **__: Any) -> None:
        raise short

    monkeypatch.setattr("clipmk.backbones.backbone.Backbone.encode_with_patches", encode)
    ran = clipmk("explain", *scene_files[:count], "--json", "--grounding", "prompts")
    assert ran.status == 5
    assert [result["error"]["code"] for result in _results(ran)] == ["device"] * count
    assert "try grounding 'attend'" in ran.err


def test_running_out_of_memory_fails_the_remaining_images(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stream.results

    def results(self: Stream[Any], sources: Any) -> Iterator[Any]:
        yield from islice(real(self, sources), 1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stream, "results", results)
    ran = clipmk("explain", *scene_files, "--jsonl", *FAST)
    assert ran.status == 5
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["image"]["path"] for line in lines] == [str(path) for path in scene_files]
    assert ["error" in line for line in lines] == [False, True, True]


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_unexpected_error_is_one_line_and_json(
    form: str, clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(*_: Any, **__: Any) -> None:
        raise KeyError("\x1b[31moops")

    monkeypatch.setattr("clipmk.pipeline.explainer.Explainer.explain", explain)
    ran = clipmk("explain", scene_files[0], form, "-q")
    assert ran.status == 1
    assert ran.err == "clipmk: error: unexpected KeyError: '\\x1b[31moops'; --debug shows where\n"
    assert json.loads(ran.out)["error"]["code"] == "unexpected"
    debugged = clipmk("explain", scene_files[0], form, "-q", "--debug")
    assert "Traceback" in debugged.err
    assert "--debug" not in debugged.err


def test_an_error_about_a_file_that_nobody_expected_names_the_file(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/home/other/x")

    monkeypatch.setattr("clipmk.pipeline.explainer.Explainer.explain", explain)
    ran = clipmk("explain", scene_files[0], "--json", "-q")
    assert (ran.status, ran.err) == (3, "clipmk: error: '/home/other/x': Permission denied\n")
    assert json.loads(ran.out)["error"]["code"] == "input"


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 25)])
@pytest.mark.parametrize(
    "words",
    [
        ("explain", "{name}"),
        ("explain", "{image}", "-m", "{name}"),
        ("explain", "{image}", "--vocab", "{name}"),
        ("study", "{name}", "-m", "embedded/vit-xs8"),
        ("study", "world:test?scenes=1", "-m", "embedded/vit-xs8", "--out", "{name}"),
        ("study", "world:test?scenes=1", "--pool", "{name}"),
        ("study", "report", "{name}"),
        ("world", "export", "{name}", "--count", "1"),
        ("models", "info", "{name}"),
        ("vocab", "check", "{name}"),
    ],
)
def test_a_name_that_is_too_long_is_no_unexpected_error(
    clipmk: Runner, scene_files: list[Path], words: tuple[str, ...], name: str
) -> None:
    ran = clipmk(*(word.format(name=name, image=scene_files[0]) for word in words))
    assert ran.status in {2, 3, 4}
    assert "unexpected" not in ran.err


def test_our_errors_have_a_traceback_only_with_debug(clipmk: Runner) -> None:
    assert "Traceback" not in clipmk("vocab", "show", "wrld").err
    assert "Traceback" in clipmk("vocab", "show", "wrld", "--debug").err


def test_interrupted_run_ends_with_130(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clipmk.pipeline.explainer.Explainer.explain", explain)
    ran = clipmk("explain", scene_files[0], "--json", "-q")
    assert (ran.status, ran.err) == (130, "clipmk: error: interrupted\n")
    assert json.loads(ran.out)["error"]["code"] == "interrupted"


def test_library_that_prints_does_not_reach_stdout(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet_load = loading.load

    def load(model: str, **options: Any) -> Any:
        os.write(1, b"noise one\n")
        print("noise two")  # noqa: T201
        if os.name == "posix":
            ctypes.CDLL(None).puts(b"noise three")
        return quiet_load(model, **options)

    monkeypatch.setattr(loading, "load", load)
    ran = clipmk("explain", scene_files[0], *FAST, "--json", "-q")
    assert len(_results(ran)) == 1
    assert ran.err.count("noise") == (3 if os.name == "posix" else 2)
