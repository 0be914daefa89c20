from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipmk.errors import UsageError
from clipmk.models import loading
from clipmk.pipeline.stream import Stream
from clipmk.system.locations import assets_dir
from command_line import FAST, Ran, Runner

pytestmark = pytest.mark.usefixtures("loaded_once")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


Failing = Callable[..., str]


@pytest.fixture
def failing(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """What is printed where a command that has the variable's option fails with a message."""

    def fail(variable: str, message: str, *argv: str) -> str:
        def run(*_: Any, **__: Any) -> int:
            raise UsageError(message)

        monkeypatch.setattr("clipmk_tui.cli.commands.explain.options.explain_options", run)
        monkeypatch.setattr("clipmk_tui.cli.commands.study.run.run", run)
        monkeypatch.setattr("clipmk_tui.cli.commands.study.report.run", run)
        study = {"CLIPMK_POOL": "run", "CLIPMK_BATCH_SIZE": "run", "CLIPMK_AGAINST": "report"}
        command = ("study", study[variable]) if variable in study else ("explain",)
        ran = clipmk(*command, "x", *argv)
        assert (ran.status, ran.out) == (2, "")
        return ran.err.removeprefix("clipmk: error: ").removesuffix("\n")

    return fail


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


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CLIPMK_PRESET", "foo", "preset 'foo' does not exist; known: default, paper ('foo' was set by CLIPMK_PRESET)"),
        ("CLIPMK_DEVICE", "gpu", "('gpu' was set by CLIPMK_DEVICE)"),
        ("CLIPMK_MODEL", "embedded/vit-s8,embedded/no", "('embedded/no' was set by CLIPMK_MODEL)"),
        ("CLIPMK_VOCAB", "wrld", "('wrld' was set by CLIPMK_VOCAB)"),
        ("CLIPMK_TARGET", "zebr", "('zebr' was set by CLIPMK_TARGET)"),
        ("CLIPMK_GROUNDING", "look", "('look' was set by CLIPMK_GROUNDING)"),
        ("CLIPMK_PRECISION", "fp3", "('fp3' was set by CLIPMK_PRECISION)"),
        ("CLIPMK_ARCH", "ViT-B-32", "('ViT-B-32' was set by CLIPMK_ARCH)"),
        ("CLIPMK_OVERLAY", "o.jpg", "('o.jpg' was set by CLIPMK_OVERLAY)"),
        ("CLIPMK_SEED", "many", "CLIPMK_SEED is 'many'; it must be a whole number; see clipmk explain --help"),
    ],
)
def test_a_bad_value_of_the_environment_names_its_variable(
    variable: str, value: str, message: str, clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    ran = clipmk("explain", scene_files[0])
    assert ran.status != 0
    assert f"{message}\n" in ran.err
    if variable not in {"CLIPMK_SEED", "CLIPMK_MODEL"}:
        assert "was set by" not in clipmk("explain", scene_files[0], f"--{variable[7:].lower()}", value).err


@pytest.mark.parametrize(
    ("variable", "value", "form"),
    [
        ("CLIPMK_PRESET", "foo", "--json"),
        ("CLIPMK_PRESET", "foo", "--jsonl"),
        ("CLIPMK_MODEL", "embedded/no", "--json"),
    ],
)
def test_the_origin_of_a_value_is_not_in_the_json(
    variable: str, value: str, form: str, clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_option = clipmk("explain", scene_files[0], form, f"--{variable[7:].lower()}", value)
    monkeypatch.setenv(variable, value)
    by_variable = clipmk("explain", scene_files[0], form)
    assert f"'{value}' was set by {variable}" in by_variable.err
    assert by_variable.out == by_option.out


def test_a_bad_value_of_the_config_names_its_key_and_advice_does_not(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('device = "gpu"\nvocabulary = "world"', encoding="utf-8")
    ran = clipmk("explain", scene_files[0])
    assert "device 'gpu' is not available; " in ran.err
    assert f"('gpu' was set by device in the config '{config}')\n" in ran.err
    assert "was set" not in clipmk("vocab", "show", "wrld").err, "'world' is what could be meant"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CLIPMK_POOL", "zo", "pool 'zo' is neither a file nor one of: zoo"),
        ("CLIPMK_CLASSES", "a,,b", "class list 'a,,b': class 2 is empty"),
        ("CLIPMK_MODEL", "a, m.pt", "checkpoint 'm.pt' does not exist"),
        ("CLIPMK_ARCH", "vit", "architecture 'vit' is for checkpoint files only"),
        ("CLIPMK_AGAINST", "papr", "--against 'papr' does not exist"),
        ("CLIPMK_SEED", "-1", "seed is -1; it must be at least 0"),
    ],
)
def test_errors_name_the_variable_of_each_kind_of_value(
    variable: str, value: str, message: str, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    blamed = value.rpartition(", ")[2]
    shown = blamed if blamed == "-1" else f"'{blamed}'"
    assert failing(variable, message) == f"{message} ({shown} was set by {variable})"
    assert failing(variable, message, f"--{variable[7:].lower()}", blamed) == message, "the command line counts"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CLIPMK_BATCH_SIZE", "100", "folder '100' holds no image"),
        ("CLIPMK_BATCH_SIZE", "100", "class '100' is not in birds"),
        ("CLIPMK_NO_CACHE", "true", "'true' is not a class of the vocabulary 'facts'"),
        ("CLIPMK_MODEL", "fox", "class 'fox' is not in birds"),
        ("CLIPMK_TARGET", "fox", "model 'fox' does not exist"),
        ("CLIPMK_TARGET", "fox", "subclass 'fox' is not in birds"),
        ("CLIPMK_TARGET", "fox", "class 'foxes' is not in birds"),
        ("CLIPMK_TARGET", "fox", "class 'fx' is not in birds; close: class 'fox'"),
        ("CLIPMK_VOCAB", "a,b", "vocabulary 'b' is neither a name nor a file"),
        ("CLIPMK_SEED", "1", "seed is 10; it must be smaller"),
        ("CLIPMK_CACHE_DIR", "x", "folder 'x' cannot be made"),
    ],
)
def test_a_variable_is_not_blamed_for_a_word_like_its_value(
    variable: str, value: str, message: str, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert failing(variable, message) == message


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


# files


def test_overlay_and_page_are_written_for_each_result(clipmk: Runner, scene_files: list[Path], tmp_path: Path) -> None:
    files = ("--overlay", "parts.png", "--html", "page.html")
    ran = clipmk("explain", *scene_files[:2], "gone.png", *FAST, *files, "-q", "--jsonl")
    assert ran.status == 3
    names = sorted(path.name for path in tmp_path.iterdir())
    stems = sorted(path.stem for path in scene_files[:2])
    assert names == sorted(["page.html", *(f"parts-{stem}.png" for stem in stems)])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<section") == 3
    assert "image &#39;gone.png&#39; does not exist" in page


def test_overlay_of_one_image_is_the_picture_with_its_parts(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    clipmk("explain", scene_files[0], *FAST, "--overlay", "o.png", "-q")
    drawn = np.asarray(Image.open(tmp_path / "o.png").convert("RGB"))
    picture = np.asarray(Image.open(scene_files[0])).repeat(4, 0).repeat(4, 1)
    assert drawn.shape == picture.shape
    changed = (drawn != picture).any(2).mean()
    assert 0.01 < changed < 0.99


def test_overlay_that_cannot_be_written_is_an_error_before_the_work(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    copied = tmp_path / "photo.png"
    copied.write_bytes(scene_files[0].read_bytes())
    ran = clipmk("explain", "photo.png", "--overlay", "photo.png")
    assert ran.status == 2
    assert "'photo.png' is one of the images" in ran.err
    assert copied.read_bytes() == scene_files[0].read_bytes()
