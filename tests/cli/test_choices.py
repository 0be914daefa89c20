from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from clipmk.errors import ClipmkError, UsageError
from clipmk.settings import preset
from clipmk.system.options import DEFAULT_MODEL
from clipmk_tui.cli.choices import choices_from
from clipmk_tui.cli.errors import asked
from clipmk_tui.cli.groups import GROUPS, with_default_command
from clipmk_tui.cli.main import _COMMANDS
from clipmk_tui.show.files import check_writable, overlay_names

pytestmark = pytest.mark.usefixtures("clean")

FLAGS = (
    *("model", "classes", "vocab", "target", "arch", "download", "preset", "grounding", "seed", "device", "precision"),
    *(
        "no_cache",
        "serve",
        "json",
        "jsonl",
        "overlay",
        "html",
        "top",
        "no_picture",
        "quiet",
        "verbose",
        "no_color",
        "debug",
    ),
)


def _flags(**given: Any) -> dict[str, Any]:
    return dict.fromkeys(FLAGS) | given


def _config(text: str) -> None:
    Path("config.toml").write_text(text, encoding="utf-8")


def test_nothing_said_means_the_defaults() -> None:
    choices = choices_from(_flags())
    assert choices.models == (DEFAULT_MODEL,)
    assert choices.default_model
    assert choices.settings == preset("default")
    assert (choices.device, choices.precision, choices.form) == ("auto", "fp32", "text")
    assert (choices.cache, choices.picture, choices.download, choices.quiet) == (True, True, False, False)


@pytest.mark.parametrize(
    ("flag", "key", "attribute", "values"),
    [
        ("device", "device", "device", ("cpu", "cuda", "mps")),
        ("precision", "precision", "precision", ("bf16", "fp16", "fp64")),
        ("vocab", "vocabulary", "vocabulary", ("a", "b", "c")),
        ("classes", "classes", "classes", ("a,b", "c,d", "e,f")),
    ],
)
def test_flag_outranks_environment_outranks_config(
    flag: str, key: str, attribute: str, values: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _config(f'{key} = "{values[0]}"')
    assert getattr(choices_from(_flags()), attribute) == values[0]
    monkeypatch.setenv(f"CLIPMK_{flag.upper()}", values[1])
    assert getattr(choices_from(_flags()), attribute) == values[1]
    assert getattr(choices_from(_flags(**{flag: values[2]})), attribute) == values[2]


def test_models_come_from_flags_else_environment_else_config(monkeypatch: pytest.MonkeyPatch) -> None:
    _config('model = "from-config"')
    assert choices_from(_flags()).models == ("from-config",)
    monkeypatch.setenv("CLIPMK_MODEL", "one, two,one")
    assert choices_from(_flags()).models == ("one", "two")
    choices = choices_from(_flags(model=["x", "y", "x"]))
    assert choices.models == ("x", "y")
    assert not choices.default_model


def test_switches_can_be_set_by_environment_and_config(monkeypatch: pytest.MonkeyPatch) -> None:
    _config("quiet = true\nno_color = true")
    assert choices_from(_flags()).quiet
    monkeypatch.setenv("CLIPMK_QUIET", "0")
    monkeypatch.setenv("CLIPMK_NO_CACHE", "yes")
    monkeypatch.setenv("CLIPMK_NO_PICTURE", "1")
    choices = choices_from(_flags())
    assert (choices.quiet, choices.cache, choices.picture, choices.no_color) == (False, False, False, True)


def test_settings_of_the_config_apply_unless_a_preset_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _config('seed = 5\n[settings]\npart_count = 7\ngrounding = "attend"\nprediction_count = 9')
    settings = choices_from(_flags()).settings
    assert (settings.part_count, settings.grounding, settings.seed, settings.prediction_count) == (7, "attend", 5, 9)
    monkeypatch.setenv("CLIPMK_GROUNDING", "prompts")
    monkeypatch.setenv("CLIPMK_SEED", "6")
    settings = choices_from(_flags(top=2)).settings
    assert (settings.grounding, settings.seed, settings.prediction_count) == ("prompts", 6, 2)
    assert choices_from(_flags(preset="paper", seed=1)).settings == preset("paper", seed=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "papr"}, "preset 'papr' does not exist; close: 'paper'"),
        ({"grounding": "guess"}, "grounding 'guess' does not exist; choose one of: prompts, attend"),
        ({"top": 0}, "^--top is 0; it must be at least 1$"),
        ({"json": True, "jsonl": True}, "choose one of them"),
        ({"overlay": "fox.jpg"}, "--overlay 'fox.jpg' must end in .png"),
        ({"html": "fox.png"}, "--html 'fox.png' must end in .html"),
    ],
)
def test_value_that_does_not_exist_is_repeated_with_what_does(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choices_from(_flags(**given))


def test_malformed_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_SEED", "many")
    with pytest.raises(UsageError, match="CLIPMK_SEED is 'many'"):
        choices_from(_flags())


def test_a_number_out_of_range_is_named_as_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _config("[settings]\nprediction_count = -1\npart_count = 0")
    with pytest.raises(
        UsageError, match=r"^part_count is 0; .* at least 1 \(it was set in the config '.*config\.toml'\)$"
    ):
        choices_from(_flags(top=3))
    _config("[settings]\nprediction_count = -1")
    with pytest.raises(UsageError, match=r"^prediction_count is -1; .* \(it was set in the config '.*config\.toml'\)$"):
        choices_from(_flags())
    monkeypatch.setenv("CLIPMK_TOP", "-2")
    with pytest.raises(UsageError, match=r"^CLIPMK_TOP is -2; it must be at least 1$"):
        choices_from(_flags())


def test_malformed_config_names_the_line() -> None:
    _config('model = "a"\nmodle = "b"')
    with pytest.raises(UsageError, match=r"line 2: modle is no config key; close: 'model'"):
        choices_from(_flags())


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ([], ["--help"]),
        (["models"], ["models", "list"]),
        (["models", "vit"], ["models", "list", "vit"]),
        (["models", "--json"], ["models", "list", "--json"]),
        (["models", "info", "x"], ["models", "info", "x"]),
        (["models", "--help"], ["models", "--help"]),
        (["vocab"], ["vocab", "list"]),
        (["cache"], ["cache", "info"]),
        (["models", "ifno"], ["models", "list", "ifno"]),
        (["study", "report", "x"], ["study", "report", "x"]),
        (["study", "photos"], ["study", "run", "photos"]),
        (["study", "report.csv"], ["study", "run", "report.csv"]),
        (["study", "./reprot"], ["study", "run", "./reprot"]),
        (["study", "world:test"], ["study", "run", "world:test"]),
        (["study", "-m", "x", "reprot"], ["study", "run", "-m", "x", "reprot"]),
        (["explain", "models"], ["explain", "models"]),
    ],
)
def test_left_out_commands_are_completed(given: list[str], completed: list[str]) -> None:
    assert with_default_command(given) == completed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "study reprot x",
            "'reprot' is no command of `clipmk study` and no data set; did you mean `clipmk study report`?",
        ),
        (
            "study Report",
            "'Report' is no command of `clipmk study` and no data set; did you mean `clipmk study report`?",
        ),
        ("study rnu photos", "did you mean `clipmk study run`?"),
        ("vocab shwo pets", "'shwo' is no command of `clipmk vocab`; did you mean `clipmk vocab show`?"),
        ("info x", "'info' is no command of `clipmk`; did you mean `clipmk models info` or `clipmk cache info`?"),
        ("pull x", "'pull' is no command of `clipmk`; did you mean `clipmk models pull`?"),
        ("cache claer", "'claer' is no command of `clipmk cache`; did you mean `clipmk cache clear`?"),
    ],
)
def test_a_misspelt_command_is_no_argument_of_the_default_one(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        with_default_command(given.split())


@pytest.mark.parametrize("name", GROUPS)
def test_the_commands_of_a_group_are_those_that_it_has(name: str) -> None:
    commands = import_module(f"clipmk_tui.cli.commands.{name}").app.registered_commands
    assert tuple(command.name or command.callback.__name__ for command in commands) == GROUPS[name].commands


def test_no_command_of_a_group_has_the_name_of_another_command() -> None:
    for group in GROUPS.values():
        assert set(group.commands).isdisjoint(_COMMANDS)


@pytest.mark.parametrize("name", ["models", "vocab"])
def test_the_readme_names_the_commands_of_a_group_after_it(name: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    commands = r"\|".join(GROUPS[name].commands)
    assert f"| `clipmk {name} [{commands}]` |" in readme


def test_what_lies_there_is_a_data_set_whatever_its_name() -> None:
    Path("reprot").mkdir()
    assert with_default_command(["study", "reprot"]) == ["study", "run", "reprot"]


def test_flag_is_known_before_parsing_and_not_after_two_dashes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(["explain", "--json", "x"], "--json", "CLIPMK_JSON")
    assert not asked(["explain", "--", "--json"], "--json", "CLIPMK_JSON")
    monkeypatch.setenv("CLIPMK_JSON", "1")
    assert asked([], "--json", "CLIPMK_JSON")
    monkeypatch.setenv("CLIPMK_JSON", "off")
    assert not asked([], "--json", "CLIPMK_JSON")


def test_one_overlay_has_the_name_given_and_several_have_names_of_their_own() -> None:
    target = Path("out/parts.png")
    assert overlay_names(target, ["a/fox.jpg"], ["m"]) == [target]
    assert overlay_names(target, ["a/fox.jpg", "-"], ["m"]) == [Path("out/parts-fox.png"), Path("out/parts-stdin.png")]
    assert overlay_names(target, ["fox.jpg"], ["embedded/vit-s8", "ViT-B-32:x"]) == [
        Path("out/parts-fox-embedded-vit-s8.png"),
        Path("out/parts-fox-ViT-B-32-x.png"),
    ]


def test_overlays_of_images_with_one_name_do_not_replace_each_other() -> None:
    names = overlay_names(Path("o.png"), ["a/fox.jpg", "b/fox.jpg", "b/FOX.png", "fox-2.png"], ["m"])
    assert len({str(name).casefold() for name in names}) == 4


def test_image_name_cannot_lead_the_overlay_elsewhere() -> None:
    names = overlay_names(Path("out/o.png"), ["..", "x/\x1b[31m*.png", "/"], ["../m", "b"])
    assert {name.parent for name in names} == {Path("out")}
    assert all(name.name.isprintable() and "*" not in name.name for name in names)


def test_unwritable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipmkError, match=r"the folder '.*nowhere' does not exist"):
        check_writable(tmp_path / "nowhere" / "o.png", inputs=[])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ClipmkError, match="it exists and is not a regular file"):
        check_writable(tmp_path / "folder.png", inputs=[])
    check_writable(tmp_path / "new.png", inputs=["new.png"])


def test_input_image_is_never_written_over(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png"):
        with pytest.raises(UsageError, match="is one of the images"):
            check_writable(target, inputs=["-", "other.png", str(tmp_path / "." / "photo.png")])
