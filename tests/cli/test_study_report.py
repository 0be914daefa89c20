"""`clipmk study report`: a study's tables in the terminal, and where its report is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipmk.study.advice import advice
from clipmk.study.manifest import StudyFolder
from clipmk.study.results import read_results
from clipmk_tui.cli.commands.study.report import put_tables
from command_line import Runner
from study_shards import POOL, make_manifest, write_study

FIVE = (*POOL[:4], POOL[12])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("study"), make_manifest(pool=FIVE, images=40), pool=FIVE)


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are slow; the tests of the report draw them."""
    monkeypatch.setattr("clipmk.study.charts._chart", lambda name, *_: SimpleNamespace(name=name, svg="", inline=""))


def test_the_tables_fit_into_80_columns(folder: StudyFolder, clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = clipmk("study", "report", folder.root, "--against", "paper")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    row = read_results(folder).models[0]
    [first] = [line for line in lines if line.startswith("ViT-B-32 openai ") and "[" in line]
    beats = f"{row['mutual_count']:.1f} {100 * row['beats_all']:.0f} {row['mi_paper']:.2f} {row['auc']:.2f}"
    assert f"{beats} {row['auc'] / row['chance_auc']:.1f}" in " ".join(first.split())
    assert "u = 8 of 500 descriptors" in " ".join(ran.out.split())
    assert f"{100 * row['top1']:.1f} [{100 * row['top1_low']:.1f}, {100 * row['top1_high']:.1f}]" in first
    assert "no line for ConvNeXt: fewer than four models" in ran.out
    assert "the paper's is the ImageNet" in ran.out
    assert (folder.report / "index.html").is_file()
    assert "index.html" in ran.err
    assert "could not be explained" in ran.err


def test_json_is_one_document_on_stdout(folder: StudyFolder, clipmk: Runner) -> None:
    ran = clipmk("study", "report", folder.root, "--json", "--quiet", "--against", "paper")
    found = json.loads(ran.out)["study"]
    assert ran.err == ""
    assert len(found["models"]) == 15
    assert found["report"] == str(folder.report / "index.html")
    assert len(found["paper"]) == 5


def test_environment_and_config_give_the_options_of_a_report(
    folder: StudyFolder, clipmk: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in (("JSON", "1"), ("QUIET", "1"), ("AGAINST", "paper")):
        monkeypatch.setenv(f"CLIPMK_{name}", text)
    ran = clipmk("study", "report", folder.root)
    assert (ran.status, ran.err) == (0, "")
    assert len(json.loads(ran.out)["study"]["paper"]) == 5
    for name in ("JSON", "QUIET", "AGAINST"):
        monkeypatch.delenv(f"CLIPMK_{name}")
    plain: list[bool] = []
    monkeypatch.setattr(
        "clipmk_tui.cli.commands.study.report.put_tables", lambda *_, no_color, **__: plain.append(no_color)
    )
    (tmp_path / "config.toml").write_text("quiet = true\nno_color = true\n")
    assert clipmk("study", "report", folder.root).err == ""
    (tmp_path / "config.toml").unlink()
    assert "report in" in clipmk("study", "report", folder.root).err
    monkeypatch.setenv("CLIPMK_NO_COLOR", "1")
    clipmk("study", "report", folder.root)
    assert plain == [True, False, True]


def test_the_tables_alone_draw_nothing(folder: StudyFolder, capfd: pytest.CaptureFixture[str]) -> None:
    for path in folder.report.glob("*"):
        path.unlink()
    put_tables(read_results(folder), json=False, no_color=False)
    assert "ViT-B-32 openai" in capfd.readouterr().out
    assert not list(folder.report.glob("*"))


def test_every_number_is_written_as_csv(folder: StudyFolder, clipmk: Runner, tmp_path: Path) -> None:
    found = json.loads(clipmk("study", "report", folder.root, "--json", "--csv", tmp_path / "csv", "-q").out)["study"]
    lists = {name: rows for name, rows in found.items() if rows and isinstance(rows, list)}
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == lists.keys() >= {"advice", "models", "wrong"}
    for name, rows in lists.items():
        with (tmp_path / "csv" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            written = list(csv.DictReader(file))
        assert len(written) == len(rows)
    with (tmp_path / "csv" / "rivals.csv").open(encoding="utf-8", newline="") as file:
        assert [float(row["pearson.value"]) for row in csv.DictReader(file)] == [
            one["pearson"]["value"] for one in found["rivals"]
        ]
    lines = list(csv.DictReader(clipmk("study", "report", folder.root, "--csv", "-").out.splitlines()))
    top1 = [float(line["value"]) for line in lines if (line["table"], line["name"]) == ("models", "top1")]
    assert top1 == [row["top1"] for row in found["models"]]
    assert {line["table"] for line in lines} == lists.keys()


def test_numbers_of_a_study_that_cannot_be_written_are_printed_without_a_page(tmp_path: Path, clipmk: Runner) -> None:
    root = write_study(tmp_path / "study", make_manifest(pool=FIVE[:1]), pool=FIVE[:1]).root
    (root / "report").write_text("in the way")
    ran = clipmk("study", "report", root, "--json")
    assert (ran.status, json.loads(ran.out)["study"]["report"]) == (0, None)
    assert "clipmk: warning: no page: " in ran.err
    assert clipmk("study", "report", root).status == 1


def test_what_to_do_comes_first(folder: StudyFolder, clipmk: Runner) -> None:
    ran = clipmk("study", "report", folder.root, "-q")
    said = [one.text for one in advice(read_results(folder))]
    assert " ".join(ran.out.split()).index(f"1. {said[0]} 2. {said[1]}") < ran.out.index("top-1 %")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [(("nowhere",), 3, "is not a study"), (("nowhere", "--against", "folklore"), 2, "'folklore' does not exist")],
)
def test_invalid_arguments_are_refused(clipmk: Runner, arguments: tuple[str, ...], status: int, message: str) -> None:
    ran = clipmk("study", "report", *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err


def test_two_documents_do_not_share_stdout(clipmk: Runner) -> None:
    ran = clipmk("study", "report", "nowhere", "--json", "--csv", "-")
    assert ran.status == 2
    assert "--json and --csv - both write to stdout" in json.loads(ran.out)["error"]["message"]


def test_the_folder_is_shown_as_it_was_given(clipmk: Runner, tmp_path: Path) -> None:
    ran = clipmk("study", "report", tmp_path)
    assert f"'{tmp_path}' is not a study" in ran.err


def test_a_single_model_has_no_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = write_study(tmp_path, make_manifest(pool=POOL[:1], images=40), pool=POOL[:1])
    put_tables(read_results(alone), json=False, no_color=False)
    shown = capfd.readouterr().out
    assert "dynamics" in shown
    assert "against AUC" not in shown
    assert "no line" not in shown


@pytest.mark.parametrize("columns", [60, 70])
def test_on_a_narrow_terminal_columns_are_dropped_before_the_names_of_models(
    folder: StudyFolder, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    put_tables(read_results(folder), json=False, no_color=False)
    lines = capfd.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "top-1 %" in line) :]
    assert max(map(len, lines)) <= columns
    assert "beats all %" in table[0]
    assert "images" not in table[0]
    rows = [line for line in table if "[" in line]
    for name, row in zip(read_results(folder).names.values(), rows[: len(FIVE)], strict=True):
        assert row.startswith(name[:8])
