"""Embedded vocabularies: open_clip's numbers, computed once, separate for each model, counted and cleared."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from clipmk.backbones.text import cached, cut_texts
from clipmk.system.locations import assets_dir, cache_info, clear_cache
from clipmk.vocabulary import embeddings as textbank
from clipmk.vocabulary.cache import ALIGNMENT, Stored, read, write
from clipmk.vocabulary.embeddings import load_bank
from clipmk.vocabulary.lint import context_notes
from fake_text_encoder import FARM, MATRICES, FakeBackbone, TinyText, banks, same, tokenize

pytestmark = pytest.mark.usefixtures("texts_folder")


def test_class_rows_are_those_of_open_clips_zero_shot_classifier() -> None:
    backbone = FakeBackbone()
    expected = open_clip.build_zero_shot_classifier(backbone.model, tokenize, FARM.classes, FARM.templates).T
    bank = load_bank(backbone, FARM)
    torch.testing.assert_close(bank.classes, expected.detach(), atol=1e-6, rtol=0)
    single = FakeBackbone().encode_texts([f"a photo of a {FARM.classes[0]}."])[0]
    assert float(bank.classes[0] @ single) < 0.999  # an average, not the first template


def test_descriptor_rows_use_their_template_and_raw_rows_none() -> None:
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
    backbone, reported = FakeBackbone(), []
    load_bank(backbone, FARM, cache=cache, progress=lambda done, total: reported.append((done, total)))
    expected = {prompt for row in FARM.class_prompts for prompt in row} | set(FARM.descriptors)
    expected |= {FARM.descriptor_template.format(text) for text in FARM.descriptors}
    assert len(backbone.asked) == 1
    assert len(backbone.asked[0]) == len(set(backbone.asked[0])) == len(expected)
    assert set(backbone.asked[0]) == expected
    assert reported == [(len(expected), len(expected))]


def test_the_second_time_nothing_is_embedded_and_the_numbers_are_the_same() -> None:
    first, second = FakeBackbone(), FakeBackbone()
    made, read = load_bank(first, FARM), load_bank(second, FARM)
    assert second.asked == []
    assert same(made, read)
    assert read.warnings == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_read_is_memory_mapped_and_never_written_back(texts_folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    before = {path: path.read_bytes() for path in banks(texts_folder)}
    bank = load_bank(FakeBackbone(), FARM)
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert all(str(path) in mapped for path in before)
    bank.classes.zero_()
    assert {path: path.read_bytes() for path in banks(texts_folder)} == before


def test_without_cache_nothing_is_read_or_written(texts_folder: Path) -> None:
    load_bank(FakeBackbone(), FARM, cache=False)
    assert not texts_folder.exists()
    load_bank(FakeBackbone(), FARM)
    backbone = FakeBackbone()
    load_bank(backbone, FARM, cache=False)
    assert len(backbone.asked) == 1


def test_other_classes_keep_the_descriptors_file(texts_folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    backbone = FakeBackbone()
    other = FARM.with_classes(["dog", "hen"])
    bank = load_bank(backbone, other)
    assert backbone.asked == [list(other.class_prompts[0])]  # the hen was there already
    assert same(bank, load_bank(FakeBackbone(), other, cache=False))
    assert len(banks(texts_folder)) == 4


@pytest.mark.parametrize(
    "other",
    [
        FakeBackbone(weights="v"),
        FakeBackbone(architecture="tiny-quickgelu"),
        FakeBackbone(dtype=torch.float16),
        FakeBackbone(device=torch.device("cuda")),
    ],
)
def test_another_model_precision_or_device_has_its_own_files(texts_folder: Path, other: FakeBackbone) -> None:
    load_bank(FakeBackbone(), FARM)
    fresh = replace(other, model=TinyText(seed=1), asked=[])
    assert not torch.allclose(load_bank(fresh, FARM).classes, load_bank(FakeBackbone(), FARM).classes)
    assert len(fresh.asked) == 1
    assert len(banks(texts_folder)) == 6


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


def test_equal_weights_with_another_activation_are_distinguished_in_memory() -> None:
    first = FakeBackbone(architecture="custom")
    load_bank(first, FARM)
    again = FakeBackbone(architecture="custom")
    load_bank(again, FARM)
    assert again.asked == [[textbank.PROBE]]
    other = FakeBackbone(architecture="custom", model=TinyText(activation=torch.relu))
    assert same(load_bank(other, FARM), load_bank(other, FARM, cache=False))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_cache_is_private(texts_folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    assert texts_folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in banks(texts_folder)} == {0o600}


def test_the_cache_is_counted_and_cleared_and_nothing_else_with_it(texts_folder: Path) -> None:
    assert (cache_info().path, cache_info().files, cache_info().bytes) == (texts_folder, 0, 0)
    load_bank(FakeBackbone(), FARM)
    (texts_folder / ".0123.tmp").write_bytes(b"left by a killed process")
    (texts_folder / ".tmpaB3dE9").write_bytes(b"left by safetensors")
    (texts_folder / "classes-0-1.safetensors").write_bytes(b"an older version's")
    (texts_folder / "holiday.jpg").write_bytes(b"not ours")
    expected = sum(path.stat().st_size for path in banks(texts_folder)) + 24 + 19
    assert (cache_info().files, cache_info().bytes) == (6, expected)
    assert clear_cache().files == 6
    assert [path.name for path in texts_folder.iterdir()] == ["holiday.jpg"]
    assert cache_info().files == 0
    assert clear_cache().bytes == 0


LONG = "a " + " ".join(["shiny"] * 10)


@pytest.mark.parametrize("cache", [True, False])
def test_texts_that_the_model_cuts_are_counted_each_time(cache: bool) -> None:
    longer = replace(FARM, descriptors=(*FARM.descriptors, LONG, f"{LONG} r\u00e9d"))
    assert load_bank(FakeBackbone(), FARM, cache=cache).warnings == ()
    expected = f"2 descriptors are longer than the context of the model and are cut: 'a photo showing {LONG}'"
    for _ in range(2):
        assert load_bank(FakeBackbone(), longer, cache=cache).warnings == (expected,)
    wide = replace(FARM, classes=(LONG, "hen"), templates=("a photo of a {}.", "{}"), by_class={})
    (warning,) = load_bank(FakeBackbone(), wide, cache=cache).warnings
    assert warning.startswith("2 class prompts are longer than the context of the model and are cut: 'a photo of a a")


def test_a_note_is_read_back_as_it_was_written(texts_folder: Path) -> None:
    texts_folder.mkdir(parents=True, exist_ok=True)
    stored = Stored(np.array([b"x" * 16]), torch.ones(1, 4), "café \"\\ 日本'")
    for path in (texts_folder / "a.safetensors",):
        write(path, stored)
        assert read(path).note == stored.note
        assert read(path).rows.data_ptr() % ALIGNMENT == 0


@pytest.mark.parametrize(("name", "context"), [("ViT-B-32", 77), ("embedded", 24)])
def test_cut_texts_are_those_with_more_tokens_than_the_context(name: str, context: int) -> None:
    own = str(assets_dir() / "models" / "vit-s8" / "bpe.txt.gz")
    options = {} if name == "ViT-B-32" else {"bpe_path": own}
    tokenizer = open_clip.SimpleTokenizer(context_length=context, **options)
    texts = ["fox " * number for number in range(context - 4, context + 3)] + ["x" * 300, "é" * 200, "a, b & c"]
    expected = [text for text in texts if len(tokenizer.encode(text)) + 2 > context]
    assert 0 < len(expected) < len(texts)
    assert cut_texts(tokenizer, texts) == expected
    assert cut_texts(cached(tokenizer), texts) == expected


def test_a_tokenizer_of_another_kind_cuts_nothing_that_is_known() -> None:
    assert cut_texts(tokenize, ["x" * 500]) == []


def test_a_vocabulary_is_checked_against_the_contexts_of_most_and_of_embedded_models() -> None:
    most, embedded = context_notes(replace(FARM, descriptors=("a", "shiny " * 20, "shiny " * 49)))
    assert [note.split(":")[0] for note in most] == []
    assert "2 descriptors are longer than the context of embedded models (24 tokens) and are cut" in embedded[0]
    most, _ = context_notes(replace(FARM, descriptors=("a", "red, " * 50)))
    assert most[0].startswith("1 descriptor is longer than the context of most models (77 tokens) and is cut: 'a photo")
