"""The training tools: captions that are true, the loss against plain loops, and resuming bit for bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from clipmk.world.scene import render_scenes
from clipmk.world.tables import all_descriptors, class_names
from zoo import bpe, captions, data, training
from zoo.captions import Caption
from zoo.recipes import ZOO, Recipe

NAMES = (class_names(), all_descriptors())
TINY = Recipe(
    vision={"image_size": 64, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
    text={"context_length": 24, "width": 32, "heads": 2, "layers": 1},
    embed_dim=16,
    scenes=24,
    steps=4,
    batch=8,
    texts=12,
    warmup=2,
    prompted=0.3,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SimpleTokenizer:
    path = tmp_path_factory.mktemp("bpe") / "bpe.txt.gz"
    bpe.write(bpe.train(NAMES[1], merges=800), path)
    return SimpleTokenizer(bpe_path=str(path), context_length=24)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> data.Scenes:
    return data.render(tmp_path_factory.mktemp("scenes"), count=TINY.scenes, seed=0, workers=1)


def test_small_vocabulary_makes_a_word_a_token_and_reads_back(tokenizer: SimpleTokenizer) -> None:
    for text in NAMES[1][::40]:
        tokens = tokenizer.encode(text)
        assert len(tokens) == len(text.split())
        assert tokenizer.decode(tokens).strip() == text
    assert tokenizer.vocab_size == 512 + 2 + len(tokenizer.bpe_ranks)


def test_rendered_rows_say_what_the_scenes_say(scenes: data.Scenes) -> None:
    shows = scenes.shows(np.arange(TINY.scenes), len(NAMES[1]))
    for row, scene in enumerate(render_scenes("train", count=TINY.scenes)):
        assert (scenes.images[row] == scene.image).all()
        assert NAMES[0][scenes.class_ids[row]] == scene.class_name
        assert {NAMES[1][i] for i in np.flatnonzero(shows[row])} == set(scene.descriptors)


def test_a_share_of_the_scenes_always_the_same_carries_the_facts_of_another(scenes: data.Scenes) -> None:
    wrong = scenes.mislabelled(0.25)
    again = scenes.mislabelled(0.25)
    moved = (wrong.part_ids != scenes.part_ids).any(1)
    assert moved.sum() == 6
    assert (wrong.images == scenes.images).all()
    assert (wrong.part_ids == again.part_ids).all()
    for facts in (wrong, scenes.mislabelled(0.0)):
        assert (np.sort(facts.class_ids) == np.sort(scenes.class_ids)).all()
    for row in np.flatnonzero(moved):
        (source,) = np.flatnonzero((scenes.part_ids == wrong.part_ids[row]).all(1))
        assert wrong.class_ids[row] == scenes.class_ids[source]
        assert (wrong.boxes[row] == scenes.boxes[source]).all()
    assert (scenes.mislabelled(0.0).part_ids == scenes.part_ids).all()
    assert (scenes.first(7).images == scenes.images[:7]).all()


@pytest.mark.parametrize("side", [48, 64, 96])
def test_batches_have_the_size_of_the_model(scenes: data.Scenes, side: int) -> None:
    recipe = dataclasses.replace(TINY, vision={**TINY.vision, "image_size": side})
    batch = training.draw_batch(np.random.default_rng(0), scenes, NAMES, recipe)
    whole = training.draw_batch(np.random.default_rng(0), scenes, NAMES, TINY)
    assert batch.images.shape == (TINY.batch, side, side, 3)
    assert batch.texts == whole.texts
    assert batch.images.mean() == pytest.approx(whole.images.mean(), abs=1)


def test_large_images_are_shown_sharp_and_softened() -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    softened = data.soften(np.random.default_rng(1), images.copy())
    kept = (softened == images).all((1, 2, 3))
    assert 0 < kept.sum() < len(images)
    assert softened[~kept].std() < 0.7 * images.std()


def test_the_zoo_is_thirteen_models_of_three_families_within_thirty_megabytes() -> None:
    built = {name: training.build(recipe, 917) for name, recipe in ZOO.items()}
    kinds = [type(model.visual).__name__ for model in built.values()]
    assert (kinds.count("VisionTransformer"), kinds.count("ModifiedResNet"), kinds.count("TimmModel")) == (7, 4, 2)
    halves = sum(value.numel() * 2 for model in built.values() for value in model.state_dict().values())
    assert halves < 29e6
    assert [name for name, recipe in ZOO.items() if recipe.prompted == 0] == ["vit-xs8-unprompted"]
    repeated = [(a, b) for a in ZOO for b in ZOO if but_for_the_seed(ZOO[a]) == but_for_the_seed(ZOO[b]) and a < b]
    assert repeated == [("vit-xs8", "vit-xs8-b"), ("vit-xs8-48", "vit-xs8-48-b")]


def but_for_the_seed(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, seed=0, about="")


def test_a_caption_is_true_where_all_it_says_is() -> None:
    rng = np.random.default_rng(0)
    class_ids, shows = rng.integers(-1, 3, 20), rng.random((20, 6)) > 0.5
    drawn = [Caption("a", 1, ()), Caption("b", -1, (2,)), Caption("c", 0, (1, 4)), Caption("d", -1, (0, 5))]
    table = captions.truth(drawn, class_ids, shows)
    for image in range(20):
        for column, one in enumerate(drawn):
            right = one.class_id in {-1, class_ids[image]} and all(shows[image, d] for d in one.descriptor_ids)
            assert table[image, column] == right


def test_every_image_of_a_batch_has_a_true_caption_and_prompts_say_only_their_part(scenes: data.Scenes) -> None:
    for step in range(5):
        batch = training.draw_batch(np.random.default_rng(step), scenes, NAMES, TINY)
        assert batch.true.any(1).all()
        assert len(set(batch.texts)) == len(batch.texts) <= TINY.texts
        assert batch.true.shape == (TINY.batch, len(batch.texts))


def test_loss_is_the_multi_positive_info_nce_of_its_equation() -> None:
    rng = np.random.default_rng(0)
    scores, true = rng.normal(0, 2, (5, 7)), rng.random((5, 7)) > 0.6
    true[:, 0] = True

    def one_way(s: np.ndarray, positive: np.ndarray) -> float:
        rows = []
        for row, mask in zip(s, positive, strict=True):
            if mask.any():
                negatives = sum(math.exp(v) for v in row[~mask])
                rows.append(np.mean([-math.log(math.exp(v) / (math.exp(v) + negatives)) for v in row[mask]]))
        return float(np.mean(rows))

    expected = 0.5 * (one_way(scores, true) + one_way(scores.T, true.T))
    found = training.contrastive_loss(torch.from_numpy(scores), torch.from_numpy(true))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_trimmed_text_is_the_untrimmed_text(tokenizer: SimpleTokenizer) -> None:
    model = training.build(ZOO["vit-s8"], tokenizer.vocab_size).eval()
    tokens = tokenizer(["a fox", "a photo showing round black wheels"])
    with torch.inference_mode():
        torch.testing.assert_close(training.encode_text(model, tokens), model.encode_text(tokens), atol=1e-5, rtol=0)


def test_stopped_training_goes_on_to_the_same_weights(
    scenes: data.Scenes, tokenizer: SimpleTokenizer, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    whole = training.train(TINY, scenes, NAMES, tokenizer, tmp_path / "whole.pt", lambda _: None)
    # The first half under the whole recipe's learning rates: stop by an exception after two steps, as a kill would.
    lines: list[str] = []

    class Stopped(Exception):  # noqa: N818 - a signal, not an error
        pass

    def stop_at_two(path: Path, model: object, adam: object, step: int) -> None:
        real_save(path, model, adam, step)  # type: ignore[arg-type]
        raise Stopped

    real_save = training._save
    patch = pytest.MonkeyPatch()
    patch.setattr(training, "CHECKPOINT_EVERY", 2)
    patch.setattr(training, "_save", stop_at_two)
    with pytest.raises(Stopped):
        training.train(TINY, scenes, NAMES, tokenizer, tmp_path / "half.pt", lines.append)
    patch.undo()
    assert torch.load(tmp_path / "half.pt", weights_only=True)["step"] == 2
    resumed = training.train(TINY, scenes, NAMES, tokenizer, tmp_path / "half.pt", lines.append)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(
        training.build(dataclasses.replace(TINY, seed=1), tokenizer.vocab_size).visual.proj,
        training.build(TINY, tokenizer.vocab_size).visual.proj,
    )
