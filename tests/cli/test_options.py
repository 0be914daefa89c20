from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmk.errors import UsageError
from clipmk.settings import preset
from clipmk.system.config import DEFAULT_MODEL
from clipmk_tui.cli import main
from clipmk_tui.cli.commands.explain.options import ExplainOptions
from clipmk_tui.cli.errors import has_flag
from command_line import Ran, Runner

pytestmark = pytest.mark.usefixtures("clean")

Settled = Callable[..., ExplainOptions]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Settled:
    """The options that `clipmk explain x.png ...` would explain with."""
    found: list[ExplainOptions] = []

    def run(options: ExplainOptions, _images: Any) -> int:
        found.append(options)
        return 0

    monkeypatch.setattr("clipmk_tui.cli.commands.explain.command.run", run)

    def settle(*argv: str) -> ExplainOptions:
        assert main.run(["explain", "x.png", *argv]) == 0
        return found[-1]

    return settle


def _config(text: str) -> None:
    Path("config.toml").write_text(text, encoding="utf-8")


def test_without_options_the_defaults_apply(settled: Settled) -> None:
    options = settled()
    assert options.models == (DEFAULT_MODEL,)
    assert options.default_model
    assert options.session.settings == preset("default")
    assert (options.session.device, options.session.precision, options.form) == ("auto", "fp32", "text")
    assert (options.session.cache, options.picture, options.session.download, options.quiet) == (
        True,
        True,
        False,
        False,
    )
    assert options.serve


@pytest.mark.parametrize(
    ("option", "key", "attribute", "values"),
    [
        ("device", "device", "device", ("cpu", "cuda", "mps")),
        ("precision", "precision", "precision", ("bf16", "fp16", "fp64")),
        ("vocab", "vocabulary", "vocabulary", ("a", "b", "c")),
        ("classes", "classes", "classes", ("a,b", "c,d", "e,f")),
    ],
)
def test_command_line_outranks_environment_outranks_config(
    option: str,
    key: str,
    attribute: str,
    values: tuple[str, str, str],
    settled: Settled,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _config(f'{key} = "{values[0]}"')
    assert getattr(settled().session, attribute) == values[0]
    monkeypatch.setenv(f"CLIPMK_{option.upper()}", values[1])
    assert getattr(settled().session, attribute) == values[1]
    assert getattr(settled(f"--{option}", values[2]).session, attribute) == values[2]


def test_models_come_from_the_command_line_else_environment_else_config(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    _config('model = "from-config"')
    assert settled().models == ("from-config",)
    monkeypatch.setenv("CLIPMK_MODEL", "one, two,one,local-dir:/my  models")
    assert settled().models == ("one", "two", "local-dir:/my  models")
    options = settled("-m", "x", "-m", "y", "--model", "x")
    assert options.models == ("x", "y")
    assert not options.default_model


def test_switches_can_be_set_by_environment_and_config(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    _config("quiet = true\nno_color = true\ndownload = true")
    assert settled().quiet
    for name, value in (("QUIET", "0"), ("NO_CACHE", "yes"), ("NO_PICTURE", "1"), ("SERVE", "off"), ("JSON", "")):
        monkeypatch.setenv(f"CLIPMK_{name}", value)
    options = settled()
    assert (options.quiet, options.session.cache, options.picture, options.no_color) == (False, False, False, True)
    assert (options.serve, options.session.download, options.form) == (False, True, "text")


def test_settings_of_the_config_apply_unless_a_preset_is_named(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    _config('seed = 5\n[settings]\npart_count = 7\ngrounding = "attend"\nprediction_count = 9')
    settings = settled().session.settings
    assert (settings.part_count, settings.grounding, settings.seed, settings.prediction_count) == (7, "attend", 5, 9)
    monkeypatch.setenv("CLIPMK_GROUNDING", "prompts")
    monkeypatch.setenv("CLIPMK_SEED", "6")
    settings = settled("--top", "2").session.settings
    assert (settings.grounding, settings.seed, settings.prediction_count) == ("prompts", 6, 2)
    assert settled("--preset", "paper", "--seed", "1").session.settings == preset("paper", seed=1)
    monkeypatch.setenv("CLIPMK_PRESET", "paper")
    assert settled("--seed", "1").session.settings == preset("paper", seed=1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--preset", "papr"), "preset 'papr' does not exist; close: 'paper'"),
        (("--grounding", "guess"), "grounding is 'guess'; it must be one of: prompts, attend"),
        (("--json", "--jsonl"), "choose one of them"),
        (("--overlay", "fox.jpg"), "--overlay 'fox.jpg' must end in .png"),
        (("--html", "fox.png"), "--html 'fox.png' must end in .html"),
    ],
)
def test_an_unknown_value_is_repeated_with_the_known_ones(
    argv: tuple[str, ...], message: str, settled: Settled
) -> None:
    with pytest.raises(UsageError, match=message):
        settled(*argv)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CLIPMK_SEED", "many", "CLIPMK_SEED is 'many'; it must be a whole number"),
        ("CLIPMK_TOP", "-2", "CLIPMK_TOP is -2; it must be at least 1"),
        ("CLIPMK_QUIET", "perhaps", "CLIPMK_QUIET is 'perhaps'; it must be true or false"),
    ],
)
def test_malformed_environment_names_the_variable(
    variable: str, value: str, message: str, clipmk: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert clipmk("explain", "x.png") == Ran(2, "", f"clipmk: error: {message}; see clipmk explain --help\n")


def test_a_number_of_the_config_that_is_out_of_range_is_named_with_its_key(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"config '{Path.cwd() / 'config.toml'}', line 2"
    for setting, argv in (("part_count", ("--top", "3")), ("prediction_count", ())):
        _config(f"[settings]\n{setting} = 0")
        ran = clipmk("explain", "x.png", *argv)
        assert ran.status == 2
        assert f"{where}: settings.{setting} is 0; it must be at least 1\n" in ran.err


def test_malformed_config_names_the_line(clipmk: Runner) -> None:
    _config('model = "a"\nmodle = "b"')
    for argv in (("explain", "x.png"), ("cache", "info"), ("study", "x")):
        ran = clipmk(*argv)
        assert ran.status == 2
        assert "line 2: modle is" in ran.err
        assert "close: 'model'" in ran.err


@pytest.mark.parametrize(
    "argv", [("explain", "--help"), ("study", "run", "-h"), ("--version",), ("schema",), ("doctor",)]
)
def test_help_and_doctor_work_with_a_malformed_config(argv: tuple[str, ...], clipmk: Runner) -> None:
    _config('modle = "b"')
    assert clipmk(*argv).status == 0


LEAKS = {
    "OVERLAY": "x.jpg",
    "HTML": "x",
    "JSONL": "1",
    "TOP": "3",
    "LIMIT": "2",
    "ENGINE": "moon",
    "IDLE": "no",
    "FIT": "x",
}
"""Variables of some commands' options, with values that would be noticed in others."""


@pytest.mark.parametrize(
    ("argv", "own"),
    [
        (("compare", "x.png", "-m", "a"), {"TOP"}),
        (("evaluate", "--truth", "--split", "tset"), set()),
        (("study", "run", "nowhere", "-m", "embedded/vit-s8"), {"LIMIT", "ENGINE", "FIT"}),
        (("world", "export", "x", "--split", "tset"), set()),
        (("models", "info", "no"), set()),
        (("vocab", "show", "no"), set()),
    ],
)
def test_a_variable_reaches_only_commands_that_have_its_option(
    argv: tuple[str, ...], own: set[str], clipmk: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = clipmk(*argv)
    assert alone.status != 0
    for name in LEAKS.keys() - own:
        monkeypatch.setenv(f"CLIPMK_{name}", LEAKS[name])
    assert clipmk(*argv) == alone


def test_flag_is_known_before_parsing_and_not_after_two_dashes() -> None:
    assert has_flag(["explain", "--json", "x"], "--json")
    assert not has_flag(["explain", "--", "--json"], "--json")


def test_a_failing_command_prints_json_if_its_variable_is_set(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_JSON", "1")
    assert '"code": "usage"' in clipmk("explain", "--seed", "x").out
    assert '"code": "usage"' in clipmk("compare", "x.png").out
    monkeypatch.setenv("CLIPMK_JSON", "off")
    assert clipmk("explain", "--seed", "x").out == ""
