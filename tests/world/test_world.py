from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from filelock import FileLock

import make_world_vocabulary
from clipmk.errors import ClipmkError, UsageError
from clipmk.images.masks import rle_decode
from clipmk.records import Rle
from clipmk.system import locations
from clipmk.system.locations import json_asset
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world import render
from clipmk.world.combinations import (
    atypical_looks,
    body_of,
    trained,
    typical_descriptors,
    typical_probabilities,
    undrawn,
)
from clipmk.world.conditions import ALL_SPLITS, conditions_of
from clipmk.world.export import export_scenes
from clipmk.world.sampling import Plan, plan_scene
from clipmk.world.scene import Scene, redraw_parts, render_scene, render_scenes
from clipmk.world.shapes import shape
from clipmk.world.tables import all_descriptors, class_names, classes, colours, grammar

COUNT = 150
CAPTIONS = {"train": "411966deed6d", "val": "74f303b8d9df", "test": "a61484b4e223", "counterfactual": "31b5e0ef0ca9"}
"""Digests of the captions of the first 300 scenes; a change here means new models."""


@pytest.fixture(scope="module")
def few() -> dict[str, list[Scene]]:
    return {split: list(render_scenes(split, count=COUNT, seed=11)) for split in ALL_SPLITS}


@pytest.fixture(scope="module")
def plans() -> dict[str, list[Plan]]:
    return {split: [plan_scene(split, k, seed=5)[0] for k in range(6000)] for split in ALL_SPLITS}


def fingerprint(scene: Scene) -> str:
    parts = b"".join(part.descriptor.encode() + part.mask_pixels.tobytes() for part in scene.parts)
    return hashlib.sha256(scene.image.tobytes() + scene.object_mask.tobytes() + parts).hexdigest()


def halves(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A 512-pixel mask seen at 64 pixels."""
    return np.asarray(cv2.resize(masks.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) >= 0.5)


# redrawn scenes


@pytest.mark.parametrize("split", ["test", "counterfactual", "train"])
@pytest.mark.parametrize("size", [64, 160])
def test_a_changed_part_leaves_every_pixel_elsewhere_as_it_was(split: str, size: int) -> None:
    for scene in render_scenes(split, count=12, size=size, seed=3):
        plan, rng = plan_scene(split, scene.index, seed=3)
        grain = np.random.default_rng([3, ALL_SPLITS.index(split), scene.index])
        labels = render._paint_labels(render.draw(plan, rng, grain, conditions_of(split)), 2 * size) & render.PART_BITS
        shown = {placed.descriptor: k for k, placed in enumerate(plan.placed, start=1)}
        for part, without, recoloured in zip(scene.parts, *redraw_parts(scene), strict=True):
            touched = (labels == shown[part.descriptor]).reshape(size, 2, size, 2).any(axis=(1, 3))
            for image in (without, recoloured):
                assert image.shape == scene.image.shape
                assert np.array_equal(image[~touched], scene.image[~touched])
            changed = (without != scene.image).any(axis=2)[part.mask_pixels]
            assert changed.mean() > 0.9


def test_on_hard_scenes_blur_and_noise_stay_the_same_but_beside_the_changed_part() -> None:
    for scene in render_scenes("hard", count=12, size=64, seed=3):
        for part, without in zip(scene.parts, redraw_parts(scene)[0], strict=True):
            near = cv2.dilate(part.mask_pixels.astype(np.uint8), np.ones((9, 9))) > 0
            changed = (without != scene.image).any(axis=2)
            assert changed[~near].mean() < 0.005
            assert changed[part.mask_pixels].mean() > 0.9


def test_what_a_removed_part_hid_is_seen() -> None:
    """Removing the topmost part of a scene shows what the scene painted before it had: other parts, and the ground."""
    scene = render_scene("counterfactual", 5, size=160, seed=0)
    alone, _ = redraw_parts(scene)
    for part, image in zip(scene.parts, alone, strict=True):
        for other, elsewhere in zip(scene.parts, alone, strict=True):
            if other is not part:  # a part shows in every picture but its own
                assert (image[other.mask_pixels] == scene.image[other.mask_pixels]).mean() > 0.8
                assert (elsewhere[other.mask_pixels] == scene.image[other.mask_pixels]).mean() < 0.2


def test_a_recoloured_part_keeps_its_shape_and_has_another_colour(few: dict[str, list[Scene]]) -> None:
    for scene in few["test"][:20]:
        for part, recoloured in zip(scene.parts, redraw_parts(scene)[1], strict=True):
            middle = cv2.erode(part.mask_pixels.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            if part.descriptor.split()[-3] in {"striped", "spotted", "checkered"} or not middle.any():
                continue
            before, after = (np.median(image[middle], axis=0) for image in (scene.image, recoloured))
            assert np.abs(before - after).max() > 30, part.descriptor


# the vocabulary and the tables


def test_there_are_enough_classes_and_descriptors() -> None:
    assert len(class_names()) >= 24
    assert 500 <= len(all_descriptors()) <= 650
    assert len(set(all_descriptors())) == len(all_descriptors())


def test_every_class_has_three_to_seven_parts_one_of_them_a_body_and_no_kind_twice() -> None:
    for parts in classes().values():
        assert 3 <= len(parts) <= 7
        assert [part.role for part in parts].count("body") == 1
        assert len({part.noun for part in parts}) == len(parts)


def test_no_descriptor_contains_a_class_name() -> None:
    assert not [(name, text) for name in class_names() for text in all_descriptors() if name in text]


def test_most_kinds_of_parts_are_shared_or_borrowed_between_classes() -> None:
    owners = {noun: sum(any(part.noun == noun for part in parts) for parts in classes().values()) for noun in grammar()}
    assert min(owners.values()) >= 1
    assert sum(count >= 2 for count in owners.values()) >= 25


def test_every_shape_fits_its_unit_box_except_for_line_widths_and_is_used() -> None:
    used = {outline.shape for noun in grammar().values() for outline in noun.outlines.values()}
    used |= {part.shape for parts in classes().values() for part in parts if part.shape}
    assert used == set(json_asset("world/shapes.json"))
    for name in json_asset("world/shapes.json"):
        assert all(np.abs(piece).max() <= 1.4 for piece in shape(name)), name


def test_the_tables_use_known_roles_looks_and_colours_only() -> None:
    for name, parts in classes().items():
        assert [part.role for part in parts].count("body") == 1, name
        for part in parts:
            assert part.role in {"body", "top", "bottom", "front", "back", "face", "sides"}, name
            assert {look for look, _ in part.looks} <= set(grammar()[part.noun].looks()), (name, part.noun)
    assert all(set(noun.colours) <= set(colours()) for noun in grammar().values())


def test_the_shipped_vocabulary_is_the_one_generated_from_the_tables() -> None:
    shipped = locations.assets_dir() / "vocabularies" / "world.json"
    assert shipped.read_text(encoding="utf-8") == make_world_vocabulary.text()
    assert load_vocabulary("world").sha256 == "ad3c1b4e999dec8db66c9bafa246046a2fae35bd36df8500cfedffd0a3f84b78"


def test_some_descriptors_are_never_drawn_and_none_of_them_is_usual() -> None:
    share = len(undrawn()) / len(all_descriptors())
    assert 0.14 <= share <= 0.22
    usual = {text for name in class_names() for text in typical_descriptors(name)}
    assert not usual & undrawn()


# scenes


@pytest.mark.parametrize("split", ALL_SPLITS)
def test_the_same_arguments_give_the_same_bytes(split: str) -> None:
    first = [fingerprint(render_scene(split, k, seed=3)) for k in range(10)]
    again = [fingerprint(render_scene(split, k, seed=3)) for k in reversed(range(10))][::-1]
    assert first == again
    assert len(set(first)) == 10


def test_splits_and_seeds_show_different_scenes() -> None:
    prints = {fingerprint(render_scene(split, 4, seed=seed)) for split in ALL_SPLITS for seed in range(3)}
    assert len(prints) == 3 * len(ALL_SPLITS)


@pytest.mark.parametrize(("split", "digest"), CAPTIONS.items())
def test_captions_are_the_ones_the_shipped_models_were_trained_on(split: str, digest: str) -> None:
    drawn = [plan_scene(split, k, seed=0)[0] for k in range(300)]
    text = "\n".join(f"{some.class_name}: {', '.join(placed.descriptor for placed in some.placed)}" for some in drawn)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest


def test_global_random_state_is_neither_read_nor_changed() -> None:
    np.random.seed(0)  # noqa: NPY002
    untouched = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    one = fingerprint(render_scene("train", 9))
    assert np.random.random() == untouched  # noqa: NPY002
    assert fingerprint(render_scene("train", 9)) == one


@pytest.mark.parametrize("split", ["test", "counterfactual", "train", "hard"])
def test_a_scene_is_the_same_at_64_and_at_512_pixels(split: str) -> None:
    overlaps, closeness = [], []
    for k in range(8):
        small, large = render_scene(split, k), render_scene(split, k, size=512)
        assert small.descriptors == large.descriptors
        closeness.append(
            np.abs(cv2.resize(large.image, (64, 64), interpolation=cv2.INTER_AREA) / 255 - small.image / 255)
        )
        for one, other in zip(small.parts, large.parts, strict=True):
            shrunk = halves(other.mask_pixels)
            if one.mask_pixels.sum() >= 60:
                overlaps.append((one.mask_pixels & shrunk).sum() / (one.mask_pixels | shrunk).sum())
    assert np.mean(overlaps) > 0.85
    assert np.mean(closeness) < 0.05


def test_masks_are_disjoint_inside_the_object_and_large_enough(few: dict[str, list[Scene]]) -> None:
    for scene in (scene for some in few.values() for scene in some):
        masks = np.array([part.mask_pixels for part in scene.parts])
        assert scene.image.shape == (64, 64, 3)
        assert scene.image.dtype == np.uint8
        assert masks.dtype == np.bool_
        assert masks.sum(axis=0).max() <= 1
        assert not (masks & ~scene.object_mask).any()
        assert masks.sum(axis=(1, 2)).min() >= 12
        assert scene.object_mask.any()


def test_masks_show_the_colour_that_the_descriptor_names(few: dict[str, list[Scene]]) -> None:
    right = []
    for scene in few["test"]:
        for part in scene.parts:
            modifier, colour = part.descriptor.removeprefix("a ").removeprefix("an ").split()[:2]
            if modifier in ("striped", "spotted", "checkered") or part.mask_pixels.sum() < 100:
                continue
            seen = np.median(scene.image[part.mask_pixels], axis=0)
            nearest = min(colours(), key=lambda word: float(np.square(seen - colours()[word]).sum()))
            right.append(nearest == colour)
    assert len(right) > 200
    assert np.mean(right) > 0.9


def test_parts_are_not_flat_colours(few: dict[str, list[Scene]]) -> None:
    spread = [scene.image[part.mask_pixels].std(axis=0).mean() for scene in few["test"] for part in scene.parts]
    assert np.quantile(spread, 0.05) > 4


def test_descriptors_come_from_the_vocabulary_without_repetition(few: dict[str, list[Scene]]) -> None:
    known = set(all_descriptors())
    for scene in (scene for some in few.values() for scene in some):
        assert set(scene.descriptors) <= known
        assert len(set(scene.descriptors)) == len(scene.descriptors)
        assert len({part.part for part in scene.parts}) == len(scene.parts)


def test_every_class_comes_equally_often(few: dict[str, list[Scene]]) -> None:
    whole = [scene.class_name for scene in few["train"][: len(classes())]]
    assert sorted(whole) == sorted(class_names())
    assert whole != [scene.class_name for scene in few["test"][: len(classes())]]


def test_start_continues_where_count_stopped() -> None:
    later = next(render_scenes("val", count=1, start=7))
    assert fingerprint(later) == fingerprint(render_scene("val", 7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "split 'tset' is unknown; close: 'test'"),
        ({"size": 8}, "size is 8 px, at least 16 needed"),
        ({"index": -1}, "index is -1"),
    ],
)
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render_scene(**{"split": "test", "index": 0, **arguments})  # type: ignore[arg-type]


# typical and atypical


def atypical(some: Plan) -> list[str]:
    usual = typical_probabilities(some.class_name)
    return [placed.descriptor for placed in some.placed if placed.descriptor not in usual]


def absent(some: Plan) -> frozenset[str]:
    """Parts that every typical scene has and this one has not, found without asking the plan."""
    always = {part.noun for part in classes()[some.class_name] if part.chance == 1.0}
    return frozenset(always - {placed.part.noun for placed in some.placed})


def test_test_scenes_are_typical_and_about_a_fifth_of_train_scenes_is_not(plans: dict[str, list[Plan]]) -> None:
    assert {some.kind for some in plans["test"]} == {"typical"}
    assert not any(atypical(some) or absent(some) for some in plans["test"])
    for split in ("train", "val"):
        assert 0.17 < np.mean([some.kind != "typical" for some in plans[split]]) < 0.23
        close = np.mean([some.camera.target is not None for some in plans[split]])
        assert 0.08 < close < 0.12
    for split in ("test", "counterfactual"):
        assert all(some.camera.target is None for some in plans[split])


def test_typical_probabilities_are_the_frequencies_of_typical_scenes(plans: dict[str, list[Plan]]) -> None:
    for name in class_names():
        shown = [{placed.descriptor for placed in some.placed} for some in plans["test"] if some.class_name == name]
        for descriptor, probability in typical_probabilities(name).items():
            share = np.mean([descriptor in scene for scene in shown])
            assert abs(share - probability) < 5 * np.sqrt(0.25 / len(shown)), (name, descriptor)
        assert typical_descriptors(name) == tuple(typical_probabilities(name))


def test_every_counterfactual_scene_departs_from_type_at_least_twice(plans: dict[str, list[Plan]]) -> None:
    for some in plans["counterfactual"]:
        assert len(atypical(some)) + len(absent(some)) >= 2
        assert some.kind != "typical"
        assert any(placed.part is body_of(some.class_name) for placed in some.placed)
    assert {some.kind for some in plans["counterfactual"]} == {"recoloured", "missing", "swapped", "chimera"}


def test_most_visible_descriptors_of_a_counterfactual_scene_are_atypical(few: dict[str, list[Scene]]) -> None:
    shares = [
        np.mean([text not in typical_probabilities(scene.class_name) for text in scene.descriptors])
        for scene in few["counterfactual"]
    ]
    assert np.mean(shares) > 0.5


def test_no_counterfactual_combination_is_ever_seen_in_training(plans: dict[str, list[Plan]]) -> None:
    def combinations(split: str) -> set[tuple[str, str]]:
        return {(some.class_name, text) for some in plans[split] for text in atypical(some)}

    def absences(split: str) -> set[tuple[str, frozenset[str]]]:
        return {(some.class_name, absent(some)) for some in plans[split] if absent(some)}

    for split in ("train", "val", "varied"):
        assert not combinations(split) & combinations("counterfactual")
        assert not absences(split) & absences("counterfactual")
    assert len(combinations("counterfactual")) > 1000
    assert len(absences("counterfactual")) > 100


def test_varied_scenes_mostly_depart_from_type_as_strongly_as_counterfactual_ones(plans: dict[str, list[Plan]]) -> None:
    departing = [some for some in plans["varied"] if some.kind != "typical"]
    assert 0.76 <= len(departing) / len(plans["varied"]) <= 0.84
    assert {some.kind for some in departing} == {"recoloured", "missing", "swapped", "chimera"}
    strong = [len(atypical(some)) + len(absent(some)) for some in departing]
    weak = [len(atypical(some)) + len(absent(some)) for some in plans["train"] if some.kind != "typical"]
    assert np.mean(strong) > np.mean(weak) + 0.5
    close = [some.camera.scale for some in plans["varied"] if some.camera.target is not None]
    assert 0.27 <= len(close) / len(plans["varied"]) <= 0.33
    assert max(close) > 2.9


def test_plans_record_what_is_missing(plans: dict[str, list[Plan]]) -> None:
    assert all(absent(some) == set(some.missing) for split in plans.values() for some in split)


def test_whatever_counterfactual_scenes_draw_is_drawn_in_training(plans: dict[str, list[Plan]]) -> None:
    drawn = {split: {placed.descriptor for some in plans[split] for placed in some.placed} for split in plans}
    assert drawn["counterfactual"] <= trained()
    assert not any(texts & undrawn() for texts in drawn.values())
    in_train_partition = {
        grammar()[noun].phrase(look)
        for name in classes()
        for noun in grammar()
        for look in atypical_looks(name, noun, "train")
    }
    assert drawn["counterfactual"] - drawn["train"] <= in_train_partition
    assert drawn["counterfactual"] <= drawn["varied"]
    missed = len(drawn["counterfactual"] - drawn["train"])
    assert missed <= 0.02 * len(drawn["counterfactual"])


def average_precision(ranked: list[str], true: set[str]) -> float:
    """Mean over true descriptors of the precision at their rank; those not ranked count 0."""
    hits = [k for k, text in enumerate(ranked, start=1) if text in true]
    return sum(found / k for found, k in enumerate(hits, start=1)) / len(true)


def test_class_lookup_explains_test_scenes_and_fails_on_counterfactual_ones(few: dict[str, list[Scene]]) -> None:
    precision = {
        split: np.mean(
            [
                average_precision(list(typical_descriptors(scene.class_name)), set(scene.descriptors))
                for scene in few[split]
            ]
        )
        for split in ("test", "counterfactual")
    }
    assert precision["test"] > 0.55
    assert precision["counterfactual"] < 0.2


# files


def test_exported_scenes_are_the_scenes(tmp_path: Path) -> None:
    folder = export_scenes(tmp_path / "new" / "world", split="counterfactual", count=12, size=64, seed=2)
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["classes"] == list(class_names())
    assert (truth["split"], truth["size"], truth["seed"]) == ("counterfactual", 64, 2)
    for entry, scene in zip(truth["images"], render_scenes("counterfactual", count=12, seed=2), strict=True):
        assert entry["file"] == f"{scene.class_name}/{scene.index:06d}.png"
        image = cv2.cvtColor(cv2.imread(str(folder / entry["file"])), cv2.COLOR_BGR2RGB)
        assert (image == scene.image).all()
        assert entry["descriptors"] == list(scene.descriptors)
        assert (rle_decode(Rle(**entry["object_mask"])) == scene.object_mask).all()
        for part, other in zip(entry["parts"], scene.parts, strict=True):
            assert (rle_decode(Rle(**part["mask_pixels"])) == other.mask_pixels).all()
            x0, y0, x1, y1 = part["bbox_xyxy"]
            assert other.mask_pixels[y0:y1, x0:x1].sum() == other.mask_pixels.sum()
            assert other.mask_pixels[y0, x0:x1].any()
            assert other.mask_pixels[y0:y1, x1 - 1].any()
    assert [path.name for path in folder.parent.iterdir()] == ["world"]


def test_what_a_killed_export_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / ".world.unfinished" / "world" / "fox"
    left.mkdir(parents=True)
    (left / "000000.png").write_bytes(b"half")
    (left.parents[1] / "lock").touch()
    folder = export_scenes(tmp_path / "world", split="test", count=1)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
    assert len(list(folder.glob("*/*.png"))) == 1


def test_two_exports_to_one_folder_do_not_mix(tmp_path: Path) -> None:
    place = tmp_path / ".world.unfinished"
    place.mkdir()
    with FileLock(place / "lock"), pytest.raises(ClipmkError, match="another process is exporting to"):
        export_scenes(tmp_path / "world", split="test", count=1)
    with pytest.raises(UsageError, match="cannot be written: File name too long"):
        export_scenes(tmp_path / ("x" * 300), split="test", count=1)


def test_export_never_overwrites_and_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="not an empty folder"):
        export_scenes(tmp_path / "full", split="test", count=1)
    with pytest.raises(UsageError, match="split 'no' is unknown"):
        export_scenes(tmp_path / "none", split="no", count=1)
    with pytest.raises(UsageError, match="at least 1 scene"):
        export_scenes(tmp_path / "none", split="test", count=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
