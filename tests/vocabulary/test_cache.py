"""Known rows of a model: found whichever vocabulary they came with; the others embedded in chunks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipmk.vocabulary import cache as textstore
from clipmk.vocabulary import embeddings as textbank
from clipmk.vocabulary.embeddings import load_bank
from fake_text_encoder import FARM, GROWN, MATRICES, FakeBackbone, banks, same

pytestmark = pytest.mark.usefixtures("texts_folder")


def test_a_vocabulary_grown_by_ten_descriptors_embeds_ten() -> None:
    load_bank(FakeBackbone(), FARM)
    backbone, reported = FakeBackbone(), []
    bank = load_bank(backbone, GROWN, progress=lambda done, total: reported.append((done, total)))
    new = [text for text in GROWN.descriptors if text not in FARM.descriptors]
    assert len(new) == 10
    assert sorted(backbone.asked[0]) == sorted([*new, *(f"a photo showing {text}" for text in new)])
    assert len(backbone.asked) == 1
    assert reported == [(20, 20)]
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))


def test_a_prompt_known_as_a_class_is_not_embedded_again_as_a_descriptor() -> None:
    load_bank(FakeBackbone(), replace(FARM, templates=("a photo showing {}",)))
    backbone = FakeBackbone()
    load_bank(backbone, replace(FARM, descriptors=("hen", "barn owl"), templates=("a photo showing {}",)))
    assert backbone.asked == [["hen", "barn owl"]]


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five texts at a time."""
    monkeypatch.setattr(textbank, "CHUNK", 5)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("cache", [True, False])
def test_a_large_vocabulary_is_embedded_in_chunks_to_the_same_bytes(
    texts_folder: Path, cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, reported = FakeBackbone(), []
    bank = load_bank(backbone, GROWN, cache=cache, progress=lambda done, total: reported.append((done, total)))
    assert max(map(len, backbone.asked)) <= 6
    assert len(backbone.asked) > 6
    total = 3 * len(GROWN.classes) + 2 * len(GROWN.descriptors)
    assert reported[-1] == (total, total)
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})
    assert {of for _, of in reported} == {total}
    assert [path.name.split("-")[0] for path in banks(texts_folder)] == (
        ["classes", "descriptors", "raw"] if cache else []
    )
    monkeypatch.undo()
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))


@pytest.mark.usefixtures("chunks")
def test_an_interrupted_run_resumes_from_the_last_chunk(texts_folder: Path) -> None:
    def cancel(done: int, _: int) -> None:
        if done > 20:
            raise KeyboardInterrupt

    first, second = FakeBackbone(), FakeBackbone()
    with pytest.raises(KeyboardInterrupt):
        load_bank(first, GROWN, progress=cancel)
    kept = {text for asked in first.asked[:-1] for text in asked}
    assert {path.name.split("-")[0] for path in banks(texts_folder)} == {"part"}
    bank = load_bank(second, GROWN)
    assert len(kept) > 15
    assert kept & {text for asked in second.asked for text in asked} <= {"cat"}  # a class's prompt and a descriptor
    assert [path.name.split("-")[0] for path in banks(texts_folder)] == ["classes", "descriptors", "raw"]
    assert bank.warnings == ()
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))


@pytest.mark.usefixtures("chunks")
def test_chunks_that_cannot_be_written_stay_in_memory(texts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    bank = load_bank(FakeBackbone(), GROWN)
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))
    assert any("No space left on device" in warning for warning in bank.warnings)
    assert list(texts_folder.glob("*.safetensors")) == []


@pytest.mark.parametrize("full", [False, True])
def test_a_large_matrix_is_assembled_in_a_file_or_in_memory_where_the_disk_is_full(
    texts_folder: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    asked: list[int] = []

    def allocate(descriptor: int, start: int, size: int) -> None:
        asked.append(size)
        if full:
            raise OSError(28, "No space left on device")
        os.ftruncate(descriptor, start + size)

    monkeypatch.setattr(textbank, "LARGE", 200)
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    bank = load_bank(FakeBackbone(), GROWN)
    assert asked == [4 * 16 * len(GROWN.descriptors)] * 2
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))
    assert same(bank, load_bank(FakeBackbone(), GROWN))
    assert {path.suffix for path in texts_folder.iterdir()} == {".safetensors", ".lock"}


def test_rows_in_memory_and_rows_from_a_file_are_aligned_alike() -> None:
    odd = replace(FARM, descriptors=FARM.descriptors[:3])  # 96 bytes: the next matrix would start in mid-line
    for bank in (load_bank(FakeBackbone(), odd, cache=False), load_bank(FakeBackbone(), odd)):
        assert {getattr(bank, name).data_ptr() % textstore.ALIGNMENT for name in MATRICES} == {0}


WORDS = st.integers(0, 3).map(np.uint64)


@given(
    st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=6), max_size=4), st.lists(st.tuples(WORDS, WORDS), max_size=9)
)
def test_rows_are_found_by_both_halves_of_their_key_in_the_first_source_that_has_it(
    stored: list[list[tuple[np.uint64, np.uint64]]], sought: list[tuple[np.uint64, np.uint64]]
) -> None:
    def keys(pairs: list[tuple[np.uint64, np.uint64]]) -> textstore.Keys:
        return np.array(pairs, np.uint64).reshape(-1).view("S16")

    numbers = [
        torch.tensor([[100.0 * i + j] for j in range(len(pairs))]).reshape(-1, 1) for i, pairs in enumerate(stored)
    ]
    expected: dict[tuple[np.uint64, np.uint64], float] = {}
    for pairs, rows in zip(stored, numbers, strict=True):
        for pair, row in zip(pairs, rows.tolist(), strict=True):
            expected.setdefault(pair, row[0])
    found = textstore.Rows([textstore.Stored(keys(pairs), rows) for pairs, rows in zip(stored, numbers, strict=True)])
    missing = np.flatnonzero(found.find(keys(sought)) < 0)
    assert missing.tolist() == [i for i, pair in enumerate(sought) if pair not in expected]
    there = [pair for pair in sought if pair in expected]
    copied = np.zeros((len(there), 1), np.float32)
    found.copy(found.find(keys(there)), copied)
    assert copied.flatten().tolist() == [expected[pair] for pair in there]
