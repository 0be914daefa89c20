"""The images behind a study's numbers: which are chosen, and what of them can be shown."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmk.errors import InputError
from clipmk.study import gallery
from clipmk.study.gallery import SIDE, Group, LeftOut, add_cards, cue_groups, wrong_groups
from clipmk.study.manifest import StudyFolder, write_manifest
from clipmk.study.results import Results, read_results
from clipmk.study.schema import ASKED_IMAGE, PLAN
from clipmk.system.parquet import write_rows
from image_files import png
from study_shards import POOL, failed_row, image_row, make_manifest, shorten, write_language

TIED = [f"t{i}" for i in range(8)]
ASKED = {"asked_p_values": [0.01], "asked_ranks": [3]}
IMAGES = 8
# predicted "a" for all images; by model: label, probability, whether "t0" is seen
ANSWERS: dict[str, list[tuple[str | None, float, bool]]] = {
    "vit": [("b", 0.6, True), ("a", 0.9, True), ("b", 0.8, False), ("b", 0.9, True), ("a", 0.5, False)],
    "other": [("b", 0.7, False), ("b", 0.7, True), ("b", 0.95, True), ("b", 0.2, True), ("a", 0.3, True)],
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Five images and two models; one more image that both fail at, and two without a label."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for image in range(IMAGES):
        (pictures / f"{image}.png").write_bytes(png(10 * image))
    return study(tmp_path / "study", str(pictures))


def study(root: Path, pictures: str, *, labelled: bool = True) -> Results:
    manifest = make_manifest(pool=POOL[:2], images=IMAGES)
    infos = tuple(replace(info, id=name) for info, name in zip(manifest.models, ANSWERS, strict=True))
    dataset = replace(manifest.dataset, root=pictures)
    manifest = replace(manifest, models=infos, parts=("pca",), shards=1, asks=("asked",), dataset=dataset)
    folder = StudyFolder(root)
    root.mkdir()
    write_manifest(manifest, folder.manifest)
    plan = [{"image": i, "key": f"{i}.png", "path": f"{i}.png", "label": "b", "group": i} for i in range(IMAGES)]
    write_rows([dict.fromkeys(PLAN.names) | row for row in plan], folder.plan, PLAN, manifest.made_of())
    for info in infos:
        write_language(folder, manifest, info, ["a", "b"])
        rows = [failed_row(5, "pca", model=info.id)]
        answers = [*ANSWERS[info.id], (None, 0.99, False), (None, 0.1, False)]
        for image, (label, probability, seen) in zip((0, 1, 2, 3, 4, 6, 7), answers, strict=True):
            texts = ["t0", "t1"] if seen else ["x", "t1"]
            row = image_row(image, "pca", texts, TIED, label=label if labelled else None, model=info.id)
            flags = {"asked_seen": [True], "asked_tied": [image == 3]}
            rows.append(row | ASKED | flags | {"probability": probability})
        full = [dict.fromkeys(ASKED_IMAGE.names) | row for row in rows]
        write_rows(full, folder.shard(info.id, 0), ASKED_IMAGE, manifest.made_of(info))
    return read_results(folder)


def cue(model: str, text: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "parts": "pca", "class": "a", "text": text} | more


def test_wrong_predictions_are_shown_by_model_the_most_accurate_first_and_the_most_certain_first(
    results: Results,
) -> None:
    groups = wrong_groups(results)
    assert [(one.model, one.images, one.total) for one in groups] == [("vit", [3, 2, 0], 3), ("other", [2, 0, 1, 3], 4)]


def test_of_many_wrong_predictions_some_of_every_model_are_shown(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "LEAST", 2)
    monkeypatch.setattr(gallery, "SHOWN", 3)
    assert [(one.images, one.total) for one in wrong_groups(results)] == [([3, 2], 3), ([2, 0], 4)]


def test_without_labels_the_least_certain_predictions_are_shown(tmp_path: Path) -> None:
    [first, _] = wrong_groups(study(tmp_path / "study", str(tmp_path), labelled=False))
    assert (first.images, first.total) == ([7, 4, 0, 2, 1, 3, 6], 7)


def test_a_cue_is_shown_on_images_where_it_is_mutual_wrong_ones_first(results: Results) -> None:
    groups = cue_groups(results, [cue("vit", "t0"), cue("other", "t0"), cue("vit", "asked"), cue("vit", "never")])
    assert [(one.images, one.total) for one in groups] == [([3, 0, 1], 3), ([2, 1, 3, 4], 4), ([3], 1), ([], 0)]
    assert cue_groups(results, [cue("vit", "t0", **{"class": "b"})])[0].total == 0
    assert cue_groups(results, []) == []


def test_a_card_has_the_picture_and_what_every_model_says(results: Results) -> None:
    group = Group("other", [3], 1)
    assert add_cards(results, [group]) == LeftOut()
    [card] = group.cards
    assert (card.entry.key, card.answers["other"]["probability"]) == ("3.png", 0.2)
    assert [(model, row["shared"]) for model, row in card.answers.items()] == [
        ("vit", ["t0", "t1", "asked"]),
        ("other", ["t0", "t1", "asked"]),
    ]
    kind, _, data = card.address.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (4, 3)
        assert abs(picture.convert("RGB").getpixel((0, 0))[0] - 30) < 8  # type: ignore[index]


@pytest.mark.parametrize("column", ["vision_concepts", "mutual"])
def test_concepts_and_flags_that_differ_in_number_are_an_error_that_names_the_file(
    results: Results, column: str
) -> None:
    shorten(results.folder.table("images"), column)
    with pytest.raises(InputError, match=r"images\.parquet' is damaged .* differ in length; a new run of the study"):
        cue_groups(results, [cue("vit", "t0")])
    assert wrong_groups(results)[0].total == 3  # they are not read for it


def test_a_picture_is_no_larger_than_the_page_shows_it(results: Results) -> None:
    path = Path(results.manifest.dataset.root or "") / "3.png"
    Image.new("RGB", (1000, 500)).save(path)
    group = Group("vit", [3], 1)
    add_cards(results, [group])
    with Image.open(io.BytesIO(base64.b64decode(group.cards[0].address.partition(",")[2]))) as picture:
        assert picture.size == (SIDE, SIDE // 2)


def test_images_that_are_gone_or_damaged_are_left_out_and_counted(results: Results) -> None:
    root = Path(results.manifest.dataset.root or "")
    (root / "0.png").unlink()
    (root / "2.png").write_bytes(b"nothing")
    group = Group("vit", [0, 2, 3], 3)
    left_out = add_cards(results, [group])
    assert [card.entry.key for card in group.cards] == ["3.png"]
    assert (len(left_out.unreadable), left_out.for_size) == (2, 0)
    assert "0.png" in left_out.unreadable[0]


def test_a_dataset_that_moved_leaves_all_out_with_the_reason(results: Results, tmp_path: Path) -> None:
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    groups = wrong_groups(results)
    left_out = add_cards(results, groups)
    assert len(left_out.unreadable) == 7
    assert "is not where it was; move it back" in left_out.unreadable[0]
    assert not any(group.cards for group in groups)


def test_pictures_stop_at_the_budget_however_often_one_is_shown(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(gallery.picture_address(gallery.reader_of(results.manifest.dataset), _entry("3.png")))
    monkeypatch.setattr(gallery, "BUDGET", 3 * size + size // 2)
    groups = [Group("vit", [3, 1], 2), Group("other", [3, 2, 0], 3)]
    left_out = add_cards(results, groups)
    assert left_out.for_size == 2
    assert [len(group.cards) for group in groups] == [2, 1]


def _entry(name: str) -> Any:
    return gallery.Entry(key=name, label=None, path=name)
