"""A study proves its own data: whatever is damaged, missing or in the wrong place is found and rebuilt."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmk.errors import InputError
from clipmk.settings import preset
from clipmk.study.manifest import StudyFolder, read_manifest
from clipmk.study.plan import missing_parts
from clipmk.study.results import read_results
from clipmk.study.run import run_study
from study_runs import MODELS, fingerprints, images, request, undisturbed  # noqa: F401

FILES = ("plan.parquet", "language/*-*.parquet", "shards/*/00001.parquet")


@pytest.fixture
def folder(tmp_path: Path, undisturbed: Path) -> Path:
    shutil.copytree(undisturbed, tmp_path / "study")
    return tmp_path / "study"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zeroed(path: Path) -> None:
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[: middle - 8] + bytes(16) + whole[middle + 8 :])


def flip(path: Path) -> None:
    flip_bit(path, 8 * 700 + 3)


def flip_bit(path: Path, bit: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[bit // 8] ^= 1 << bit % 8
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", [Path.unlink, cut, zeroed, flip])
@pytest.mark.parametrize("pattern", FILES)
def test_a_damaged_file_is_rebuilt_with_the_same_bytes(
    folder: Path, images: Path, undisturbed: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    path = sorted(folder.glob(pattern))[0]
    damage(path)
    outcome = run_study(request(folder, images))
    assert fingerprints(folder) == fingerprints(undisturbed)
    shards = outcome.manifest.shards * len(MODELS)
    assert outcome.resumed == (shards - 1 if "shards" in pattern else shards)
    notes = [note for note in outcome.warnings if path.name in note and "rebuilt" in note]
    assert len(notes) == (0 if damage is Path.unlink and path.name != "plan.parquet" else 1), outcome.warnings


def test_a_folder_of_the_study_that_is_gone_is_rebuilt(folder: Path, images: Path, undisturbed: Path) -> None:
    for name in ("language", "tables"):
        shutil.rmtree(folder / name)
    (folder / "plan.parquet").unlink()
    run_study(request(folder, images))
    assert fingerprints(folder) == fingerprints(undisturbed)


def test_a_flip_anywhere_in_a_shard_or_language_file_is_found(folder: Path) -> None:
    manifest, draw = read_manifest(folder / "study.json"), random.Random(0)  # noqa: S311
    for path in sorted([*folder.glob("shards/*/*.parquet"), *folder.glob("language/*.parquet")]):
        whole = path.read_bytes()
        for _ in range(60):
            flip_bit(path, draw.randrange(8 * len(whole)))
            assert missing_parts(StudyFolder(folder), manifest).damaged == [str(path.relative_to(folder))]
            path.write_bytes(whole)
    assert not missing_parts(StudyFolder(folder), manifest).models


def test_a_shard_copied_over_another_is_rebuilt(folder: Path, images: Path, undisturbed: Path) -> None:
    of_one, of_other = (sorted(one.iterdir()) for one in sorted((folder / "shards").iterdir()))
    shutil.copy(of_one[0], of_one[1])
    shutil.copy(of_one[2], of_other[2])
    first, second = sorted((folder / "language").iterdir())
    shutil.copy(first, second)
    outcome = run_study(request(folder, images))
    assert outcome.resumed == outcome.manifest.shards * len(MODELS) - 2
    assert any(note.startswith("3 files damaged or out of place, rebuilt: ") for note in outcome.warnings)
    assert fingerprints(folder) == fingerprints(undisturbed)


def test_a_shard_of_another_study_is_rebuilt(folder: Path, images: Path, undisturbed: Path, tmp_path: Path) -> None:
    run_study(request(tmp_path / "other", images, settings=preset("default", seed=3)))
    for path in (tmp_path / "other").glob("shards/*/00000.parquet"):
        shutil.copy(path, folder / path.relative_to(tmp_path / "other"))
    run_study(request(folder, images))
    assert fingerprints(folder) == fingerprints(undisturbed)


def test_a_model_that_lacks_its_language_file_is_loaded_to_extend_a_study(
    tmp_path: Path, images: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "study"
    run_study(request(folder, images, models=MODELS[:1]))
    next((folder / "language").iterdir()).unlink()
    run_study(request(folder, images, models=MODELS[1:], extend=True))
    made, expected = fingerprints(folder), fingerprints(undisturbed)
    assert made.pop("study.json") == expected.pop("study.json")
    assert made == expected


def test_a_report_names_a_damaged_shard_and_what_to_do(folder: Path) -> None:
    path = sorted(folder.glob("shards/*/*.parquet"))[1]
    flip(path)
    shutil.rmtree(folder / "tables")
    with pytest.raises(InputError, match=rf"{path.name}' is damaged or belongs elsewhere; a new run .* rebuilds it"):
        read_results(StudyFolder(folder))


def test_a_flip_in_the_manifest_is_an_error_or_changes_no_number(folder: Path) -> None:
    expected, draw = read_results(StudyFolder(folder)).all_rows, random.Random(0)  # noqa: S311
    whole = (folder / "study.json").read_bytes()
    flips = [draw.randrange(8 * len(whole)) for _ in range(100)]
    for bit in [*flips, 8 * whole.index(b"vision_limit")]:
        flip_bit(folder / "study.json", bit)
        with contextlib.suppress(InputError):  # "different study" where it runs again
            assert read_results(StudyFolder(folder)).all_rows == expected, bit
        (folder / "study.json").write_bytes(whole)


def test_a_study_that_lost_its_manifest_keeps_what_belongs_to_it(folder: Path, images: Path, undisturbed: Path) -> None:
    flip(folder / "study.json")
    with pytest.raises(InputError, match="move it away and run the same study again"):
        run_study(request(folder, images))
    (folder / "study.json").unlink()
    outcome = run_study(request(folder, images))
    assert outcome.resumed == outcome.manifest.shards * len(MODELS)
    assert fingerprints(folder) == fingerprints(undisturbed)
    (folder / "study.json").unlink()
    with pytest.raises(InputError, match=r"holds shards of another study, without its study\.json"):
        run_study(request(folder, images, settings=preset("default", seed=3)))
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and is not a study"):
        run_study(request(folder, images))


def test_a_study_without_digests_is_refused(folder: Path, images: Path) -> None:
    path = folder / "study.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(InputError, match="has format 1; this version reads format 2; its files have no digests yet"):
        run_study(request(folder, images))


@pytest.mark.parametrize("text", ['{"a":' * 100_000, "[" * 100_000, "{", "\udcff"])
def test_a_manifest_that_is_not_one_is_refused(folder: Path, images: Path, text: str) -> None:
    (folder / "study.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="cannot be read"):
        run_study(request(folder, images))


def test_what_a_file_is_made_of_leaves_out_names_and_versions(undisturbed: Path) -> None:
    manifest = read_manifest(undisturbed / "study.json")
    dataset = dataclasses.replace(manifest.dataset, name="moved")
    same = dataclasses.replace(manifest, versions={}, command="x", dataset=dataset, models=manifest.models[:1])
    assert same.made_of(manifest.models[0]) == manifest.made_of(manifest.models[0])
    for changes in ({"batch_size": 4}, {"shards": 9}, {"settings": {**manifest.settings, "seed": 1}}, {"threads": 2}):
        assert dataclasses.replace(manifest, **changes).made_of() != manifest.made_of()
    assert len({manifest.made_of(), *map(manifest.made_of, manifest.models)}) == 3
