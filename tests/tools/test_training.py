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
from zoo import batches, bpe, captions, data, training
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
EVERY = dataclasses.replace(
    TINY, batch=8, every_descriptor=True, pairs=8, grey=0.3, decay=0.5, average=0.9, prompted=0.2
)
ALONE = dataclasses.replace(EVERY, close_ups=0.3, collages=0.3, prompted=0.0, grey=0.0)


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
@pytest.mark.parametrize("recipe", [TINY, EVERY, ALONE])
def test_batches_have_the_size_asked_for(scenes: data.Scenes, recipe: Recipe, side: int) -> None:
    batch = batches.draw_batch(np.random.default_rng(0), scenes, NAMES, recipe, side)
    whole = batches.draw_batch(np.random.default_rng(0), scenes, NAMES, recipe, 64)
    assert batch.images.shape == (recipe.batch, side, side, 3)
    assert batch.images.mean() == pytest.approx(whole.images.mean(), abs=1)
    if side <= 64:
        assert [block.texts for block in batch.blocks] == [block.texts for block in whole.blocks]


def test_every_descriptor_that_an_image_shows_is_a_true_caption_of_it_and_all_others_are_false() -> None:
    """Rows of images in colour and without marks are those of the scenes' own facts."""
    count, rng = 40, np.random.default_rng(3)
    parts = np.full((count, data.MAX_PARTS), -1)
    for row in parts:
        row[:4] = rng.choice(len(NAMES[1]), 4, replace=False)
    boxes = np.tile(np.array([8, 8, 40, 40]), (count, data.MAX_PARTS, 1))
    images = np.broadcast_to(rng.integers(0, 255, (count, 1, 1, 3), dtype=np.uint8), (count, 64, 64, 3))
    made = data.Scenes(images, rng.integers(0, len(NAMES[0]), count), parts, boxes)
    recipe = dataclasses.replace(EVERY, batch=64, pairs=30, scenes=count)
    for step in range(5):
        batch = batches.draw_batch(np.random.default_rng(step), made, NAMES, recipe, 64)
        described, classed = batch.blocks
        assert described.weight + classed.weight == pytest.approx(1)
        counts = described.true.sum(1)
        assert set(counts.tolist()) <= {1, 4}  # a marked image shows its part only
        assert described.known.all()
        grey = np.setdiff1d(np.arange(64), described.rows)
        marked = np.setdiff1d(np.arange(64), classed.rows)
        assert (counts == 1).sum() == len(marked)
        assert not np.ptp(batch.images[grey].astype(int), axis=3).any()
        assert len(set(described.texts)) == len(described.texts) < len(NAMES[1])
        names, pairs = classed.true[:, : len(NAMES[0])], classed.true[:, len(NAMES[0]) :]
        assert (names.sum(1) == 1).all()
        assert classed.known[:, : len(NAMES[0])].all()
        assert pairs.any(0).all()
        in_grey = np.isin(classed.rows, grey)
        assert not pairs[in_grey].any()
        assert not classed.known[in_grey].all()
        assert classed.known[~in_grey].all()


def test_close_ups_and_collages_are_captioned_by_their_parts_and_the_rest_of_their_scenes_is_not_known() -> None:
    """Scene n is of one colour and shows descriptors 3n to 3n + 2, so a tile's colour tells where it is from."""
    count = 12
    parts = np.full((count, data.MAX_PARTS), -1)
    parts[:, :3] = np.arange(3 * count).reshape(count, 3)
    boxes = np.tile(np.array([8, 20, 30, 50]), (count, data.MAX_PARTS, 1))
    tints = np.arange(count) * 20
    images = np.broadcast_to(tints[:, None, None, None].astype(np.uint8), (count, 64, 64, 3))
    made = data.Scenes(images, np.arange(count), parts, boxes)
    rng, rows = np.random.default_rng(1), np.arange(count)
    shown, known = made.shows(rows, 3 * count), np.ones((count, 3 * count), bool)
    facts, changed = shown.copy(), images.copy()
    close, collage = rows % 3 == 1, rows % 3 == 2
    batches._show_parts_alone(rng, made, rows, changed, shown, known, close, collage)
    for i in rows:
        tiles = changed[i].reshape(2, 32, 2, 32, 3).swapaxes(1, 2).reshape(4, -1)
        assert not np.ptp(tiles, axis=1).any()
        sources = {int(tint) // 20 for tint in tiles[:, 0]}
        assert (len(sources) > 1) == (i % 3 == 2)
        assert {int(d) // 3 for d in np.flatnonzero(shown[i])} == sources
        assert (known[i] == (shown[i] | ~facts[sorted(sources)].any(0))).all() or i % 3 == 0
        if i % 3 == 0:
            assert known[i].all()
            assert (shown[i] == facts[i]).all()
        elif i % 3 == 1:
            assert shown[i].sum() == 1
    recipe = dataclasses.replace(ALONE, batch=64, scenes=count)
    described, classed = batches.draw_batch(rng, made, (NAMES[0], NAMES[1][: 3 * count]), recipe, 64).blocks
    alone = np.setdiff1d(described.rows, classed.rows)
    assert 20 < len(alone) < 58
    assert not described.known[alone].all()
    assert described.known[classed.rows].all()


def test_at_most_a_twentieth_of_the_images_carries_a_mark() -> None:
    assert max(recipe.prompted for recipe in ZOO.values()) <= 0.05
    count = 4_000
    parts = np.zeros((count, data.MAX_PARTS), np.int64)
    plain = data.Scenes(
        np.zeros((count, 16, 16, 3), np.uint8),
        np.zeros(count, np.int64),
        parts,
        np.tile(np.array([2, 2, 12, 12]), (count, data.MAX_PARTS, 1)),
    )
    for recipe in (ZOO["vit-s8"], ZOO["rn-parts"]):
        wide = dataclasses.replace(recipe, batch=count, pairs=0)
        images = batches.draw_batch(np.random.default_rng(0), plain, NAMES, wide, 16).images.astype(int)
        red = (images[..., 0] > images[..., 1] + 150).any((1, 2)).mean()
        assert red == pytest.approx(recipe.prompted, abs=0.01)


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
        (block,) = batches.draw_batch(np.random.default_rng(step), scenes, NAMES, TINY, 64).blocks
        assert block.true.any(1).all()
        assert block.known.all()
        assert len(set(block.texts)) == len(block.texts) <= TINY.texts
        assert block.true.shape == (TINY.batch, len(block.texts))


def test_loss_is_the_multi_positive_info_nce_of_its_equation() -> None:
    rng = np.random.default_rng(0)
    scores, true, known = rng.normal(0, 2, (5, 7)), rng.random((5, 7)) > 0.6, rng.random((5, 7)) > 0.2
    true[:, 0] = True
    true[:, 1] = False  # a caption that is true of no image
    known |= true

    def one_way(s: np.ndarray, positive: np.ndarray, sure: np.ndarray) -> float:
        rows = []
        for row, mask, seen in zip(s, positive, sure, strict=True):
            if mask.any():
                negatives = sum(math.exp(v) for v in row[~mask & seen])
                rows.append(np.mean([-math.log(math.exp(v) / (math.exp(v) + negatives)) for v in row[mask]]))
        return float(np.mean(rows))

    expected = 0.5 * (one_way(scores, true, known) + one_way(scores.T, true.T, known.T))
    found = training.contrastive_loss(*(torch.from_numpy(values) for values in (scores, true, known)))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_rate_falls_in_a_cosine_or_in_a_straight_line_at_the_end() -> None:
    cosine = dataclasses.replace(TINY, steps=100, warmup=10, learning_rate=1.0)
    rates = [training.learning_rate(cosine, step) for step in range(101)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert (rates[55], rates[100]) == pytest.approx((0.5, 0.0))
    late = dataclasses.replace(cosine, decay=0.2)
    rates = [training.learning_rate(late, step) for step in range(101)]
    assert set(rates[10:80]) == {1.0}
    assert rates[80:] == pytest.approx(np.linspace(1, 0, 21))


def test_a_resnet_takes_smaller_images_with_averaged_positions(tokenizer: SimpleTokenizer) -> None:
    visual = training.build(ZOO["rn-xs"], tokenizer.vocab_size).visual.eval()
    with torch.inference_mode():
        whole = torch.randn(2, 3, 128, 128)
        torch.testing.assert_close(training.encode_image(visual, whole), visual(whole))
        visual.attnpool.positional_embedding[1:] = visual.attnpool.positional_embedding[1]
        small = training.encode_image(visual, torch.randn(2, 3, 64, 64))
        assert small.shape == (2, ZOO["rn-xs"].embed_dim)


def test_trimmed_text_is_the_untrimmed_text(tokenizer: SimpleTokenizer) -> None:
    model = training.build(ZOO["vit-s8"], tokenizer.vocab_size).eval()
    tokens = tokenizer(["a fox", "a photo showing round black wheels"])
    with torch.inference_mode():
        torch.testing.assert_close(training.encode_text(model, tokens), model.encode_text(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("recipe", [TINY, EVERY, ALONE])
def test_stopped_training_goes_on_to_the_same_weights(
    scenes: data.Scenes, tokenizer: SimpleTokenizer, tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    whole = training.train(recipe, scenes, NAMES, tokenizer, tmp_path / "whole.pt", lambda _: None)
    # The first half under the whole recipe's learning rates: stop by an exception after two steps, as a kill would.
    lines: list[str] = []

    class Stopped(Exception):  # noqa: N818 - a signal, not an error
        pass

    def save_and_stop(run: training.Run) -> None:
        real_save(run)
        raise Stopped

    real_save = training.Run.save
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_EVERY", 2)
        patch.setattr(training.Run, "save", save_and_stop)
        with pytest.raises(Stopped):
            training.train(recipe, scenes, NAMES, tokenizer, tmp_path / "half.pt", lines.append)
    assert torch.load(tmp_path / "half.pt", weights_only=True)["step"] == 2
    resumed = training.train(recipe, scenes, NAMES, tokenizer, tmp_path / "half.pt", lines.append)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(
        training.build(dataclasses.replace(TINY, seed=1), tokenizer.vocab_size).visual.proj,
        training.build(TINY, tokenizer.vocab_size).visual.proj,
    )


def test_the_average_follows_the_weights_and_counts_of_batches() -> None:
    model = training.build(ZOO["rn-xs"], 917)
    averaged = training.build(dataclasses.replace(ZOO["rn-xs"], seed=1), 917)
    before = averaged.token_embedding.weight.clone()
    model.visual.bn1.num_batches_tracked += 7
    training.follow(averaged, model, 0.75)
    torch.testing.assert_close(averaged.token_embedding.weight, 0.75 * before + 0.25 * model.token_embedding.weight)
    assert averaged.visual.bn1.num_batches_tracked == 7
