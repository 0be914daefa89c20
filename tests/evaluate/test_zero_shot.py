"""Prompt sets and the zero-shot gain against plain loops: who gets which descriptors, and what is compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from clipmk.evaluate import zero_shot
from clipmk.evaluate.metrics import clustered_interval
from clipmk.evaluate.prompt_sets import (
    PAPER_PROMPT,
    SHORT_PROMPT,
    class_embeddings,
    fill_prompt,
    matched_random_descriptors,
    nearest_classes,
    neighbour_descriptors,
    prompt_that_fits,
    random_words,
)
from clipmk.evaluate.samples import Sample
from clipmk.evaluate.variants import Variant
from clipmk.evaluate.zero_shot import NEAREST, SPARSE, ZeroShot
from clipmk.images.decoder import read_picture
from clipmk.settings import preset
from clipmk.vocabulary.embeddings import load_bank
from fake_text_encoder import FARM, FakeBackbone

VARIANT = Variant("variant", preset("paper"))
BIRDS = dataclasses.replace(FARM, by_class={"hen": ("a red comb",), "cat": ("round eyes",)})


def test_prompt_is_the_papers_to_the_letter() -> None:
    assert fill_prompt(PAPER_PROMPT, "hen", "a red comb") == (
        "how can you identify a hen. Distinctive and physical features describing it is a red comb"
    )
    assert fill_prompt("{class}: {d}", "{d}", "{class}") == "{d}: {class}"


def test_prompt_is_short_where_the_context_cuts_it() -> None:
    assert prompt_that_fits(FakeBackbone(), FARM) == SHORT_PROMPT  # 40 characters


def test_prompt_is_the_papers_where_the_context_holds_it() -> None:
    class Long(FakeBackbone):
        def encode_texts(self, texts: Any, **_: Any) -> torch.Tensor:
            return torch.tensor([[float(hash(text) % 1_000_003), 1.0] for text in texts])

    assert prompt_that_fits(Long(), FARM) == PAPER_PROMPT


def test_nearest_classes_are_the_two_of_highest_cosine_and_never_the_class_itself() -> None:
    classes = normalize(torch.from_numpy(np.random.default_rng(0).standard_normal((7, 5))), dim=-1)
    found = nearest_classes(classes)
    for y in range(7):
        cosines = {k: float(classes[y] @ classes[k]) for k in range(7) if k != y}
        assert found[y] == sorted(cosines, key=lambda k: -cosines[k])[:2]
    assert nearest_classes(classes[:2]) == [[1], [0]]
    assert nearest_classes(classes[:1]) == [[]]


def test_a_class_gets_what_was_found_on_its_neighbours_images() -> None:
    found = {0: [[5, 2], [2, 9]], 1: [[7]], 3: [[1, 5]]}
    assert neighbour_descriptors(found, [[1, 2], [0, 3], [0, 1], [2, 2]]) == [[7], [1, 2, 5, 9], [2, 5, 7, 9], []]


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_random_descriptors_match_in_number_and_length_and_avoid_the_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 4, size=30).tolist()
    own = sorted(rng.choice(30, size=6, replace=False).tolist())
    others = [i for i in range(30) if i not in own]
    chosen = sorted(rng.choice(others, size=8, replace=False).tolist())
    drawn = matched_random_descriptors(chosen, lengths=lengths, without=own, rng=rng)
    assert Counter(lengths[i] for i in drawn) == Counter(lengths[i] for i in chosen)
    assert len(set(drawn)) == len(drawn)
    assert not set(drawn) & set(own)


def test_random_descriptors_come_from_the_whole_vocabulary() -> None:
    rng = np.random.default_rng(0)
    drawn = {i for _ in range(200) for i in matched_random_descriptors([0, 1], lengths=[2] * 10, without=[9], rng=rng)}
    assert drawn == set(range(9))


def test_random_words_keep_the_number_of_words_and_depend_on_the_seed() -> None:
    texts = random_words(FARM.descriptors, seed=3)
    assert [len(t.split()) for t in texts] == [len(t.split()) for t in FARM.descriptors]
    assert {w for t in texts for w in t.split()} <= {w for t in FARM.descriptors for w in t.split()}
    assert texts == random_words(FARM.descriptors, seed=3)
    assert texts != random_words(FARM.descriptors, seed=4)


def test_class_embeddings_are_normalised_means_of_prompts_and_empty_sets_fall_back() -> None:
    backbone = FakeBackbone()
    variants = {"one": [["a", "b"], [], ["c"]], "two": [["b"], ["a", "c"], []]}
    fallback = [["x", "y"], ["y"], ["z", "x"]]
    made = class_embeddings(backbone, lambda y, d: f"{y} with {d}", variants, fallback=fallback)
    for name, sets in variants.items():
        for y in range(3):
            texts = [f"{y} with {d}" for d in sets[y]] or fallback[y]
            rows = [backbone.encode_texts([text])[0].double() for text in texts]
            mean = sum(rows[1:], rows[0]) / len(rows)
            torch.testing.assert_close(made[name][y], mean / mean.norm(), atol=1e-6, rtol=0)


def test_texts_in_several_sets_are_encoded_once() -> None:
    backbone = FakeBackbone()
    variants = {"one": [["a", "b"]], "two": [["b", "c"]], "three": [["c", "a"]]}
    class_embeddings(backbone, lambda _, d: d, variants, fallback=[["x"]])
    assert [sorted(texts) for texts in backbone.asked] == [["a", "b", "c"]]


class MadeUp:
    """A zero-shot measure on made-up embeddings: three classes, four descriptors."""

    def __init__(self, images: int, *, seed: int = 0) -> None:
        self.backbone = FakeBackbone()
        bank = load_bank(self.backbone, BIRDS, cache=False)
        self.explainer: Any = SimpleNamespace(backbone=self.backbone, vocabulary=BIRDS, bank=bank)
        self.measure = ZeroShot(self.explainer, [VARIANT], seed=seed)
        rng = np.random.default_rng(seed)
        self.labels = [int(i) for i in rng.integers(3, size=images)]
        self.embeddings = normalize(torch.from_numpy(rng.standard_normal((images, 16))).float(), dim=-1)
        self.picks = [[int(i)] for i in rng.integers(4, size=images)]
        blank = read_picture(np.zeros((32, 32, 3), dtype=np.uint8))
        for index, label in enumerate(self.labels):
            result: Any = SimpleNamespace(
                image=SimpleNamespace(embedding=self.embeddings[index]),
                vision=SimpleNamespace(top_descriptors=[[self.picks[index][0], 99]]),
            )
            self.measure.add(Sample(index, blank, BIRDS.classes[label], None), {VARIANT: result})


def own(name: str) -> list[str]:
    return list(BIRDS.by_class.get(name, ()))


def rightly(made: MadeUp, sets: list[list[str]]) -> list[float]:
    """Plain loop: the class whose mean prompt embedding is nearest, for each image."""
    rows = []
    for name, descriptors in zip(BIRDS.classes, sets, strict=True):
        texts = [f"a photo of a {name} with {d}" for d in descriptors] or [t.format(name) for t in BIRDS.templates]
        mean = torch.stack([made.backbone.encode_texts([t])[0].double() for t in texts]).mean(0)
        rows.append(mean / mean.norm())
    return [
        float(max(range(3), key=lambda y: float(image.double() @ rows[y])) == label)
        for image, label in zip(made.embeddings, made.labels, strict=True)
    ]


def test_gain_and_its_halves_are_those_of_a_plain_loop() -> None:
    made = MadeUp(40)
    rows = {row.name: row.values for row in made.measure.finish("made up")}
    assert set(rows) == {f"{s}: {m}" for s in ("variant", NEAREST, SPARSE) for m in ("transductive", "held out")}
    neighbours = nearest_classes(made.explainer.bank.classes)
    seen: Counter[int] = Counter()
    halves = []
    for label in made.labels:
        halves.append(seen[label] % 2)
        seen[label] += 1

    def sets(given_halves: set[int]) -> list[list[str]]:
        texts = []
        for y, name in enumerate(BIRDS.classes):
            found = {
                BIRDS.descriptors[p[0]]
                for p, label, half in zip(made.picks, made.labels, halves, strict=True)
                if label in neighbours[y] and half in given_halves
            }
            texts.append(own(name) + [d for d in BIRDS.descriptors if d in found and d not in own(name)])
        return texts

    before = rightly(made, [own(name) for name in BIRDS.classes])
    after = rightly(made, sets({0, 1}))
    values = rows["variant: transductive"]
    assert values["before"].mean == pytest.approx(np.mean(before))
    assert values["after"].mean == pytest.approx(np.mean(after))
    assert values["gain"].mean == pytest.approx(np.mean(after) - np.mean(before))
    other = {0: rightly(made, sets({1})), 1: rightly(made, sets({0}))}
    held_out = [other[half][i] for i, half in enumerate(halves)]
    values = rows["variant: held out"]
    assert values["after"].mean == pytest.approx(np.mean(held_out))
    assert values["after"].count == 40
    added = [len(sets({0, 1})[label]) - len(own(BIRDS.classes[label])) for label in made.labels]
    assert rows["variant: transductive"]["added"].mean == pytest.approx(np.mean(added))


def test_differences_are_paired_over_images() -> None:
    values = {row.name: row.values for row in MadeUp(40).measure.finish("made up")}["variant: transductive"]
    for name, (left, right) in {
        "gain": ("after", "before"),
        "random_gain": ("random", "before"),
        "words_gain": ("words", "before"),
        "over_random": ("after", "random"),
        "over_words": ("after", "words"),
    }.items():
        assert values[name].mean == pytest.approx(values[left].mean - values[right].mean)
        unpaired = (values[left].high - values[left].low) + (values[right].high - values[right].low)
        assert values[name].high - values[name].low <= unpaired


def test_intervals_are_over_classes_and_the_draws_of_a_control() -> None:
    made = MadeUp(40)
    columns: list[dict[str, np.ndarray]] = []
    values = made.measure._values
    made.measure._values = lambda *args: columns.append(values(*args)) or columns[-1]
    rows = {row.name: row.values for row in made.measure.finish("made up")}["variant: held out"]
    halves = [one for one in columns if one["random"].shape[1] < 40][:2]
    labels = np.concatenate([one["class"][0] for one in halves])
    assert Counter(labels) == Counter(made.labels)
    for name in ("gain", "over_random"):
        joined = np.concatenate([one[name] for one in halves], axis=1)
        assert joined.shape == (1 if name == "gain" else zero_shot.RANDOM_DRAWS, 40)
        assert rows[name] == clustered_interval(joined, labels.astype(int), seed=0)


def test_the_seed_changes_only_the_controls() -> None:
    one, same = MadeUp(30).measure.finish("d"), MadeUp(30).measure.finish("d")
    assert one == same
    made = MadeUp(30)
    made.measure.seed = 5
    other = {row.name: row.values for row in made.measure.finish("d")}["variant: transductive"]
    first = {row.name: row.values for row in one}["variant: transductive"]
    assert other["gain"].mean == first["gain"].mean
    assert other["random"].mean != first["random"].mean or other["words"].mean != first["words"].mean


def test_sparse_descriptors_are_what_the_images_are_made_of() -> None:
    bank = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    mixed = np.stack([3 * bank[2] + 2 * bank[7], bank[5] + 2 * bank[11], 2 * bank[1] + bank[14]])
    images = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    assert zero_shot.sparse_descriptors(images, bank, count=2) == [[2, 7], [11, 5], [1, 14]]
    assert zero_shot.sparse_descriptors(images[:1], bank, count=2) == [[]]  # one image less its own mean is nothing


def test_descriptors_of_one_half_do_not_depend_on_the_other() -> None:
    made = MadeUp(30)
    before = made.measure._decomposed(frozenset({0}))
    made.measure._embeddings = [
        embedding if half == 0 else -embedding
        for embedding, half in zip(made.measure._embeddings, made.measure._halves, strict=True)
    ]
    assert made.measure._decomposed(frozenset({0})) == before
    assert made.measure._decomposed(frozenset({1})) != made.measure._decomposed(frozenset({0, 1}))
    assert all(bool(found) <= (half == 0) for found, half in zip(before, made.measure._halves, strict=True))
    assert any(before)


def test_a_data_set_without_images_has_no_rows() -> None:
    assert MadeUp(0).measure.finish("none") == []


def test_images_without_labels_are_refused() -> None:
    blank = read_picture(np.zeros((32, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="labelled"):
        MadeUp(1).measure.add(Sample(0, blank, None, None), {})


def test_notes_say_that_it_is_transductive() -> None:
    text = " ".join(MadeUp(0).measure.notes)
    assert "transductive: found with the images and labels that are classified" in text
    assert SHORT_PROMPT in text
