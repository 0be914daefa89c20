"""Errors name the variable or config key that set the wrong value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmk.errors import UsageError
from command_line import Runner

pytestmark = pytest.mark.usefixtures("loaded_once")

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
