"""What decides a text's embedding besides the weights: a cached bank must not outlive a change of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backbone_zoo import MERGES, make, model_config, save
from clipmk.models.checkpoints import text_fingerprint
from clipmk.models.loading import load
from clipmk.models.spec import ModelSpec
from clipmk.records import ModelEntry
from clipmk.vocabulary import cache as textstore
from clipmk.vocabulary import embeddings as textbank
from clipmk.vocabulary.embeddings import load_bank
from clipmk.vocabulary.vocabulary import Vocabulary
from fake_text_encoder import FakeBackbone

WORDS = Vocabulary(
    name="words", classes=("cat", "dog"), templates=("the {}",), descriptors=("the cat", "a dog and a cat"), by_class={}
)

torch.set_num_threads(1)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def other_merges(folder: Path) -> None:
    with gzip.open(folder / "bpe.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(["#version: 0.2", *reversed(MERGES)]))


def quick_gelu(folder: Path) -> None:
    rewrite(folder, lambda content: content["model_cfg"].update(quick_gelu=True))


@pytest.mark.parametrize("change", [quick_gelu, other_merges])
def test_a_folder_that_is_repaired_has_its_texts_embedded_again(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "model"
    save(folder, model_config("vit"))
    before = load_bank(load(f"local-dir:{folder}", device="cpu"), WORDS)
    change(folder)
    repaired = load(f"local-dir:{folder}", device="cpu")
    expected = load_bank(repaired, WORDS, cache=False)
    assert not torch.equal(before.descriptors, expected.descriptors)
    assert torch.equal(load_bank(repaired, WORDS).descriptors, expected.descriptors)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "merges.txt", "spiece.model"])
def test_files_of_a_hub_tokenizer_belong_to_the_fingerprint(tmp_path: Path, name: str) -> None:
    entry = ModelEntry(
        id="mine", source="local", architecture="mine", pretrained=None, family="vit", input_size=32, embed_dim=8
    )
    config = {"vision_cfg": {}, "text_cfg": {"hf_tokenizer_name": "org/words"}}
    spec = ModelSpec(entry=entry, config=config, preprocess={}, folder=tmp_path)
    before = text_fingerprint(spec, None)
    (tmp_path / name).write_text("other words")
    assert text_fingerprint(spec, None) != before


def test_what_concerns_images_alone_leaves_the_text_fingerprint_as_it_is(tmp_path: Path) -> None:
    save(tmp_path / "a", model_config("vit"))
    spec = load(f"local-dir:{tmp_path / 'a'}", device="cpu").text_fingerprint
    rewrite(tmp_path / "a", lambda content: content.update(preprocess_cfg={"mean": [0.5, 0.5, 0.5]}))
    assert load(f"local-dir:{tmp_path / 'a'}", device="cpu").text_fingerprint == spec


def test_callers_tokenizers_are_distinguished_by_their_tokens() -> None:
    def letters(step: int) -> Callable[[list[str]], torch.Tensor]:
        return lambda texts: torch.tensor([[1 + step * (ord(one) % 7) for one in text[:8]] for text in texts])

    recipes = [
        load(make(model_config("vit")), tokenizer=letters(step), device="cpu").text_fingerprint for step in (1, 2, 1)
    ]
    assert recipes[0] == recipes[2] != recipes[1]


def test_a_file_that_vanishes_while_it_is_written_costs_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_bank(FakeBackbone(), WORDS, cache=False)
    real = textstore.read

    def emptied(path: Path, **options: Any) -> Any:
        if path.exists():
            path.unlink()
        return real(path, **options)

    monkeypatch.setattr(textstore, "read", emptied)
    monkeypatch.setattr(textbank, "CHUNK", 2)
    bank = load_bank(FakeBackbone(), WORDS)
    assert torch.equal(bank.descriptors, expected.descriptors)
    assert "not kept for the next time" in bank.warnings[0]
