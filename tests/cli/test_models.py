"""`clipmk models`: narrowing the list, pulling with progress, names of the user's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from backbone_zoo import model_config, save
from clipmk.errors import UsageError
from clipmk.models import loading
from clipmk.models.download import Transfer
from clipmk.models.inventory import inventory
from clipmk.system.text import byte_size
from clipmk.vocabulary.vocabulary import available
from clipmk_tui.cli import progress
from clipmk_tui.cli.commands.models import parameter_count
from clipmk_tui.cli.progress import download_progress
from command_line import Runner
from fake_hub import Hub, serving

ALL_COLUMNS = ("classes", "descriptors", "templates", "description")
"""Of the list of vocabularies, besides the name."""


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def listed(clipmk: Runner, valid: Callable[[Any], None]) -> Callable[..., list[dict[str, Any]]]:
    """The entries that a listing prints as JSON, which is as the schema says."""

    def run(*options: str) -> list[dict[str, Any]]:
        ran = clipmk("models", *options, "--json")
        assert ran.status == 0, ran.err
        content = json.loads(ran.out)
        valid(content)
        return content["models"]  # type: ignore[no-any-return]

    return run


def test_every_pair_is_listed_with_its_facts(listed: Any) -> None:
    entries = {entry["id"]: entry for entry in listed()}
    assert {pair.id for pair in inventory().pairs.values()} <= set(entries)
    one = entries["ViT-B-32:laion2b_s34b_b79k"]
    assert (one["parameters"], one["input_size"], one["family"]) == (151_277_313, 224, "vit")
    assert (one["data"], one["samples_seen"], one["licence"]) == ("LAION-2B", 34_000_000_000, "MIT")
    assert (one["repository"], one["source"]) == ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "remote")
    assert entries["ViT-B-32:openai"]["alias_of"] == "ViT-B-32-quickgelu:openai"
    assert entries["embedded/vit-s8"]["alias_of"] is None


def test_a_list_is_narrowed_by_words_family_data_size_and_place(listed: Any) -> None:
    everything = listed()
    chosen = listed("vit", "--family", "vit", "--pretrained", "laion2b", "--max-parameters", "200M")
    assert chosen == [
        entry
        for entry in everything
        if entry["family"] == "vit"
        and "vit" in entry["id"].lower()
        and "laion2b" in (entry["pretrained"] or "")
        and (entry["parameters"] or 10**12) <= 200e6
    ]
    assert {"ViT-B-32:laion2b_s34b_b79k", "ViT-B-16:laion2b_s34b_b88k"} <= {entry["id"] for entry in chosen}
    assert {entry["pretrained"] for entry in listed("--pretrained", "DataComp-1B")} >= {"datacomp1b"}, (
        "by its name, too"
    )
    assert {entry["source"] for entry in listed("--cached")} == {"embedded"}
    families = {entry["family"] for entry in listed("--family", "eva", "--family", "siglip")}
    assert families == {"eva", "siglip"}
    assert listed("--family", "eva", "--cached") == []


def test_the_list_shows_size_data_and_the_model_of_an_alias(clipmk: Runner) -> None:
    lines = clipmk("models", "ViT-B-32", "--pretrained", "openai").out.splitlines()
    assert lines[0].split() == ["model", "source", "family", "px", "parameters", "trained", "on"]
    assert lines[1].split() == [
        *["ViT-B-32:openai", "remote", "vit", "224", "151", "M", "=", "ViT-B-32-quickgelu:openai"]
    ]
    assert lines[2].rstrip().endswith("151 M  WIT (OpenAI)")
    shown = clipmk("models", "info", "ViT-L/14@336px:openai").out
    assert "ViT-L-14-336-quickgelu:openai" in shown
    assert "428 M, 1.7 GB in fp32" in shown
    assert "WIT (OpenAI), 400 M image-text pairs" in shown


@pytest.fixture
def lines_at(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """The lines that a terminal of some width shows, without styles, and what stands on stderr."""

    def run(width: int, *argv: str) -> tuple[list[str], str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        ran = clipmk(*argv)
        assert ran.status == 0, ran.err
        return re.sub(r"\x1b\[[0-9;]*m", "", ran.out).splitlines(), ran.err

    return run


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_ids_are_not_wrapped_in_a_narrow_terminal(width: int, lines_at: Any, listed: Any) -> None:
    """Words of a line are cut nowhere; what leaves the table is said."""
    entries = listed("ViT-B", "openai") + listed("embedded")
    lines, err = lines_at(width, "models", "ViT-B", "openai")
    more, _ = lines_at(width, "models", "embedded")
    words = [word for line in lines + more for word in line.split()]
    assert {entry["id"] for entry in entries} <= set(words)
    ids = {entry["id"] for entry in entries}
    assert {word for word in words if "ViT" in word or "quickgelu" in word} <= ids, "so does what an alias stands for"
    assert all(line in ids for line in lines + more if len(line) > width), "only an id alone may be longer"
    gone = err.partition("no room for: ")[2].partition(";")[0].split(", ")
    for heading in ("source", "family", "px", "parameters", "trained on"):
        assert (heading in gone) != (heading in lines[0])


@pytest.mark.parametrize(("width", "gone"), [(60, 1), (80, 0)])
def test_names_of_vocabularies_are_not_wrapped(width: int, gone: int, lines_at: Any) -> None:
    lines, err = lines_at(width, "vocab", "list")
    assert set(available()) <= {line.split()[0] for line in lines if line[:1].isalpha()}
    assert max(map(len, lines)) <= max(width, len("places365"))
    columns = ["templates", "descriptors", "classes", "description"][:gone]
    note = f"no room for: {', '.join(name for name in ALL_COLUMNS if name in columns)}; --json has everything"
    assert err == (f"clipmk: note: {note}\n" if gone else "")


def test_without_a_terminal_a_vocabulary_is_one_line(clipmk: Runner) -> None:
    lines = clipmk("vocab", "list").out.splitlines()
    assert len(lines) == 1 + len(available())
    assert any(
        line.split()[:4] == ["everyday", "1136", "4558", "3"] and line.rstrip().endswith("any picture")
        for line in lines
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--family", "vti"), "family 'vti' does not exist; close: 'vit'"),
        (("--max-parameters", "many"), "--max-parameters is 'many'; it must be a number such as 200M or 1.5B"),
    ],
)
def test_invalid_filters_are_refused(clipmk: Runner, options: tuple[str, ...], message: str) -> None:
    ran = clipmk("models", *options)
    assert ran.status == 2
    assert message in ran.err


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (("ifno", "ViT-B-32"), "no model matches 'ifno ViT-B-32'; did you mean `clipmk models info`?"),
        (("zzz", "info"), "no model matches 'zzz info'"),
    ],
)
def test_a_misspelt_command_that_finds_no_model_is_named(clipmk: Runner, words: tuple[str, ...], note: str) -> None:
    ran = clipmk("models", *words)
    assert (ran.status, ran.err) == (0, f"clipmk: note: {note}\n")


@pytest.mark.parametrize(("text", "count"), [("200M", 200e6), ("1.5b", 1.5e9), ("900 k", 900e3), ("12", 12)])
def test_numbers_of_parameters_are_read_with_units(text: str, count: float) -> None:
    assert parameter_count(text) == count
    with pytest.raises(UsageError):
        parameter_count(f"-{text}")


def test_names_are_added_and_removed_on_the_command_line(clipmk: Runner, tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("vit"))
    added = clipmk("models", "add", "mine", "m")
    assert (added.status, added.out) == (0, "")
    assert f"mine stands for local-dir:{tmp_path / 'm'}" in added.err
    assert "mine" in clipmk("models", "--source", "local").out
    assert json.loads(clipmk("models", "info", "mine", "--json").out)["model"]["source"] == "local"
    assert clipmk("models", "remove", "mine").status == 0
    assert clipmk("models", "remove", "mine").status == 2
    assert clipmk("models", "add", "mine", "absent.pt", "--arch", "ViT-B-32").status == 4


def _rows(shown: str) -> dict[str, str]:
    """What a model's two columns say."""
    return {line[:20].strip(): line[20:].strip() for line in shown.splitlines()}


def test_pull_says_that_random_weights_are_not_downloaded(clipmk: Runner) -> None:
    rows = _rows(clipmk("models", "info", "ViT-B-32:random").out)
    assert rows["path"] == "none: random weights are generated when the model is loaded"
    assert (rows["architecture"], rows["trained on"], rows["licence"]) == ("ViT-B-32", "nothing", "-")
    pulled = clipmk("models", "pull", "ViT-B-32:random")
    what = "random weights are generated when the model is loaded"
    note = f"clipmk: note: ViT-B-32:random has no weights to download: {what}\n"
    assert (pulled.status, pulled.err, _rows(pulled.out)) == (0, note, rows)
    assert clipmk("models", "pull", "ViT-B-32:random", "--quiet").err == ""


def test_environment_and_config_can_make_pull_quiet(
    clipmk: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("models", "pull", "ViT-B-32:random")
    monkeypatch.setenv("CLIPMK_QUIET", "1")
    assert clipmk(*command).err == ""
    (tmp_path / "config.toml").write_text("quiet = true", encoding="utf-8")
    monkeypatch.setenv("CLIPMK_QUIET", "0")
    assert "no weights" in clipmk(*command).err, "a variable outranks the config"
    monkeypatch.delenv("CLIPMK_QUIET")
    assert clipmk(*command).err == ""


def test_pull_prints_what_info_prints(clipmk: Runner) -> None:
    for form in ((), ("--json",)):
        shown = clipmk("models", "info", "embedded/vit-s8", *form).out
        assert clipmk("models", "pull", "embedded/vit-s8", *form).out == shown
    assert "clipmk's rendered world" in shown


def test_a_local_folder_is_described_by_its_own_configuration(clipmk: Runner, tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("vit"))
    assert clipmk("models", "add", "mine", "m").status == 0
    for name in ("mine", "local-dir:m"):
        rows = _rows(clipmk("models", "info", name).out)
        assert rows["architecture"] == "its own configuration, open_clip_config.json"
    assert _rows(clipmk("models", "info", "ViT-B-32:openai").out)["architecture"] == "ViT-B-32-quickgelu"


def test_a_model_is_pulled_from_a_hub_with_a_line_per_file(clipmk: Runner, tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("vit"), clipmk={"bpe": "bpe.txt.gz"})
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        hub.files = {f"org/tiny/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
        at(hub, patch)
        ran = clipmk("models", "pull", "hf-hub:org/tiny", "--json")
        assert ran.status == 0, ran.err
        assert json.loads(ran.out)["model"]["source"] == "cached"
        size = byte_size((tmp_path / "m" / "open_clip_model.safetensors").stat().st_size)
        assert f"clipmk: note: downloading org/tiny/open_clip_model.safetensors: {size}\n" in ran.err
        hub.refusals = {"org/secret": (401, "GatedRepo")}
        gated = clipmk("models", "pull", "hf-hub:org/secret")
        assert gated.status == 4
        assert "'org/secret' is gated: accept its terms" in gated.err


def at(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 60)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        patch.delenv(name, raising=False)


def test_pull_warns_about_a_model_too_large_for_the_machine(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmk.system.memory.machine_memory", lambda: 4_000_000_000)

    def pull(model: str, **_: Any) -> Any:
        raise UsageError(f"asked for {model}")

    monkeypatch.setattr(loading, "pull", pull)
    ran = clipmk("models", "pull", "ViT-bigG-14:laion2b_s39b_b160k")
    assert (
        "clipmk: warning: ViT-bigG-14:laion2b_s39b_b160k needs 10.2 GB of memory to load; this machine has 4.0"
        in ran.err
    )
    assert "warning" not in clipmk("models", "pull", "ViT-bigG-14:laion2b_s39b_b160k", "--quiet").err
    assert "warning" not in clipmk("models", "pull", "RN50:openai").err


def transfer(done: int, total: int | None = 2_000_000) -> Transfer:
    return Transfer(repository="org/a", name="w.bin", done=done, total=total)


def test_without_a_terminal_each_file_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with download_progress(quiet=False) as shown:
        for done in (500_000, 1_000_000, 2_000_000):
            shown(transfer(done))
    line = "clipmk: note: downloading org/a/w.bin: 2.0 MB, resumed after 0.5 MB\n"
    assert capsys.readouterr().err == line
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    with download_progress(quiet=True) as quiet:
        quiet(transfer(0))
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_bytes_and_speed_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(record=True, force_terminal=True, width=120, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    real = progress.display

    def display(*columns: Any, **more: Any) -> Any:
        made = real(*columns, **more)
        made.live.console = console
        return made

    monkeypatch.setattr(progress, "display", display)
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    with download_progress(quiet=False) as shown:
        shown(transfer(500_000))
        shown(transfer(1_500_000))
    console.file.close()
    drawn = console.export_text()
    assert "w.bin" in drawn
    assert "1.5/2.0 MB" in drawn
    assert "run pull again to resume" in drawn


def test_entries_are_plain_data() -> None:
    from clipmk.models.catalog import pair_entry  # noqa: PLC0415

    assert json.loads(json.dumps(asdict(pair_entry("RN50", "openai"))))["alias_of"] == "RN50-quickgelu:openai"
