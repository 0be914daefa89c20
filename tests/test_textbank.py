"""Embedded vocabularies: open_clip's numbers, made once, kept whole, rebuilt when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmk import textbank, textrows, textstore
from clipmk.errors import ClipmkError, ModelError
from clipmk.textbank import cache_info, clear_cache, load_bank
from fake_text_encoder import FARM, FakeBackbone, TinyText, tokenize

MATRICES = ("classes", "descriptors", "raw")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "texts"


def banks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def same(one: textbank.TextBank, other: textbank.TextBank) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in MATRICES)


def test_class_rows_are_those_of_open_clips_zero_shot_classifier() -> None:
    backbone = FakeBackbone()
    expected = open_clip.build_zero_shot_classifier(backbone.model, tokenize, FARM.classes, FARM.templates).T
    bank = load_bank(backbone, FARM)
    torch.testing.assert_close(bank.classes, expected.detach(), atol=1e-6, rtol=0)
    single = FakeBackbone().encode_texts([f"a photo of a {FARM.classes[0]}."])[0]
    assert float(bank.classes[0] @ single) < 0.999  # an average, not the first template


def test_descriptor_rows_stand_in_their_template_and_raw_rows_alone() -> None:
    bank = load_bank(FakeBackbone(), FARM)
    plain = FakeBackbone()
    prompts = [f"a photo showing {text}" for text in FARM.descriptors]
    torch.testing.assert_close(bank.descriptors, plain.encode_texts(prompts), atol=1e-6, rtol=0)
    torch.testing.assert_close(bank.raw, plain.encode_texts(FARM.descriptors), atol=1e-6, rtol=0)
    assert {getattr(bank, name).dtype for name in MATRICES} == {torch.float32}
    assert bank.warnings == ()


def test_every_template_counts_the_same_whatever_the_length_of_its_vector() -> None:
    class Unnormalised(FakeBackbone):
        def encode_texts(self, texts: list[str], **_: object) -> torch.Tensor:
            scale = torch.arange(1.0, len(texts) + 1)[:, None]
            return super().encode_texts(texts) * scale

    torch.testing.assert_close(
        load_bank(Unnormalised(), FARM, cache=False).classes, load_bank(FakeBackbone(), FARM).classes
    )


@pytest.mark.parametrize("cache", [True, False])
def test_every_text_is_embedded_once_in_one_go(cache: bool) -> None:
    backbone, told = FakeBackbone(), []
    load_bank(backbone, FARM, cache=cache, progress=lambda done, total: told.append((done, total)))
    expected = {prompt for row in FARM.class_prompts for prompt in row} | {*FARM.descriptors, *FARM.descriptor_prompts}
    assert len(backbone.asked) == 1
    assert len(backbone.asked[0]) == len(set(backbone.asked[0])) == len(expected)
    assert set(backbone.asked[0]) == expected
    assert told == [(len(expected), len(expected))]


def test_the_second_time_nothing_is_embedded_and_the_numbers_are_the_same() -> None:
    first, second = FakeBackbone(), FakeBackbone()
    made, read = load_bank(first, FARM), load_bank(second, FARM)
    assert second.asked == []
    assert same(made, read)
    assert read.warnings == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_read_is_memory_mapped_and_never_written_back(folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    before = {path: path.read_bytes() for path in banks(folder)}
    bank = load_bank(FakeBackbone(), FARM)
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert all(str(path) in mapped for path in before)
    bank.classes.zero_()
    assert {path: path.read_bytes() for path in banks(folder)} == before


def test_without_cache_nothing_is_read_or_written(folder: Path) -> None:
    load_bank(FakeBackbone(), FARM, cache=False)
    assert not folder.exists()
    load_bank(FakeBackbone(), FARM)
    backbone = FakeBackbone()
    load_bank(backbone, FARM, cache=False)
    assert len(backbone.asked) == 1


def test_other_classes_keep_the_descriptors_file(folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    backbone = FakeBackbone()
    other = FARM.with_classes(["dog", "hen"])
    bank = load_bank(backbone, other)
    assert backbone.asked == [list(other.class_prompts[0])]  # the hen was there already
    assert same(bank, load_bank(FakeBackbone(), other, cache=False))
    assert len(banks(folder)) == 3


@pytest.mark.parametrize(
    "other",
    [
        FakeBackbone(weights="v"),
        FakeBackbone(architecture="tiny-quickgelu"),
        FakeBackbone(dtype=torch.float16),
        FakeBackbone(device=torch.device("cuda")),
    ],
)
def test_another_model_precision_or_device_has_its_own_files(folder: Path, other: FakeBackbone) -> None:
    load_bank(FakeBackbone(), FARM)
    fresh = replace(other, model=TinyText(seed=1), asked=[])
    assert not torch.allclose(load_bank(fresh, FARM).classes, load_bank(FakeBackbone(), FARM).classes)
    assert len(fresh.asked) == 1
    assert len(banks(folder)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"templates": FARM.templates[:1]},
        {"descriptor_template": "{}"},
        {"descriptors": FARM.descriptors[::-1]},
        {"classes": FARM.classes[::-1]},
    ],
)
def test_other_texts_never_get_the_stored_numbers(changes: dict[str, object]) -> None:
    load_bank(FakeBackbone(), FARM)
    vocabulary = replace(FARM, **changes)
    assert same(load_bank(FakeBackbone(), vocabulary), load_bank(FakeBackbone(), vocabulary, cache=False))


GROWN = replace(
    FARM, name="grown", descriptors=("a long tail", *FARM.descriptors[::-1], *(f"tail {i}" for i in range(9)))
)
"""FARM and ten descriptors more, in another order."""


def test_a_vocabulary_grown_by_ten_descriptors_embeds_ten() -> None:
    load_bank(FakeBackbone(), FARM)
    backbone, told = FakeBackbone(), []
    bank = load_bank(backbone, GROWN, progress=lambda done, total: told.append((done, total)))
    new = [text for text in GROWN.descriptors if text not in FARM.descriptors]
    assert len(new) == 10
    assert sorted(backbone.asked[0]) == sorted([*new, *(f"a photo showing {text}" for text in new)])
    assert len(backbone.asked) == 1
    assert told == [(20, 20)]
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))


def test_what_another_vocabulary_calls_a_class_is_no_new_text_as_a_descriptor() -> None:
    load_bank(FakeBackbone(), replace(FARM, templates=("a photo showing {}",)))
    backbone = FakeBackbone()
    load_bank(backbone, replace(FARM, descriptors=("hen", "barn owl"), templates=("a photo showing {}",)))
    assert backbone.asked == [["hen", "barn owl"]]


def test_a_damaged_file_of_another_vocabulary_is_noticed_and_removed(folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    path = next(folder.glob("descriptors-*.safetensors"))
    flip(path)
    bank = load_bank(FakeBackbone(), GROWN)
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))
    assert bank.warnings == (f"cached texts {path.name} cannot be used: its numbers are not those that were written",)
    assert not path.exists()


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five texts at a time, three rows at a time."""
    monkeypatch.setattr(textrows, "CHUNK", 5)
    monkeypatch.setattr(textstore, "PIECE", 3)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("cache", [True, False])
def test_a_large_vocabulary_is_embedded_in_chunks_to_the_same_bytes(
    folder: Path, cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, told = FakeBackbone(), []
    bank = load_bank(backbone, GROWN, cache=cache, progress=lambda done, total: told.append((done, total)))
    assert max(map(len, backbone.asked)) <= 6
    assert len(backbone.asked) > 6
    total = 3 * len(GROWN.classes) + 2 * len(GROWN.descriptors)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {of for _, of in told} == {total}
    assert [path.name.split("-")[0] for path in banks(folder)] == (["classes", "descriptors"] if cache else [])
    monkeypatch.undo()
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))


@pytest.mark.usefixtures("chunks")
def test_who_is_interrupted_goes_on_from_the_last_chunk(folder: Path) -> None:
    def cancel(done: int, _: int) -> None:
        if done > 20:
            raise KeyboardInterrupt

    first, second = FakeBackbone(), FakeBackbone()
    with pytest.raises(KeyboardInterrupt):
        load_bank(first, GROWN, progress=cancel)
    kept = {text for asked in first.asked[:-1] for text in asked}
    assert {path.name.split("-")[0] for path in banks(folder)} == {"part"}
    bank = load_bank(second, GROWN)
    assert len(kept) > 15
    assert kept & {text for asked in second.asked for text in asked} <= {"cat"}  # a class's prompt and a descriptor
    assert [path.name.split("-")[0] for path in banks(folder)] == ["classes", "descriptors"]
    assert bank.warnings == ()
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))


@pytest.mark.usefixtures("chunks")
def test_chunks_that_cannot_be_written_stay_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    bank = load_bank(FakeBackbone(), GROWN)
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))
    assert any("No space left on device" in warning for warning in bank.warnings)
    assert list(folder.glob("*.safetensors")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_process_killed_at_any_moment_leaves_nothing_that_is_read_wrongly() -> None:
    script = """
import os, signal, sys, time
from dataclasses import replace
import torch
from fake_text_encoder import FARM, FakeBackbone
from clipmk import textrows
from clipmk.textbank import clear_cache, load_bank
torch.set_num_threads(1)
textrows.CHUNK = 5
grown = replace(FARM, descriptors=(*FARM.descriptors, *(f"tail {i}" for i in range(40))))
expected = load_bank(FakeBackbone(), grown, cache=False)
for moment in range(12):
    child = os.fork()
    if not child:
        for number in range(10_000):
            load_bank(FakeBackbone(), grown.with_classes([f"class {number}"]))
    time.sleep(0.005 * moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    bank = load_bank(FakeBackbone(), grown)
    assert bank.warnings == (), bank.warnings
    assert all(torch.equal(getattr(bank, name), getattr(expected, name)) for name in ("classes", "descriptors", "raw"))
    clear_cache()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    subprocess.run([sys.executable, "-c", script], env=env, timeout=120, check=True)


def test_rows_in_memory_and_rows_from_a_file_lie_the_same_way_in_cache_lines() -> None:
    odd = replace(FARM, descriptors=FARM.descriptors[:3])  # 96 bytes: the next matrix would start in mid-line
    for bank in (load_bank(FakeBackbone(), odd, cache=False), load_bank(FakeBackbone(), odd)):
        assert {getattr(bank, name).data_ptr() % textstore.ALIGNMENT for name in MATRICES} == {0}


WORDS = st.integers(0, 3).map(np.uint64)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=6), max_size=4), st.lists(st.tuples(WORDS, WORDS), max_size=9)
)
def test_rows_are_found_by_both_halves_of_their_key_in_the_first_source_that_has_it(
    stored: list[list[tuple[np.uint64, np.uint64]]], sought: list[tuple[np.uint64, np.uint64]]
) -> None:
    def keys(pairs: list[tuple[np.uint64, np.uint64]]) -> textstore.Keys:
        return np.array(pairs, np.uint64).reshape(-1, 2)

    numbers = [
        torch.tensor([[100.0 * i + j] for j in range(len(pairs))]).reshape(-1, 1) for i, pairs in enumerate(stored)
    ]
    expected: dict[tuple[np.uint64, np.uint64], float] = {}
    for pairs, rows in zip(stored, numbers, strict=True):
        for pair, row in zip(pairs, rows.tolist(), strict=True):
            expected.setdefault(pair, row[0])
    found = textstore.Rows([(keys(pairs), rows) for pairs, rows in zip(stored, numbers, strict=True)])
    places = found.find(keys(sought))
    assert places.missing.tolist() == [i for i, pair in enumerate(sought) if pair not in expected]
    there = [pair for pair in sought if pair in expected]
    assert found.take(found.find(keys(there))).flatten().tolist() == [expected[pair] for pair in there]


def test_equal_weights_with_another_activation_are_told_apart_in_memory() -> None:
    first = FakeBackbone(architecture="custom")
    load_bank(first, FARM)
    again = FakeBackbone(architecture="custom")
    load_bank(again, FARM)
    assert again.asked == [[textbank.PROBE]]
    other = FakeBackbone(architecture="custom", model=TinyText(activation=torch.relu))
    assert same(load_bank(other, FARM), load_bank(other, FARM, cache=False))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x80\x04garbage" * 30)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, *, rows: int = 0, rename: dict[str, str] | None = None, layout: str = textbank.FORMAT) -> None:
    """Write a sound file of other content in its place."""
    stored = textstore.read(path, layout=textbank.FORMAT)
    renamed = {(rename or {}).get(name, name): matrix[rows:] for name, matrix in stored.matrices.items()}
    numbers = torch.cat(list(renamed.values())).numpy().copy()
    keys = np.concatenate([keys[rows:] for keys, _ in stored.sources])
    counts = {name: len(matrix) for name, matrix in renamed.items()}
    textstore.write(path, counts, keys, iter([numbers]), layout=layout)


def old_format(path: Path) -> None:
    rewrite(path, layout="clipmk-texts-0")


def other_names(path: Path) -> None:
    rewrite(path, rename={"classes": "raw", "descriptors": "classes"})


def fewer_rows(path: Path) -> None:
    rewrite(path, rows=1)


def of_another_name(path: Path) -> None:
    other = path.with_stem(path.stem[:-1] + "x")
    path.rename(other)
    rewritten = other.read_bytes()
    other.unlink()
    path.write_bytes(rewritten.replace(path.stem.encode(), other.stem.encode()))


def other_place(path: Path) -> None:
    """Two rows in each other's place: their sum is the same, their bytes are not."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start : start + 64] = data[start + 32 : start + 64] + data[start : start + 32]
    path.write_bytes(data)


DAMAGES = [cut, empty, garbage, flip, old_format, other_names, fewer_rows, of_another_name, other_place]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["classes", "descriptors"])
def test_a_damaged_file_is_made_anew_with_a_warning(folder: Path, damage: object, which: str) -> None:
    made = load_bank(FakeBackbone(), FARM, cache=False)
    load_bank(FakeBackbone(), FARM)
    path = next(folder.glob(f"{which}-*.safetensors"))
    damage(path)
    bank = load_bank(FakeBackbone(), FARM)
    assert same(bank, made)
    assert len(bank.warnings) == 1
    assert f"cached texts {path.name} cannot be used and are made anew" in bank.warnings[0]
    again = FakeBackbone()
    assert load_bank(again, FARM).warnings == ()
    assert again.asked == []


def test_a_cache_that_cannot_be_written_costs_a_warning_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "file" / "below"))
    bank = load_bank(FakeBackbone(), FARM)
    assert same(bank, load_bank(FakeBackbone(), FARM, cache=False))
    assert len(bank.warnings) == 1
    assert "not kept for the next time" in bank.warnings[0]


def test_a_full_disk_costs_a_warning_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    bank = load_bank(FakeBackbone(), FARM)
    assert same(bank, load_bank(FakeBackbone(), FARM, cache=False))
    assert "No space left on device" in bank.warnings[0]
    assert banks(folder) == []
    assert not list(folder.glob(".*"))


def test_a_lock_held_too_long_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_bank(FakeBackbone(), FARM)
    path = next(folder.glob("classes-*.safetensors"))
    path.unlink()
    monkeypatch.setattr(textbank, "LOCK_SECONDS", 0.05)
    with FileLock(path.with_suffix(".lock")):
        bank = load_bank(FakeBackbone(), FARM)
    assert "not kept" in bank.warnings[0]
    assert not path.exists()
    assert same(bank, load_bank(FakeBackbone(), FARM))


def test_cancelling_leaves_nothing_behind_and_the_lock_free(folder: Path) -> None:
    def cancel(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_bank(FakeBackbone(), FARM, progress=cancel)
    assert banks(folder) == []
    assert not list(folder.glob(".*"))
    assert load_bank(FakeBackbone(), FARM).warnings == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vectors_without_a_direction_are_an_error_and_never_kept(folder: Path, value: float) -> None:
    class Broken(FakeBackbone):
        def encode_texts(self, texts: list[str], **_: object) -> torch.Tensor:
            return torch.full((len(texts), 8), value)

    with pytest.raises(ModelError, match="precision fp32"):
        load_bank(Broken(), FARM)
    assert banks(folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_eight_processes_at_once_embed_once_and_leave_two_good_files(folder: Path) -> None:
    script = """
import json, multiprocessing, os, torch
from fake_text_encoder import FARM, FakeBackbone
from clipmk.textbank import load_bank
def build(barrier, answers):
    torch.set_num_threads(1)
    backbone = FakeBackbone(seconds=0.3)
    barrier.wait()
    bank = load_bank(backbone, FARM)
    answers.put((len(backbone.asked), float(bank.classes.sum()), bank.warnings))
context = multiprocessing.get_context("fork")
barrier, answers = context.Barrier(8), context.SimpleQueue()
children = [context.Process(target=build, args=(barrier, answers)) for _ in range(8)]
[child.start() for child in children]
results = [answers.get() for _ in children]
[child.join() for child in children]
print(json.dumps(results))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=120, check=True
    )
    results = json.loads(done.stdout)
    assert sum(asked for asked, _, _ in results) == 1
    assert len({total for _, total, _ in results}) == 1
    assert all(warnings == [] for _, _, warnings in results)
    assert [path.name.split("-")[0] for path in banks(folder)] == ["classes", "descriptors"]
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".lock"}
    backbone = FakeBackbone()
    assert same(load_bank(backbone, FARM), load_bank(FakeBackbone(), FARM, cache=False))
    assert backbone.asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_cache_is_private(folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in banks(folder)} == {0o600}


def test_the_cache_is_counted_and_cleared_and_nothing_else_with_it(folder: Path) -> None:
    assert (cache_info().path, cache_info().files, cache_info().bytes) == (folder, 0, 0)
    load_bank(FakeBackbone(), FARM)
    (folder / ".0123.tmp").write_bytes(b"left by a killed process")
    (folder / "holiday.jpg").write_bytes(b"not ours")
    expected = sum(path.stat().st_size for path in banks(folder)) + 24
    assert (cache_info().files, cache_info().bytes) == (3, expected)
    assert clear_cache().files == 3
    assert [path.name for path in folder.iterdir()] == ["holiday.jpg"]
    assert cache_info().files == 0
    assert clear_cache().bytes == 0


def test_a_file_that_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_bank(FakeBackbone(), FARM)

    def refuse(self: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ClipmkError, match="cannot be removed: Permission denied"):
        clear_cache()


def test_a_bank_moves_to_a_device_whole() -> None:
    bank = load_bank(FakeBackbone(), FARM, cache=False)
    moved = bank.to("meta")
    assert {getattr(moved, name).device.type for name in MATRICES} == {"meta"}
    assert bank.classes.device.type == "cpu"
