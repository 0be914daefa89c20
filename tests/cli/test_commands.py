from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

import clipmk as package
from clipmk.models import catalog
from clipmk.output import document
from clipmk.records import ModelEntry
from clipmk_tui.cli.commands import doctor
from clipmk_tui.cli.main import COMMANDS, build
from command_line import Ran, Runner

ENTRIES = [
    ModelEntry(
        id="ViT-B-32-quickgelu:openai",
        source="cached",
        architecture="ViT-B-32",
        pretrained="openai",
        family="vit",
        input_size=224,
        embed_dim=512,
        path="/cache/weights.safetensors",
    ),
    ModelEntry(
        id="RN50-quickgelu:openai",
        source="remote",
        architecture="RN50",
        pretrained="openai",
        family="resnet",
        input_size=224,
        embed_dim=1024,
    ),
]


@pytest.fixture
def _few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip's list, without importing it."""
    real = catalog.list_models

    def listed(sources: Any = ("embedded", "local", "cached", "remote")) -> list[ModelEntry]:
        own = real([source for source in sources if source in {"embedded", "local"}])
        return own + [entry for entry in ENTRIES if entry.source in sources]

    monkeypatch.setattr(catalog, "list_models", listed)


@pytest.fixture
def valid_json() -> Callable[[Ran], Any]:
    validator = jsonschema.Draft202012Validator(json.loads(document.schema_text()))

    def read(ran: Ran) -> Any:
        made = json.loads(ran.out)
        validator.validate(made)
        return made

    return read


def test_help_names_every_command(clipmk: Runner) -> None:
    ran = clipmk("--help")
    assert ran.status == 0
    for name in COMMANDS:
        assert name in ran.out


def test_version_is_the_packages(clipmk: Runner) -> None:
    assert clipmk("--version") == Ran(0, f"clipmk {package.__version__}\n", "")


def test_schema_is_printed_as_shipped(clipmk: Runner) -> None:
    assert json.loads(clipmk("schema").out) == json.loads(document.schema_text())


@pytest.mark.usefixtures("_few_models")
def test_models_are_listed_and_filtered(clipmk: Runner) -> None:
    everything = clipmk("models").out
    assert all(name in everything for name in ("embedded/vit-s8", "ViT-B-32-quickgelu:openai", "RN50-quickgelu:openai"))
    assert "ViT-B-32" not in clipmk("models", "resnet").out
    assert "RN50-quickgelu:openai" not in clipmk("models", "OPENAI", "cached").out
    assert "RN50-quickgelu:openai" in clipmk("models", "list", "--source", "remote").out
    nothing = clipmk("models", "nonesuch")
    assert (nothing.status, nothing.err) == (0, "clipmk: note: no model matches 'nonesuch'\n")


@pytest.mark.usefixtures("_few_models")
def test_models_as_json_are_valid(clipmk: Runner, valid_json: Callable[[Ran], Any]) -> None:
    made = valid_json(clipmk("models", "--json"))
    assert [(entry["id"], entry["source"]) for entry in made["models"]] == [
        *((name, "embedded") for name in catalog.embedded_names()),
        ("ViT-B-32-quickgelu:openai", "cached"),
        ("RN50-quickgelu:openai", "remote"),
    ]


@pytest.mark.usefixtures("_few_models")
def test_registered_models_are_listed(clipmk: Runner, tmp_path: Path) -> None:
    folder = Path(package.__file__ or "").parent / "assets" / "models" / "vit-s8"
    (tmp_path / "config.toml").write_text(f"[models]\nmine = {json.dumps(str(folder))}\n", encoding="utf-8")
    (entry,) = json.loads(clipmk("models", "mine", "--json").out)["models"]
    assert (entry["id"], entry["source"], entry["path"]) == ("mine", "local", str(folder))


@pytest.mark.usefixtures("_few_models")
def test_one_model_is_described_with_its_card(clipmk: Runner, valid_json: Callable[[Ran], Any]) -> None:
    made = valid_json(clipmk("models", "info", "embedded/vit-s8", "--json"))
    assert made["model"]["family"] == "vit"
    assert made["card"]["name"] == "vit-s8"
    assert valid_json(clipmk("models", "info", "RN50-quickgelu:openai", "--json"))["card"] is None
    assert "clipmk models pull" in clipmk("models", "info", "RN50-quickgelu:openai").out


def test_model_that_does_not_exist_names_close_ones(clipmk: Runner) -> None:
    ran = clipmk("models", "info", "embedded/vit-s9")
    assert ran.status == 4
    assert "close: 'embedded/vit-s8'" in ran.err
    bare = clipmk("models", "info", "RN101")
    assert bare.status == 4
    assert "RN101:openai" in bare.err


def test_unknown_source_names_the_known(clipmk: Runner) -> None:
    ran = clipmk("models", "list", "--source", "web")
    assert ran.status == 2
    assert "source 'web' does not exist; known: embedded, local, cached, remote" in ran.err


def test_model_is_pulled_through_the_library(
    clipmk: Runner, valid_json: Callable[[Ran], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pull(model: str, *, progress: Any = None) -> ModelEntry:
        asked.append(model)
        return ENTRIES[0]

    monkeypatch.setattr("clipmk.models.loading.pull", pull)
    assert valid_json(clipmk("models", "pull", "ViT-B-32-quickgelu:openai", "--json"))["model"]["source"] == "cached"
    assert asked == ["ViT-B-32-quickgelu:openai"]


def test_vocabularies_are_listed_with_their_sizes(clipmk: Runner, valid_json: Callable[[Ran], Any]) -> None:
    (world,) = [one for one in valid_json(clipmk("vocab", "--json"))["vocabularies"] if one["name"] == "world"]
    assert world["classes"] == 29
    assert world["descriptors"] == 650
    assert "650" in clipmk("vocab").out


def test_vocabulary_that_is_shown_as_json_can_be_loaded_again(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "copy.json").write_text(clipmk("vocab", "show", "world", "--json").out, encoding="utf-8")
    assert clipmk("vocab", "show", "copy.json", "--json").out == clipmk("vocab", "show", "world", "--json").out
    text = clipmk("vocab", "show", "copy.json").out
    assert "descriptors (650)" in text
    assert "a photo showing {}" in text


def test_problems_of_a_vocabulary_are_printed_with_status_3(
    clipmk: Runner, tmp_path: Path, valid_json: Callable[[Ran], Any]
) -> None:
    assert clipmk("vocab", "check", "world").status == 0
    (tmp_path / "bad.json").write_text('{"fox": ["a fox tail", "Red fur", "red fur"]}', encoding="utf-8")
    ran = clipmk("vocab", "check", "bad.json")
    assert ran.status == 3
    assert "that name a class" in ran.out
    assert "equal except for case" in ran.out
    assert len(valid_json(clipmk("vocab", "check", "bad.json", "--json"))["problems"]) >= 2
    shipped = clipmk("vocab", "check", "pets", "--json")
    assert shipped.status == 0  # what only embedded models cut is no finding
    assert "longer than the context of embedded models (24 tokens)" in valid_json(shipped)["notes"][0]


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (
            '{"tabby cat": ["fur"], "dog": ["ears"], "x": [" "]}',
            ["cannot be used as it is: 'x'[0] is blank", "1 classes without descriptors: 'x'"],
        ),
        (
            '{"a": ["xyz", "a tall a", 3]}',
            ["cannot be used as it is: 'a'[2] is a number; a text is needed", "that name a class: 'a tall a' ('a')"],
        ),
    ],
)
def test_a_check_continues_after_unusable_entries(
    content: str, problems: list[str], clipmk: Runner, tmp_path: Path, valid_json: Callable[[Ran], Any]
) -> None:
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    ran = clipmk("vocab", "check", "bad.json", "--json")
    assert ran.status == 3
    found = valid_json(ran)["problems"]
    assert [any(problem in line for line in found) for problem in problems] == [True] * len(problems), found
    assert clipmk("vocab", "show", "bad.json").status == 3


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not readable JSON"), ("[]", "an object {class: [descriptor, ...]}")]
)
def test_malformed_vocabulary_is_an_input_error(content: str, message: str, clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    ran = clipmk("vocab", "check", "bad.json", "--json")
    assert ran.status == 3
    assert json.loads(ran.out)["error"]["code"] == "vocabulary"
    assert message in ran.err


def test_clearing_the_cache_removes_only_our_files(
    clipmk: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid_json: Callable[[Ran], Any]
) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "cache"))
    texts = tmp_path / "cache" / "texts"
    texts.mkdir(parents=True)
    (texts / "a.safetensors").write_bytes(b"12345")
    (texts / "mine.txt").write_bytes(b"keep")
    for argv, cleared, files in ((("cache",), False, 1), (("cache", "clear"), True, 1), (("cache", "info"), False, 0)):
        made = valid_json(clipmk(*argv, "--json"))
        assert (made["cleared"], made["files"], made["bytes"]) == (cleared, files, 5 * files)
    assert [path.name for path in texts.iterdir()] == ["mine.txt"]
    assert "removed" in clipmk("cache", "clear").out


def test_help_of_the_world_names_every_split(clipmk: Runner) -> None:
    from clipmk.world.conditions import ALL_SPLITS  # noqa: PLC0415 - not for tests that draw no scene

    told = clipmk("world", "export", "--help").out
    assert [split for split in ALL_SPLITS if split not in told] == []


def test_arguments_are_upper_case_in_every_help() -> None:
    def metavars(command: Any, path: str) -> Iterator[tuple[str, str | None]]:
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                yield f"{path} {parameter.name}", parameter.metavar
        for name, inner in getattr(command, "commands", {}).items():
            yield from metavars(inner, f"{path} {name}")

    found = dict(metavars(typer.main.get_command(build()), "clipmk"))
    assert found["clipmk world export folder"] == "FOLDER"
    assert {name: metavar for name, metavar in found.items() if metavar is None or metavar != metavar.upper()} == {}


def test_scenes_are_exported_with_their_truth(clipmk: Runner, tmp_path: Path) -> None:
    ran = clipmk("world", "export", "scenes", "--count", 2, "--split", "val", "--size", 48, "--seed", 3)
    assert ran == Ran(0, "scenes\n", "")
    truth = json.loads((tmp_path / "scenes" / "truth.json").read_text(encoding="utf-8"))
    assert (truth["split"], truth["size"], truth["seed"], len(truth["images"])) == ("val", 48, 3, 2)
    again = clipmk("world", "export", "scenes")
    assert again.status == 2
    assert "is not an empty folder" in again.err


def test_doctor_works_with_a_malformed_config(clipmk: Runner, tmp_path: Path, valid_json: Callable[[Ran], Any]) -> None:
    (tmp_path / "config.toml").write_text("modle = 3", encoding="utf-8")
    ran = clipmk("doctor")
    assert ran.status == 0
    assert "modle is not a config key" in ran.out
    found = {check["name"]: check for check in valid_json(clipmk("doctor", "--json"))["checks"]}
    assert found["config"]["status"] == "warn"
    assert found["config"]["hint"]
    assert "embedded/rn-parts" in found["embedded models"]["detail"]
    assert "torch" in found["packages"]["detail"]


@pytest.mark.parametrize("full", [(), ("--full",)])
@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("CLIPMK_CACHE_DIR", "~nosuchuser/x", "cache"),
        ("CLIPMK_CACHE_DIR", "/dev/null", "cache"),
        ("CLIPMK_CONFIG", "~nosuchuser/x", "config"),
        ("CLIPMK_CONFIG", "/" + "x" * 300, "config"),
        ("CLIPMK_CONFIG", "/dev/null/x", "config"),
    ],
)
def test_doctor_works_whatever_is_broken(
    clipmk: Runner,
    monkeypatch: pytest.MonkeyPatch,
    valid_json: Callable[[Ran], Any],
    full: tuple[str, ...],
    variable: str,
    value: str,
    name: str,
) -> None:
    monkeypatch.setenv(variable, value)
    ran = clipmk("doctor", "--json", *full)
    assert ran.status == 0
    assert {check["name"]: check["status"] for check in valid_json(ran)["checks"]}[name] == "warn"


def test_doctor_says_how_the_app_draws_pictures() -> None:
    assert doctor.pictures({"TERM": "xterm-kitty"}).detail.startswith("real pixels, kitty (CLIPMK_GRAPHICS=auto; auto,")
    assert doctor.pictures({"TERM": "xterm"}).detail.startswith("half-blocks (CLIPMK_GRAPHICS=auto;")
    chosen = {"TERM": "xterm", "CLIPMK_GRAPHICS": "sixel"}
    assert doctor.pictures(chosen).detail.startswith("real pixels, sixel (CLIPMK_GRAPHICS=sixel;")


def test_doctor_names_a_check_that_fails(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError(13, "Permission denied", "/home/other")

    monkeypatch.setattr(doctor, "embedded", broken)
    ran = clipmk("doctor")
    assert ran.status == 0
    assert "cannot be checked: PermissionError: Permission denied" in ran.out


@pytest.mark.parametrize(
    ("environment", "status", "words"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ok", "16 million"),
        ({"TERM": "xterm-256color"}, "warn", "256"),
        ({"TERM": "xterm-256color", "SSH_TTY": "/dev/pts/1"}, "warn", "SSH does not pass it on"),
        ({"TERM": "dumb"}, "warn", "TERM=xterm-256color"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "ok", "NO_COLOR"),
    ],
)
def test_doctor_says_how_to_get_more_colours(environment: dict[str, str], status: str, words: str) -> None:
    check = doctor.colours(environment, terminal=True)
    assert check.status == status
    assert words in f"{check.detail} {check.hint}"
    assert (check.hint is not None) == (status == "warn")


@pytest.mark.parametrize(("name", "status"), [("utf-8", "ok"), ("UTF8", "ok"), ("latin-1", "warn"), (None, "warn")])
def test_doctor_warns_about_encodings_without_bars(name: str | None, status: str) -> None:
    assert doctor.encoding(name).status == status


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_doctor_warns_about_a_cache_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "cache"))
    assert doctor.cache().status == "warn"


def test_doctor_warns_about_a_cache_below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "file" / "cache"))
    check = doctor.cache()
    assert check.status == "warn"
    assert "CLIPMK_CACHE_DIR" in str(check.hint)


def test_packages_are_those_that_the_metadata_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    wanted = tomllib.loads(text)["project"]["dependencies"]
    monkeypatch.setattr(metadata, "requires", lambda name: [*wanted, "no-such-extra>=1; extra == 'test'"])
    (found,) = [check for check in doctor.packages() if check.name == "packages"]
    assert found.status == "ok"
    names = [re.split("[<>]", line)[0] for line in wanted]
    assert [one.rpartition(" ")[0] for one in found.detail.split(", ")] == names
    assert "textual" in names


def test_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=2.6,<3", "no-such-package>=1"])
    found = list(doctor.packages())
    assert [check.status for check in found[:2]] == ["ok", "warn"]
    assert found[0].detail.startswith("torch ")
    assert found[1].hint == "pip install no-such-package"
