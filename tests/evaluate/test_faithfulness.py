"""Deletion and insertion on the embedded model against a plain loop, and what its controls share with the parts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import embedded
from clipmk.errors import ImageError, InputError, UsageError
from clipmk.evaluate import harness, perturbations
from clipmk.evaluate.metrics import box_iou
from clipmk.evaluate.perturbations import OccludedImages
from clipmk.evaluate.report import Report
from clipmk.evaluate.samples import ImageSource, Sample, open_images, rendered_scenes
from clipmk.evaluate.variants import VariantRunner, variants
from clipmk.images.decoder import read_picture
from clipmk.images.masks import mask_box, rle_decode
from clipmk.pipeline.grounding import pooled_embeddings
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.export import export_scenes
from clipmk.world.scene import Scene

FAST = variants(["paper"], ["attend"])
OWN = "paper, attend"
COUNT = 2
MASKLESS = b'{"images": [{"file": "fox/b.png", "class_name": "fox", "object_mask": 3}]}'
CONTROLS = ("random order", "random descriptors", "nearest descriptor", "random regions")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "truth-cache"))


def measured(*data: ImageSource, **options: Any) -> Report:
    given = {"variants": FAST, "measures": ["faithfulness"], **options}
    return harness.run(embedded.backbone(), load_vocabulary("world"), data, **given)["faithfulness"]


@cache
def _of_scenes() -> Report:
    return measured(rendered_scenes("counterfactual", count=COUNT, seed=0))


def rows(report: Report) -> dict[str, Any]:
    return {row.name: row.values for row in report.rows}


def plain_curves(scene: Scene) -> dict[str, list[float]]:
    """Deletion and insertion of the paper preset with masked pooling, one picture at a time."""
    explainer = embedded.explainer("paper", grounding="attend")
    found = explainer.explain([read_picture(scene.image)])[0]
    masks = [rle_decode(part.mask) for part in found.parts]
    encoded = explainer.encode(scene.image)
    image = encoded.embeddings[0].double()
    parts = pooled_embeddings(explainer.backbone, encoded, [np.stack(masks)])[0].double()
    texts = explainer.vocabulary.descriptors
    worth = []
    for part, mask_embedding in zip(found.parts, parts, strict=True):
        raw = explainer.bank.raw[texts.index(part.descriptors[0].text)].double()
        worth.append(float(mask_embedding @ image / mask_embedding.norm()) * float(raw @ image))
    order = sorted(range(len(masks)), key=lambda i: -worth[i])
    blurry = cv2.GaussianBlur(scene.image, (11, 11), 2.0, borderType=cv2.BORDER_REFLECT_101)
    classes = explainer.vocabulary.classes
    predicted = classes.index(found.predictions[0].class_name)
    curves: dict[str, list[float]] = {"deletion": [], "insertion": [], "acc_drop": [], "acc_inc": []}
    for step in range(len(masks) + 1):
        for name, accuracy, start, end in (
            ("deletion", "acc_drop", scene.image, blurry),
            ("insertion", "acc_inc", blurry, scene.image),
        ):
            picture = start.copy()
            for k in order[:step]:
                picture[masks[k]] = end[masks[k]]
            cosines = (explainer.bank.classes @ explainer.encode(picture).embeddings[0]).tolist()
            curves[name].append(2.5 * cosines[predicted])
            curves[accuracy].append(float(classes[int(np.argmax(cosines))] == scene.class_name))
    return curves


def test_areas_are_those_of_a_plain_loop_over_pictures() -> None:
    values = rows(_of_scenes())[OWN]
    plain = [plain_curves(scene) for scene in embedded.scenes("counterfactual", count=COUNT)]
    for name in ("deletion", "insertion", "acc_drop", "acc_inc"):
        assert values[name].mean == pytest.approx(np.mean([np.mean(c[name]) for c in plain]), abs=1e-5), name
        assert values[f"{name}_sum"].mean == pytest.approx(np.mean([sum(c[name]) for c in plain]), abs=1e-4), name
    assert values["parts"].mean == np.mean([len(c["deletion"]) - 1 for c in plain])


def test_corloc_is_of_boxes_around_foreground_and_object() -> None:
    scenes = embedded.scenes("counterfactual", count=COUNT)
    expected = []
    for scene in scenes:
        found = embedded.explainer("paper", grounding="attend").explain([read_picture(scene.image)])[0]
        boxes = mask_box(rle_decode(found.foreground)), mask_box(scene.object_mask)
        expected.append(float(box_iou(*boxes) > 0.5))
    assert rows(_of_scenes())[OWN]["corloc"].mean == np.mean(expected)


def test_rows_are_variants_their_controls_and_feature_maps() -> None:
    found = rows(_of_scenes())
    assert list(found) == [OWN, *(f"{OWN}: {name}" for name in CONTROLS), "feature maps, attend"]
    for name in CONTROLS[:3]:
        assert found[f"{OWN}: {name}"]["area"] == found[OWN]["area"]
    for name in CONTROLS:
        control = found[f"{OWN}: {name}"]
        assert control["parts"] == found[OWN]["parts"]
        assert control["deletion_margin"].mean == pytest.approx(control["deletion"].mean - found[OWN]["deletion"].mean)
        better = found[OWN]["insertion"].mean - control["insertion"].mean
        assert control["insertion_margin"].mean == pytest.approx(better)
    assert found["feature maps, attend"]["parts"].mean == 5
    assert {"entropy", "entropy_nearest", "entropy_transport", "corloc", "top1"} <= set(found[OWN])


def test_batches_that_cross_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    together = _of_scenes()
    monkeypatch.setattr(perturbations, "IMAGES_HELD", 1)  # every image by itself
    apart = measured(rendered_scenes("counterfactual", count=COUNT, seed=0))
    for one, other in zip(together.rows, apart.rows, strict=True):
        assert one.name == other.name
        for name, value in one.values.items():
            assert dataclasses.astuple(other.values[name]) == pytest.approx(dataclasses.astuple(value), abs=1e-5)


def test_the_same_seed_gives_the_same_report_to_the_bit_and_another_seed_other_controls() -> None:
    assert measured(rendered_scenes("counterfactual", count=COUNT, seed=0)) == _of_scenes()
    other = rows(measured(rendered_scenes("counterfactual", count=COUNT, seed=0), seed=1))
    assert other[OWN]["deletion"].mean == rows(_of_scenes())[OWN]["deletion"].mean
    controls = [f"{OWN}: {name}" for name in ("random order", "random regions")]
    assert any(other[name]["deletion"].mean != rows(_of_scenes())[name]["deletion"].mean for name in controls)


def test_transport_spreads_the_papers_parts_over_more_descriptors() -> None:
    values = rows(_of_scenes())[OWN]
    assert values["entropy"] == values["entropy_transport"]
    assert values["entropy_transport"].mean > values["entropy_nearest"].mean
    assert values["entropy_transport"].high <= np.log(15) + 1e-9


def test_equal_occlusions_of_an_image_are_one() -> None:
    images = OccludedImages(embedded.scenes()[0].image)
    nothing, left = np.zeros((2, 64, 64), dtype=bool)
    left[:, :20] = True
    assert images.add(np.stack([nothing, left])) == [0, 1]
    assert images.add(np.stack([left, ~left, nothing])) == [1, 2, 0]
    pictures = images.images()
    np.testing.assert_array_equal(pictures[0], images.image)
    np.testing.assert_array_equal(pictures[1][:, 20:], images.image[:, 20:])
    assert (pictures[1][:, :20] != images.image[:, :20]).any()


def test_pictures_are_embedded_in_order_whatever_the_batch() -> None:
    pictures = np.stack([scene.image for scene in embedded.scenes(count=4)] * 4)
    found = VariantRunner(embedded.backbone(), load_vocabulary("world")).embed(pictures)
    for row, picture in zip(found[:4], pictures[:4], strict=True):
        torch.testing.assert_close(row, embedded.explainer().encode(picture).embeddings[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:4], found[12:], atol=1e-5, rtol=0)


def test_without_labels_accuracy_is_against_the_models_own_prediction(tmp_path: Path) -> None:
    scenes = embedded.scenes("counterfactual", count=COUNT)
    for scene in scenes:
        Image.fromarray(scene.image).save(tmp_path / f"{scene.index}.png")
    folder = open_images(str(tmp_path), load_vocabulary("world"))
    assert not folder.labelled
    report = measured(folder)
    values = rows(report)[OWN]
    assert not report.data[0].labelled
    assert not {"corloc", "top1"} & set(values)
    assert values["deletion"].mean == pytest.approx(rows(_of_scenes())[OWN]["deletion"].mean, abs=1e-6)
    assert values["acc_drop"].mean >= 1 / (1 + values["parts"].high)  # the first step is the prediction itself
    with pytest.raises(UsageError, match="has no labels"):
        measured(folder, measures=["zero_shot"])


def test_an_exported_world_gives_what_its_scenes_give(tmp_path: Path) -> None:
    export_scenes(tmp_path / "w", split="counterfactual", count=COUNT)
    folder = open_images(str(tmp_path / "w"), load_vocabulary("world"))
    own, there = rows(measured(folder)), rows(_of_scenes())
    assert folder.labelled
    for name in ("deletion", "insertion", "acc_drop", "corloc", "top1"):
        assert own[OWN][name].mean == pytest.approx(there[OWN][name].mean, abs=1e-6)


def test_a_broken_image_is_skipped_and_the_others_are_measured(tmp_path: Path) -> None:
    export_scenes(tmp_path / "w", split="test", count=2)
    broken = next((tmp_path / "w").glob("*/*.png"))
    broken.write_bytes(b"no picture")
    report = measured(open_images(str(tmp_path / "w"), load_vocabulary("world")))
    assert report.data[0].images == 1
    assert broken.name in report.data[0].skipped[0]
    for path in (tmp_path / "w").glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no image of"):
        measured(open_images(str(tmp_path / "w"), load_vocabulary("world")))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no image"),
        ({"nosuch/a.png": b""}, "nosuch"),
        ({"fox/b.png": b"", "truth.json": b"{"}, "truth.json"),
        (
            {"fox/b.png": b"", "truth.json": b'{"images": [{"file": "b", "class_name": "fox", "object_mask": 3}]}'},
            "truth",
        ),
    ],
)
def test_an_unusable_folder_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises((InputError, UsageError), match=message):
        open_images(str(tmp_path), load_vocabulary("world"))


def test_rendered_scenes_are_refused_as_a_data_set() -> None:
    with pytest.raises(UsageError, match="by their split"):
        open_images("world:test", load_vocabulary("world"))


def test_unknown_names_are_refused_with_a_list_of_the_known_ones() -> None:
    with pytest.raises(UsageError, match="does not exist; known: train, test"):
        rendered_scenes("nope", count=1, seed=0)
    with pytest.raises(UsageError, match="close: 'paper'"):
        variants(["papr"])
    with pytest.raises(UsageError, match="prompts, attend"):
        variants([], ["x"])
    with pytest.raises(UsageError, match="close: 'zero_shot'"):
        measured(rendered_scenes("test", count=1, seed=0), measures=["zero-shot"])


def endless() -> Iterator[Sample | ImageError]:
    """Fails when more is asked for than was measured before cancelling."""
    yield from rendered_scenes("test", count=2).samples()
    raise AssertionError("asked for more after it was cancelled")


def test_an_exception_in_progress_cancels_the_work() -> None:
    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("endless: images", 10**9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(ImageSource(name="endless", count=10**9, labelled=True, samples=endless), progress=stop)


def test_a_report_becomes_plain_data_and_tables_of_text() -> None:
    report = _of_scenes()
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["data"] == [{"name": "counterfactual", "images": COUNT, "labelled": True, "skipped": []}]
    title, columns, body = report.tables()[0]
    assert title.startswith("counterfactual: score of the predicted class")
    assert columns == ["", "deletion", "insertion"]
    value = rows(report)[OWN]["deletion"]
    assert body[0] == [OWN, f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]", body[0][2]]


def test_a_queue_keeps_the_order_of_images_even_without_occlusions() -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    queue, came = perturbations.OcclusionQueue(runner), list[tuple[int, Any]]()
    squares = [scene.image for scene in embedded.scenes(count=3)]
    for number, own in enumerate(([], squares[:2], [], squares[2:])):
        queue.add(own, lambda cosines, n=number: came.append((n, cosines)))
    queue.flush()
    queue.flush()
    assert [(number, len(cosines)) for number, cosines in came] == [(0, 0), (1, 2), (2, 0), (3, 1)]
    expected = embedded.explainer().encode(squares[2]).embeddings @ embedded.explainer().bank.classes.T
    np.testing.assert_allclose(came[3][1], expected.numpy(), atol=1e-5)
    queue.add([], lambda cosines: came.append((4, cosines)))
    queue.flush()
    assert came[4][1].shape == (0, len(runner.explainer.vocabulary.classes))
