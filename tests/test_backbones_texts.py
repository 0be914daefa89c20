"""Text encoders: trimmed batches are exact, order and duplicates are kept, other towers run in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backbone_zoo import CONTEXT, EMBED, TEXT, model_config, save, unit
from clipmk.backbones import load

torch.set_num_threads(1)

TEXTS = ["the cat", "a", "the dog and the cat and the dog", "a", "cat", "", "the " * 40]

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
    embedded = backbone.encode_texts(TEXTS, batch_size=batch_size)
    torch.testing.assert_close(embedded, expected, atol=1e-5, rtol=0)
    assert embedded.dtype == torch.float32
    assert not embedded.is_inference()


def lengths_seen(backbone: Any, texts: list[str], batch_size: int) -> list[tuple[int, int]]:
    """(texts, positions) of every forward of the text transformer."""
    model = backbone._texts._model
    transformer = model.text.transformer if hasattr(model, "text") else model.transformer
    seen: list[tuple[int, int]] = []
    hook = transformer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    backbone.encode_texts(texts, batch_size=batch_size)
    hook.remove()
    return seen


@pytest.mark.parametrize("tower", ["native", "own-tower", "eos-pooled"])
def test_causal_towers_run_on_the_longest_text_of_each_sorted_batch(tmp_path: Path, tower: str) -> None:
    backbone, _, _ = pair(tmp_path, tower)
    assert backbone.trims_text
    texts = ["the cat the cat the", "the", "cat", "the cat the", "the", "the cat the cat the"]
    assert lengths_seen(backbone, texts, batch_size=2) == [(2, 3), (2, 7)], "start and end token, then the words"


@pytest.mark.parametrize("tower", ["causal-last", "bidirectional", "class-token"])
def test_towers_that_read_the_padding_run_in_full(tmp_path: Path, tower: str) -> None:
    backbone, _, _ = pair(tmp_path, tower)
    assert not backbone.trims_text
    assert {length for _, length in lengths_seen(backbone, ["the", "cat"], batch_size=2)} <= {CONTEXT, CONTEXT + 1}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pair(tmp_path_factory.mktemp("native"), "native")[0]


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=6), batch_size=st.integers(1, 4))
def test_a_text_is_embedded_the_same_whatever_its_company(native: Any, texts: list[str], batch_size: int) -> None:
    together = native.encode_texts(texts, batch_size=batch_size)
    alone = torch.cat([native.encode_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_equal_texts_are_encoded_once_and_progress_counts_different_ones(native: Any) -> None:
    seen: list[tuple[int, int]] = []
    embedded = native.encode_texts(
        ["a", "b", "a", "c", "b"], batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
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
