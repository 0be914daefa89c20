"""A planted cue is found and its check flips predictions; without one, and by chance, nothing is found."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from clipmk.datasets.opening import open_dataset
from clipmk.errors import ClipmkError, InputError
from clipmk.settings import preset
from clipmk.study import cue_check
from clipmk.study.advice import advice
from clipmk.study.cue_check import check_cues, elsewhere
from clipmk.study.cues import SIGNIFICANT, misleads
from clipmk.study.document import results_document
from clipmk.study.manifest import StudyFolder, StudyRequest
from clipmk.study.report import write_report
from clipmk.study.results import Results, read_results
from clipmk.study.run import run_study
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.export import export_scenes
from clipmk.world.sampling import plan_scene
from study_shards import shorten

MODEL, SCENES = "embedded/rn-parts", 112
CUE = ("mushroom", "a spotted red cap")


def studied(folder: Path, dataset: str, **changes: Any) -> Results:
    request = StudyRequest(
        folder=StudyFolder(folder),
        dataset=open_dataset(dataset),
        models=(MODEL,),
        vocabulary=load_vocabulary("world"),
        settings=preset("default"),
        threads=1,
        device="cpu",
    )
    run_study(dataclasses.replace(request, **changes))
    return read_results(StudyFolder(folder))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Files on disk, asked for one text, and checked."""
    images = export_scenes(tmp_path_factory.mktemp("data") / "cue", split="cue", count=SCENES, seed=1)
    results = studied(tmp_path_factory.mktemp("studies") / "cue", str(images), asks=(CUE[1],))
    assert all(row["blurred"] is None for row in results.cues())
    check_cues(results, count=20, device="cpu")
    return results


def test_the_report_begins_with_the_planted_cue_and_shows_the_images_behind_it(planted: Results) -> None:
    page = html.unescape(write_report(planted).read_text(encoding="utf-8"))
    [cue, *_] = [one for one in advice(planted) if one.kind == "cue"]
    assert cue.text.startswith(f"'{CUE[1]}' misleads rn-parts to '{CUE[0]}': of the ")
    assert f" With it blurred {cue.numbers['flips']} of {cue.numbers['blurred']} predictions change" in cue.text
    assert cue.text.replace(" %", "\u00a0%") in page
    behind = page[page.index(f"<summary>'{CUE[1]}' to '{CUE[0]}', rn-parts: ") :]
    first = behind[behind.index('<details class="card">') : behind.index("</details>")]
    assert 'src="data:image/webp;base64,' in first
    assert re.search(rf"<span>{CUE[0]} \d+.%.✗</span>", first.replace("&nbsp;", "."))
    assert re.search(rf'<td class="text">[^<]*{CUE[1]}[^<]*</td>', first)


def test_the_planted_cue_is_the_first_of_those_found(planted: Results) -> None:
    first, *others = planted.cues()
    assert (first["class"], first["text"]) == CUE
    assert misleads(first)
    assert first["q"] < SIGNIFICANT
    assert first["mutual_wrong"] > 10 > first["mutual_right"]
    assert {row["class"] for row in others} <= {"mushroom"}
    assert {row["text"] for row in others if misleads(row)} <= {CUE[1]}


def test_blurring_the_planted_cue_flips_more_predictions_than_blurring_as_much_elsewhere(planted: Results) -> None:
    first = planted.cues()[0]
    assert 10 <= first["blurred"] <= 20
    assert first["flips"] > first["control_flips"]
    assert 0 < first["check_p"] <= 1


def test_what_a_check_found_stays_when_the_tables_are_written_again(planted: Results) -> None:
    before = planted.cues()
    planted.folder.table("cues").unlink()
    again = read_results(planted.folder)
    assert again.cues() == before
    assert results_document(again)["cues"] == before


def test_a_damaged_table_of_checks_is_named(planted: Results) -> None:
    path = planted.folder.table("cue_checks")
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    with pytest.raises(InputError, match=r"cue_checks\.parquet"):
        planted.cues()
    path.write_bytes(before)


def test_words_of_ones_own_are_tested_and_checked_too(planted: Results) -> None:
    [asked] = [row for row in planted.cues() if row["asked"]]
    assert (asked["class"], asked["text"]) == CUE
    assert misleads(asked)
    assert asked["blurred"] > 0


def test_without_a_planted_cue_none_is_found(tmp_path: Path) -> None:
    results = studied(tmp_path / "study", f"world:hard?scenes={SCENES}&seed=1", models=("embedded/rn-xs",))
    assert len(results.rows("cues")) > 5
    assert results.cues() == []
    check_cues(results, count=5, device="cpu")  # nothing to do
    assert results.cues() == []


def test_scenes_of_the_cues_own_class_never_show_it_and_some_of_the_others_do() -> None:
    plans = [plan_scene("cue", index, seed=3)[0] for index in range(600)]
    shown = [any(one.descriptor == CUE[1] for one in plan.placed) for plan in plans]
    own = [has for plan, has in zip(plans, shown, strict=True) if plan.class_name == CUE[0]]
    assert own
    assert not any(own)
    assert shown == [plan.kind == "planted" for plan in plans]
    assert 0.2 < np.mean(shown) < 0.4


def test_the_control_is_as_large_and_lies_in_other_parts_first() -> None:
    rng, region, parts = np.random.default_rng(0), np.zeros((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)
    region[2:6, 2:6] = parts[2:6, 2:6] = parts[10:15, 8:18] = True
    for _ in range(20):
        found = elsewhere(region, parts, rng)
        assert found is not None
        assert found.sum() == region.sum()
        assert not (found & ~parts).any()
        assert not (found & region).any()
    parts[10:15, 8:18] = False
    assert elsewhere(region, parts, rng) is None  # there is no other part
    parts[10, 10] = True
    found = elsewhere(region, parts, rng)
    assert found is not None
    assert (found.sum(), (found & region).sum(), found[10, 10]) == (16, 0, True)
    assert elsewhere(np.ones((4, 4), dtype=bool), np.ones((4, 4), dtype=bool), rng) is None


def test_only_the_first_cues_of_each_kind_are_checked(planted: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    before = planted.folder.table("cue_checks").read_bytes()
    monkeypatch.setattr(cue_check, "CHECKED", 1)
    monkeypatch.setattr(cue_check._ModelCheck, "flips", lambda self, cue, count: dict.fromkeys(FLIPS, -1))
    check_cues(planted, count=1, device="cpu")
    for kind in (True, False):
        first, *others = [row for row in planted.cues() if misleads(row) is kind]
        assert first["blurred"] == -1
        assert all(row["blurred"] != -1 for row in others)
    planted.folder.table("cue_checks").write_bytes(before)


FLIPS = ("blurred", "flips", "control_flips", "check_p")

Change = Callable[[Results, pytest.MonkeyPatch], Any]


def busy(results: Results, patch: pytest.MonkeyPatch) -> Any:
    lock = FileLock(results.folder.lock)
    lock.acquire()
    return lock


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (busy, ClipmkError, "another run is using"),
        (
            lambda results, patch: patch.setattr(
                cue_check, "load_vocabulary", lambda name: dataclasses.replace(load_vocabulary(name), templates=("{}",))
            ),
            InputError,
            "vocabulary 'world' is no longer the one that was studied",
        ),
    ],
)
def test_a_check_of_what_has_changed_is_refused(
    planted: Results, monkeypatch: pytest.MonkeyPatch, change: Change, error: type[Exception], message: str
) -> None:
    held = change(planted, monkeypatch)
    with pytest.raises(error, match=message):
        check_cues(planted, count=1, device="cpu")
    if held is not None:
        held.release()


@pytest.mark.parametrize("column", ["vision_concepts", "importance", "mutual"])
def test_a_check_names_the_table_of_images_where_lists_of_concepts_differ_in_length(
    planted: Results, column: str
) -> None:
    path = planted.folder.table("images")
    before = path.read_bytes()
    shorten(path, column)
    with pytest.raises(InputError, match=r"images\.parquet' is damaged .* differ in length; a new run of the study"):
        check_cues(planted, count=1, device="cpu")
    path.write_bytes(before)


def test_a_study_of_some_classes_is_checked_with_these(planted: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    more = load_vocabulary("world").with_classes([*load_vocabulary("world").classes, "unicorn"])
    monkeypatch.setattr(cue_check, "load_vocabulary", lambda name: more)
    before = planted.folder.table("cue_checks").read_bytes()
    check_cues(planted, count=20, device="cpu")
    assert planted.folder.table("cue_checks").read_bytes() == before


def test_a_check_with_other_weights_is_refused(planted: Results) -> None:
    infos = tuple(dataclasses.replace(one, weights_sha256="0" * 64) for one in planted.manifest.models)
    changed = dataclasses.replace(planted, manifest=dataclasses.replace(planted.manifest, models=infos))
    with pytest.raises(InputError, match="its weights differ"):
        check_cues(changed, count=1, device="cpu")


def test_images_that_are_gone_are_left_out(planted: Results, tmp_path: Path) -> None:
    info = dataclasses.replace(planted.manifest.dataset, root=str(tmp_path))
    moved = dataclasses.replace(planted, manifest=dataclasses.replace(planted.manifest, dataset=info))
    before = planted.folder.table("cue_checks").read_bytes()
    check_cues(moved, count=1, device="cpu")
    assert {row["blurred"] for row in planted.cues()} == {0}
    assert {row["check_p"] for row in planted.cues()} == {None}
    planted.folder.table("cue_checks").write_bytes(before)
