"""Text encoders: trimmed batches are exact, order and duplicates are kept, other towers run in full."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backbone_zoo import CONTEXT, EMBED, TEXT, model_config, save, unit
from clipmk.backbones import library
from clipmk.backbones import text as tokenizer_module
from clipmk.backbones.text import FILL, TextEncoder, cached
from clipmk.models.loading import load
from clipmk.vocabulary.vocabulary import DESCRIPTOR_TEMPLATE, load_vocabulary

torch.set_num_threads(1)

TEXTS = ["the cat", "a", "the dog and the cat and the dog", "a", "cat", "", "the " * 40]

SPECIAL = ["<end_of_text>", "a<start_of_text>b", "&amp; &", "<b>bold</b>", "it's", "I'LL", "\t a \n", "1999", "naïve ½"]
PLAIN = open_clip.SimpleTokenizer()
CACHED = cached(PLAIN)

TOWERS: dict[str, dict[str, Any]] = {
    "native": {},
    "own-tower": {"custom_text": True},
    "biased-projection": {"custom_text": True, "text": {"proj_bias": True}},
    "no-projection": {"custom_text": True, "text": {"proj_type": "none", "width": EMBED}},
    "eos-pooled": {"custom_text": True, "text": {"pool_type": "eos", "eos_id": TEXT["vocab_size"] - 1}},
    "start-pooled": {"custom_text": True, "text": {"pool_type": "eos", "eos_id": TEXT["vocab_size"] - 2}},
    "causal-last": {"custom_text": True, "text": {"pool_type": "last"}},
    "bidirectional": {"custom_text": True, "text": {"no_causal_mask": True, "pool_type": "last"}},
    "class-token": {"custom_text": True, "text": {"embed_cls": True}},
}


def configured(tower: str) -> dict[str, Any]:
    options = TOWERS[tower]
    config = model_config("vit", text={**TEXT, **options.get("text", {})})
    return {**config, "custom_text": options.get("custom_text", False)}


def pair(folder: Path, tower: str) -> tuple[Any, Any, Any]:
    """(backbone, plain open_clip model, its tokenizer)."""
    plain = save(folder, configured(tower))
    words = open_clip.SimpleTokenizer(bpe_path=str(folder / "bpe.txt.gz"), context_length=CONTEXT)
    return load(f"local-dir:{folder}", device="cpu"), plain, words


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_texts_are_embedded_as_by_open_clip_in_the_order_given(tmp_path: Path, tower: str, batch_size: int) -> None:
    backbone, plain, words = pair(tmp_path, tower)
    with torch.no_grad():
        expected = unit(plain.encode_text(words(TEXTS)))
    backbone._texts.budget = batch_size * CONTEXT
    embedded = backbone.encode_texts(TEXTS)
    torch.testing.assert_close(embedded, expected, atol=1e-5, rtol=0)
    assert embedded.dtype == torch.float32
    assert not embedded.is_inference()


def lengths_seen(backbone: Any, texts: list[str], budget: int) -> list[tuple[int, int]]:
    """(texts, positions) of every forward of the text transformer."""
    model = backbone._texts._model
    transformer = model.text.transformer if hasattr(model, "text") else model.transformer
    seen: list[tuple[int, int]] = []
    hook = transformer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    backbone._texts.budget = budget
    backbone.encode_texts(texts)
    hook.remove()
    return seen


@pytest.mark.parametrize("tower", ["native", "own-tower", "eos-pooled"])
def test_causal_towers_run_on_batches_of_one_length_and_no_longer(tmp_path: Path, tower: str) -> None:
    backbone, _, _ = pair(tmp_path, tower)
    assert backbone._texts.trims
    texts = ["the cat the cat the", "the", "cat", "the cat the", "the", "the cat the cat the"]
    seen = lengths_seen(backbone, texts, budget=2 * 8 * FILL * torch.get_num_threads())
    assert [length for _, length in seen] == [3, 5, 7], "start and end token, then the words"
    assert {count for count, _ in seen} == {FILL * torch.get_num_threads()}, "filled up with repetitions"


@pytest.mark.parametrize("tower", ["native", "own-tower"])
def test_on_a_cpu_no_bit_of_a_text_depends_on_its_batch(tmp_path: Path, tower: str) -> None:
    backbone, _, _ = pair(tmp_path, tower)
    texts = [" ".join(words) for words in itertools.product(["the", "cat", "dog", "and"], repeat=3)] + TEXTS
    together = backbone.encode_texts(texts)
    assert torch.equal(torch.cat([backbone.encode_texts([text]) for text in texts]), together)
    assert torch.equal(backbone.encode_texts(texts[::-1]).flip(0), together)
    backbone._texts.budget = 100
    assert torch.equal(backbone.encode_texts(texts), together)


class Crowded:
    """A text tower's forward on a device that holds `room` tokens at a time."""

    def __init__(self, encoder: TextEncoder, room: int, reason: BaseException) -> None:
        self._forward, self._room, self._reason = encoder._forward, room, reason
        self.tried: list[int] = []

    def __call__(self, tokens: Tensor) -> Tensor:
        self.tried.append(len(tokens))
        if tokens.numel() > self._room:
            raise self._reason
        return self._forward(tokens)


@pytest.mark.parametrize(
    "reason",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_halves_the_batch_and_continues(
    native: Any, monkeypatch: pytest.MonkeyPatch, reason: BaseException
) -> None:
    texts = [" ".join(words) for words in itertools.product(["the", "cat"], repeat=6)]
    expected = native.encode_texts(texts)
    crowded = Crowded(native._texts, 11 * 8, reason)  # six words, start and end
    monkeypatch.setattr(native._texts, "_forward", crowded)
    monkeypatch.setattr(native._texts, "budget", 64 * 8)
    told: list[tuple[int, int]] = []
    found = native.encode_texts(texts, progress=lambda done, total: told.append((done, total)))
    assert crowded.tried == [64, 32, 16] + [8] * 8, "what did not fit is never tried again"
    assert told == [(8 * (step + 1), 64) for step in range(8)]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_one_text_that_does_not_fit_is_an_error_and_others_are_not_swallowed(
    native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native._texts, "budget", 64)
    crowded = Crowded(native._texts, 0, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(native._texts, "_forward", crowded)
    with pytest.raises(torch.OutOfMemoryError):
        native.encode_texts(["the cat", "the dog"])
    assert crowded.tried[-1] == 1
    monkeypatch.setattr(native._texts, "budget", 64)
    monkeypatch.setattr(native._texts, "_forward", Crowded(native._texts, 0, RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        native.encode_texts(["the cat"])


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@settings(max_examples=60)
@given(st.lists(PRINTABLE | st.text(max_size=12) | st.sampled_from(SPECIAL), min_size=1, max_size=4))
def test_cached_words_give_the_tokens_of_the_tokenizer(texts: list[str]) -> None:
    assert torch.equal(CACHED(texts), PLAIN(texts))
    assert torch.equal(CACHED(texts), PLAIN(texts)), "the second time from memory"


def test_all_texts_of_a_shipped_vocabulary_give_the_tokens_of_the_tokenizer() -> None:
    texts = [*map(DESCRIPTOR_TEMPLATE.format, load_vocabulary("food101").descriptors), "the " * 100]
    assert torch.equal(CACHED(texts), PLAIN(texts))


def test_the_tokenizer_alone_is_that_of_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "open_clip")
    alone = library.simple_tokenizer_class()()
    assert type(alone) is not open_clip.SimpleTokenizer
    assert library.simple_tokenizer_class() is type(alone)
    texts = [*map(DESCRIPTOR_TEMPLATE.format, load_vocabulary("everyday").descriptors), "the " * 100, *SPECIAL]
    assert torch.equal(alone(texts), PLAIN(texts))
    assert isinstance(cached(alone), tokenizer_module.CachedTokenizer)


@pytest.mark.parametrize("trouble", ["no package", "no file", "needs its package"])
def test_where_the_tokenizer_cannot_stand_alone_open_clip_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    found = None if trouble == "no package" else ModuleSpec("open_clip", None, origin=str(tmp_path / "__init__.py"))
    if trouble == "needs its package":
        (tmp_path / "tokenizer.py").write_text("from .constants import DEFAULT_CONTEXT_LENGTH")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(library, "loaded_tokenizer_classes", list)
    monkeypatch.setattr(library, "_ALONE", f"alone with {trouble}")
    assert library.simple_tokenizer_class() is open_clip.SimpleTokenizer


@pytest.mark.parametrize("clean", ["canonicalize", "whitespace"])
def test_other_clean_ups_of_a_text_are_kept(clean: str) -> None:
    words = open_clip.SimpleTokenizer(clean=clean)
    texts = ["A  Red_comb, (small)!", "it's <b>", "under__score", "_", "THE cat.", *SPECIAL]
    assert torch.equal(cached(words)(texts), words(texts))


def test_other_and_random_tokenizers_are_left_alone() -> None:
    class Own(open_clip.SimpleTokenizer):  # type: ignore[misc]
        """Might do anything."""

    for words in (Own(), open_clip.SimpleTokenizer(reduction_mask="random"), str.split):
        assert cached(words) is words


def test_the_cache_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "WORD_LIMIT", 3)
    words = tokenizer_module.CachedTokenizer(PLAIN)
    assert torch.equal(words(["a b c d e f a"]), PLAIN(["a b c d e f a"]))
    assert len(words._known) <= 3


@pytest.mark.parametrize("tower", ["causal-last", "bidirectional", "class-token"])
def test_towers_that_read_the_padding_run_in_full(tmp_path: Path, tower: str) -> None:
    backbone, _, _ = pair(tmp_path, tower)
    assert not backbone._texts.trims
    assert {length for _, length in lengths_seen(backbone, ["the", "cat"], budget=2 * CONTEXT)} <= {
        CONTEXT,
        CONTEXT + 1,
    }


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pair(tmp_path_factory.mktemp("native"), "native")[0]


@settings(max_examples=15)
@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=6), batch_size=st.integers(1, 4))
def test_a_text_is_embedded_the_same_in_any_batch(native: Any, texts: list[str], batch_size: int) -> None:
    native._texts.budget = batch_size * CONTEXT
    together = native.encode_texts(texts)
    alone = torch.cat([native.encode_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_equal_texts_are_encoded_once_and_progress_counts_different_ones(
    native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(native._texts, "budget", 2 * 3)  # start, a word, end
    embedded = native.encode_texts(["a", "b", "a", "c", "b"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]
    assert embedded.shape == (5, EMBED)
    assert torch.equal(embedded[0], embedded[2])


def test_no_texts_give_no_rows(native: Any) -> None:
    empty: Tensor = native.encode_texts([])
    assert empty.shape == (0, EMBED)


def test_half_precision_texts_stay_close(tmp_path: Path) -> None:
    save(tmp_path, configured("native"))
    full = load(f"local-dir:{tmp_path}", device="cpu").encode_texts(TEXTS)
    half = load(f"local-dir:{tmp_path}", device="cpu", precision="bf16").encode_texts(TEXTS)
    assert ((full * half).sum(dim=-1) > 0.99).all()
