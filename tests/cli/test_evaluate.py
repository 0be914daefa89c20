"""`clipmk evaluate` through its entry point: measures, data, files, and what is refused before any work."""

from __future__ import annotations

import gc
import inspect
import json
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from clipmk.errors import DeviceError, ModelError
from clipmk.evaluate import harness
from clipmk.evaluate.metrics import Interval
from clipmk.evaluate.report import BASELINES, DataUsed, Report, Row, measure_texts
from clipmk.evaluate.variants import variants
from clipmk.models import loading
from clipmk.settings import preset
from clipmk.system.config import DEFAULT_MODEL
from clipmk.system.serialization import plain
from clipmk.vocabulary import vocabulary
from clipmk.world.scene import render_scenes
from clipmk_tui.cli.commands.evaluate import evaluate, measure_models, resolved_options, split_table
from clipmk_tui.cli.progress import Stages
from command_line import Runner

METRICS = [name for names in measure_texts()["truth"].tables.values() for name in names]
"""All that --truth measures."""


class Loaded:
    """All that is looked at of a model whose numbers are made up."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, name: str) -> None:
        self.info = SimpleNamespace(id=name)


def truth_report(model: str, rows: list[Row]) -> dict[str, Report]:
    """What the harness gives for the truth on three scenes of `test`; the numbers are made up."""
    report = Report(
        measure="truth",
        model=model,
        vocabulary="world",
        seed=0,
        data=(DataUsed("test", 3, labelled=True),),
        rows=tuple(rows),
        settings={"default, prompts": plain(preset("default"))},
    )
    return {"truth": report}


FEW = ("--scenes", 2, "--split", "counterfactual", "--preset", "paper", "--grounding", "attend")


@pytest.mark.usefixtures("loaded_once")
def test_both_measures_fit_80_columns_and_are_written_as_valid_json(
    clipmk: Runner, valid: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = clipmk("evaluate", "--faithfulness", "--zero-shot", *FEW, "--output", "found.json")
    assert ran.status == 0
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert "paper, attend: random regions" in ran.out
    assert "sparse decomposition: held out" in ran.out
    assert "clipmk: note: transductive" in ran.err
    made = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    valid(made)
    assert made["truth"] is None
    (faithful,), (gain,) = made["faithfulness"], made["zero_shot"]
    assert [(one["name"], one["images"]) for one in faithful["data"]] == [("counterfactual", 2)]
    deletion = faithful["rows"][0]["values"]["deletion"]
    assert f"{deletion['mean']:.3f} [{deletion['low']:.3f}, {deletion['high']:.3f}]" in ran.out
    assert {row["name"].split(": ")[1] for row in gain["rows"]} == {"transductive", "held out"}
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.usefixtures("loaded_once")
def test_reasons_are_measured_with_all_rankings_beside(
    clipmk: Runner, valid: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    few = ("--reasons", "--scenes", 8, "--split", "test", "--preset", "default", "--grounding", "attend")
    ran = clipmk("evaluate", *few)
    assert "test: part removed, drop of the cosine: rankings of the parts" in ran.out
    assert "clipmk: note: the truth is about the model" in ran.err
    made = json.loads(clipmk("evaluate", *few, "--json").out)
    valid(made)
    rows = {row["name"]: row["values"] for row in made["reasons"][0]["rows"]}
    own = {
        f"default, attend: by {name}"
        for name in ("importance", "mutual importance", "influence", "influence, times area")
    }
    hidden = {"part blurred", "part inpainted", "part in mean colour"}
    others = {"area of the part", "nearest to the class", "nearest to the whole image, tied", "map of the class"}
    assert {name for name, values in rows.items() if "rho" in values} == (
        own | hidden | others | {"influence, attend", "influence, attend, times area", "random order"}
    )
    for prefix in ("", "margin_", "recoloured_", "recoloured_margin_"):
        assert f"{prefix}effect" in rows["default, attend: area"]
        assert f"{prefix}over_area" not in rows["area of the part"]
    rho = rows["part inpainted"]["rho"]
    assert f"{rho['mean']:.3f} [{rho['low']:.3f}, {rho['high']:.3f}]" in ran.out
    assert rho["mean"] > rows["random order"]["rho"]["mean"]
    shares = [rows[f"default, attend: {name}"]["share"]["mean"] for name in ("mutual", "vision only")]
    assert 0.5 < sum(shares) <= 1


@pytest.mark.usefixtures("loaded_once")
def test_the_path_and_the_sanity_check_are_measured(
    clipmk: Runner, valid: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = clipmk("evaluate", "--path", "--sanity", "--scenes", 2, "--split", "test", "--output", "found.json")
    assert "test: from paper to default, one setting after the other" in ran.out
    assert "+ importance both" in ran.out
    assert "clipmk: note: chance is 0.5 for presence" in ran.err
    made = json.loads(Path("found.json").read_text(encoding="utf-8"))
    valid(made)
    assert made["truth"] is None
    assert list(made["sanity"][0]["settings"]) == ["default, attend"], "the preset's own grounding"
    assert made["path"][0]["rows"][0]["name"] == "paper"


@pytest.mark.usefixtures("loaded_once")
def test_a_folder_without_labels_is_measured_and_bad_images_set_the_exit_status(
    clipmk: Runner, valid: Callable[[Any], None], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(next(iter(render_scenes("test", count=1))).image).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    ran = clipmk("evaluate", folder, "--faithfulness", *FEW[4:], "--json")
    assert ran.status == 3
    assert "b.png" in ran.err
    made = json.loads(ran.out)
    valid(made)
    (used,) = made["faithfulness"][0]["data"]
    assert (used["images"], used["labelled"], len(used["skipped"])) == (1, False, 1)
    refused = clipmk("evaluate", folder, "--zero-shot")
    assert (refused.status, refused.out) == (2, "")
    assert "has no labels" in refused.err


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (
            (),
            2,
            (
                "nothing to measure; name at least one of: --truth, --reasons, --path, --sanity, --faithfulness, "
                "--zero-shot"
            ),
        ),
        (("--truth", "--split", "tset"), 2, "split 'tset' does not exist; close: 'test'"),
        (("--truth", "--preset", "papr"), 2, "preset 'papr' does not exist; close: 'paper'"),
        (("--truth", "--grounding", "x"), 2, "known: prompts, attend"),
        (("--truth", "folder"), 2, "--truth needs rendered scenes"),
        (("--reasons", "folder"), 2, "--reasons needs rendered scenes"),
        (("--faithfulness", "folder", "--split", "test"), 2, "--split chooses rendered scenes"),
        (("--faithfulness", "folder", "--scenes", "5"), 2, "--scenes chooses rendered scenes"),
        (("--faithfulness", "nowhere"), 3, "dataset 'nowhere' does not exist"),
        (("--faithfulness", "--vocab", "pets"), 2, "not a class of the vocabulary 'pets'"),
        (("--faithfulness", "-m", "embedded/vit-s8", "-m", "embedded/vit-s9"), 4, "close: 'embedded/vit-s8'"),
        (("--truth", "--output", "table.csv"), 2, "must end in .json"),
        (("--truth", "--output", "no/where.json"), 1, "the folder 'no' does not exist"),
        (("--truth", "--scenes", "0"), 2, "--scenes"),
        (("--faithfulness", "--limit", "5"), 2, "--limit goes with a dataset"),
        (("--faithfulness", "world:test"), 2, "choose them by their split"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], status: int, words: str
) -> None:

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", load)
    ran = clipmk("evaluate", *argv)
    assert (ran.status, ran.out) == (status, "")
    assert words in ran.err


def test_preset_split_and_seed_select_what_is_measured(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, valid: Callable[[Any], None]
) -> None:

    values = {"ap": Interval(0.5, 0.25, 0.75, 3), "foreground": Interval(0.4, 0.3, 0.5, 3)}
    asked: dict[str, Any] = {}

    def run(_: object, words: vocabulary.Vocabulary, data: list[Any], **options: Any) -> dict[str, Report]:
        asked.update(options, vocabulary=words.name, data=[(one.name, one.count) for one in data])
        return truth_report(DEFAULT_MODEL, [Row("test", "default, prompts", values)])

    monkeypatch.setattr(loading, "load", lambda model, **_: Loaded(model))
    monkeypatch.setattr(harness, "run", run)
    argv = ("evaluate", "--truth", "--preset", "paper", "--split", "val", "--scenes", 3, "--seed", 7)
    text = clipmk(*argv, "--verbose").out
    assert f"{DEFAULT_MODEL}, test: concepts" in text
    assert "0.500 [0.250, 0.750]" in text
    assert {one.settings.preset for one in asked["variants"]} == {"paper"}
    assert (asked["data"], asked["seed"]) == ([("val", 3)], 7)
    made = json.loads(clipmk("evaluate", "--truth", "--json").out)
    valid(made)
    assert made["truth"][0]["rows"][0]["values"]["ap"] == {"mean": 0.5, "low": 0.25, "high": 0.75, "count": 3}
    assert (made["faithfulness"], made["zero_shot"]) == (None, None)
    assert {one.settings.preset for one in asked["variants"]} == {"default", "paper"}
    clipmk("evaluate", "--truth", "--vocab", "pets")
    assert asked["vocabulary"] == "world"


def test_another_vocabulary_is_used_for_everything_but_the_truth(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = Path(vocabulary.__file__).parents[1] / "assets" / "vocabularies" / "world.json"
    content = json.loads(shipped.read_text(encoding="utf-8"))
    content["descriptors"].append("a word of mine")
    (tmp_path / "mine.json").write_text(json.dumps(content), encoding="utf-8")
    passes: list[tuple[bool, tuple[str, ...]]] = []

    def run(_: object, words: vocabulary.Vocabulary, data: object, **options: Any) -> dict[str, Report]:
        passes.append(("a word of mine" not in words.descriptors, options["measures"]))
        return {}

    monkeypatch.setattr(loading, "load", lambda model, **_: Loaded(model))
    monkeypatch.setattr(harness, "run", run)
    four = ("evaluate", "--truth", "--reasons", "--faithfulness", "--zero-shot")
    assert clipmk(*four, "--vocab", tmp_path / "mine.json").status == 0
    assert passes == [(True, ("truth", "reasons")), (False, ("faithfulness", "zero_shot"))]
    passes.clear()
    assert clipmk(*four).status == 0
    assert passes == [(True, ("truth", "reasons", "faithfulness", "zero_shot"))]


@pytest.fixture
def second_fails(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What goes wrong once a model has been measured; the numbers are made up."""

    wrong: list[BaseException] = [DeviceError("the memory is too small")]
    values = {"ap": Interval(0.5, 0.25, 0.75, 3), "foreground": Interval(0.4, 0.3, 0.5, 3)}

    def run(backbone: Any, *_: Any, **__: Any) -> dict[str, Report]:
        model = backbone.info.id
        if model == "embedded/rn-s":
            raise type(wrong[0])(*wrong[0].args)  # a new one: it keeps what its traceback leads to
        return truth_report(model, [Row("test", "default, prompts", values)])

    def load(model: str, **_: Any) -> Any:
        return Loaded(model)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(harness, "run", run)
    return wrong


@pytest.fixture
def full_report(monkeypatch: pytest.MonkeyPatch) -> Report:
    """What measuring gives: every metric of every variant and baseline on two splits; the numbers are made up."""

    values = {name: Interval(i / 20, i / 20 - 0.03, i / 20 + 0.05, 3) for i, name in enumerate(METRICS)}
    names = (*BASELINES, *(one.name for one in variants()))
    margins = {name: Interval(0.125, 0.111, 0.155, 3) for name in (*BASELINES, "feature maps, attend")}
    rows = [
        Row(split, name, {"ap": values["ap"]} if name in BASELINES else values, margins)
        for split in ("test", "counterfactual")
        for name in names
    ]
    reports = truth_report(DEFAULT_MODEL, rows)
    monkeypatch.setattr(loading, "load", lambda model, **_: Loaded(model))
    monkeypatch.setattr(harness, "run", lambda *_, **__: reports)
    return reports["truth"]


@pytest.mark.usefixtures("full_report")
def test_truth_prints_a_summary_unless_everything_is_asked_for(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ran = clipmk("evaluate", "--truth")
    assert len(ran.out.splitlines()) <= 60
    headings = [line.split() for line in ran.out.splitlines() if line.split()[:1] == ["ap"]]
    assert headings == [["ap", "hit1", "hit3", "foreground", "part_iou", "top1"]] * 2
    assert ran.out.count("0.125 [0.111, 0.155]") == 2 * 2 * 5, "five variants over two baselines on two splits"
    assert "true" not in ran.out
    assert "clipmk: note: --truth prints a summary; --verbose prints every metric" in ran.err
    everything = clipmk("evaluate", "--truth", "-v")
    assert "summary" not in everything.err
    assert all(name in everything.out for name in (*METRICS, *(one.name for one in variants()), *BASELINES))
    assert clipmk("evaluate", "--truth", "-q").err == ""
    monkeypatch.setenv("CLIPMK_VERBOSE", "1")
    assert clipmk("evaluate", "--truth").out == everything.out


def test_json_always_has_everything(clipmk: Runner, full_report: Report) -> None:
    ran = clipmk("evaluate", "--truth", "--json")
    assert json.loads(ran.out)["truth"][0]["rows"] == full_report.to_dict()["rows"]
    assert "summary" not in ran.err


@pytest.mark.usefixtures("full_report")
def test_pieces_of_a_split_table_are_numbered(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = clipmk("evaluate", "--truth", "--verbose").out
    titles = [line.strip() for line in out.splitlines() if line.startswith(f"{DEFAULT_MODEL}, test: concepts")]
    assert titles == [f"{DEFAULT_MODEL}, test: concepts ({i} of 3)" for i in (1, 2, 3)]
    monkeypatch.setenv("COLUMNS", "300")
    assert " of " not in "".join(
        line for line in clipmk("evaluate", "--truth").out.splitlines() if line.startswith(DEFAULT_MODEL)
    )


THREE = ("-m", "embedded/vit-s8", "-m", "embedded/rn-s", "-m", "embedded/cnx-s")


@pytest.mark.usefixtures("second_fails")
def test_a_model_that_fails_does_not_stop_the_others(
    clipmk: Runner, valid: Callable[[Any], None], tmp_path: Path
) -> None:
    ran = clipmk("evaluate", "--truth", *THREE, "--output", "found.json")
    assert ran.status == 5
    assert ran.err.count("clipmk: error: embedded/rn-s: the memory is too small") == 1
    assert ran.out.index("embedded/vit-s8, test: summary") < ran.out.index("embedded/cnx-s, test: summary")
    made = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    valid(made)
    assert [report["model"] for report in made["truth"]] == ["embedded/vit-s8", "embedded/cnx-s"]
    error = {"code": "device", "message": "the memory is too small"}
    assert made["failures"] == [{"model": "embedded/rn-s", "error": error}]
    ran = clipmk("evaluate", "--truth", *THREE, "--json")
    assert (ran.status, json.loads(ran.out)) == (5, made)
    ran = clipmk("evaluate", "--truth", "-m", "embedded/rn-s", "--json")
    assert (ran.status, json.loads(ran.out)["error"]) == (5, error)


def test_a_failure_names_the_variable_that_set_the_model(
    clipmk: Runner, second_fails: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    second_fails[0] = ModelError("model 'embedded/rn-s' cannot be built: no")
    monkeypatch.setenv("CLIPMK_MODEL", ",".join(THREE[1::2]))
    ran = clipmk("evaluate", "--truth", "--json")
    message = "model 'embedded/rn-s' cannot be built: no"
    assert f"embedded/rn-s: {message} ('embedded/rn-s' was set by CLIPMK_MODEL)\n" in ran.err
    assert json.loads(ran.out)["failures"][0]["error"]["message"] == message


def test_out_of_memory_is_reported_and_the_next_model_is_measured(
    clipmk: Runner, second_fails: list[BaseException]
) -> None:
    second_fails[0] = torch.OutOfMemoryError("CUDA out of memory")
    ran = clipmk("evaluate", "--truth", *THREE)
    assert ran.status == 5
    assert "embedded/cnx-s, test: summary" in ran.out
    assert "embedded/rn-s: not enough memory on cpu" in ran.err


def test_a_model_that_failed_is_unloaded(second_fails: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmk.models import loading  # noqa: PLC0415 - only the loader is replaced

    gone: list[weakref.ref[Any]] = []
    real = loading.load

    def load(model: str, **options: Any) -> Any:
        gc.collect()
        assert all(one() is None for one in gone)
        loaded = real(model, **options)
        gone.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(loading, "load", load)
    flags = dict.fromkeys(inspect.signature(evaluate).parameters) | {"truth": True, "model": list(THREE[1::2])}
    kept = list(measure_models(resolved_options(flags), Stages(shown=False)))
    assert [isinstance(one, dict) for _, one in kept] == [True, False, True]


def test_reports_before_ctrl_c_are_printed_and_written(
    clipmk: Runner, second_fails: list[BaseException], tmp_path: Path
) -> None:
    second_fails[0] = KeyboardInterrupt()
    ran = clipmk("evaluate", "--truth", *THREE, "--output", "found.json")
    assert ran.status == 130
    assert "embedded/vit-s8, test: summary" in ran.out
    made = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [report["model"] for report in made["truth"]] == ["embedded/vit-s8"]


@pytest.mark.usefixtures("loaded_once")
def test_ctrl_c_leaves_no_file(clipmk: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(harness, "_pass", interrupted)
    ran = clipmk("evaluate", "--faithfulness", *FEW, "--output", "found.json")
    assert (ran.status, ran.out, ran.err) == (130, "", "clipmk: error: interrupted\n")
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.usefixtures("loaded_once")
def test_the_file_is_written_even_if_stdout_is_closed(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(*_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", gone)
    assert clipmk("evaluate", "--zero-shot", "--scenes", 1, *FEW[2:], "--output", "found.json").status == 1
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["zero_shot"]


def test_wide_tables_are_split_to_fit() -> None:
    columns = ["", "one", "two", "three"]
    rows = [["a row", "1" * 20, "2" * 20, ""], ["other", "1" * 20, "", "3" * 20]]
    assert split_table(columns, rows, width=200) == [(columns, rows)]
    assert split_table(columns, rows, width=5 + 2 * 22) == [
        (["", "one", "two"], [["a row", "1" * 20, "2" * 20], ["other", "1" * 20, ""]]),
        (["", "three"], [["other", "3" * 20]]),
    ]
    assert [headings for headings, _ in split_table(columns, rows, width=1)] == [
        ["", "one"],
        ["", "two"],
        ["", "three"],
    ]
