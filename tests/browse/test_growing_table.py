"""The table of a folder, filled while its images are explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import samples
from clipmk.browse.growing_table import GrowingTable
from clipmk.browse.image_table import ImageResult
from clipmk.browse.notes import FOLDER_NOTES

EMPTY = ImageResult(*(None,) * 8)


def make(tmp_path: Path) -> tuple[GrowingTable, list[str]]:
    paths = [str(tmp_path / name) for name in ("b.png", "sub/a.png", "c.png")]
    labels = ["fox", None, "cat"]
    return GrowingTable(tmp_path, list(zip(paths, labels, strict=True)), ["one", "two"]), paths


def test_rows_are_there_before_anything_is_known(tmp_path: Path) -> None:
    table, paths = make(tmp_path)
    assert [table.row(place).key for place in range(3)] == ["b.png", "sub/a.png", "c.png"]
    assert [table.row(place).label for place in range(3)] == ["fox", None, "cat"]
    assert all(table.row(place).results == (EMPTY, EMPTY) for place in range(3))
    assert table.missing("one") == paths
    assert table.choose("", "prob", descending=True).tolist() == [0, 1, 2]
    assert table.choose("predicted:fox").tolist() == []
    assert table.class_counts(table.choose()) == []


def test_what_is_explained_is_shown(tmp_path: Path) -> None:
    table, paths = make(tmp_path)
    table.add(samples.explanation(class_name="fox"), paths[2], "one")
    table.add(samples.explanation(class_name="cat"), paths[2], "two")
    table.add(samples.explanation(class_name="fox"), paths[0], "one")
    table.fail(paths[1], "one", "image is truncated")
    found = table.row(2)
    mutual = samples.explanation().mutual
    swap = mutual.class_swap
    assert swap is not None
    assert found.results[0] == (False, "fox", None, swap.p_value, 0.712, mutual.count, mutual.mi_paper, mutual.auc)
    assert (found.results[1].correct, found.agreement, found.differs_in) == (True, 0.5, ())
    assert table.row(1).results[0].error == "image is truncated"
    assert (table.missing("one"), table.missing("two")) == ([], paths[:2])
    assert table.choose("a != b").tolist() == [2]
    assert table.choose("only b").tolist() == [2]
    assert table.choose('concept:"pointed ears" right').tolist() == [0]
    assert table.choose("failed").tolist() == [1]
    assert table.choose("", "prob", descending=True).tolist() == [0, 2, 1]
    assert [(one.name, one.wrong_a) for one in table.class_counts(table.choose())] == [("cat", 1), ("fox", 0)]


def test_an_image_can_be_explained_again(tmp_path: Path) -> None:
    table, paths = make(tmp_path)
    table.fail(paths[0], "one", "out of memory")
    table.add(samples.explanation(class_name="cat"), paths[0], "one")
    table.add(samples.explanation(class_name="fox", descriptor="a long snout"), paths[0], "one")
    assert table.row(0).results[0][:3] == (True, "fox", None)
    assert table.choose('concept:"pointed ears"').tolist() == []


def test_without_a_second_class_p_is_not_known(tmp_path: Path) -> None:
    table, paths = make(tmp_path)
    found = samples.explanation()
    table.add(replace(found, mutual=replace(found.mutual, class_swap=None)), paths[0], "one")
    assert table.row(0).results[0].p is None


def test_notes_lie_in_the_folder_hidden(tmp_path: Path) -> None:
    table, _ = make(tmp_path)
    table.notes.write("sub/a.png", "look again")
    assert (tmp_path / FOLDER_NOTES).is_file()
    assert make(tmp_path)[0].row(1).note == "look again"


def test_names_are_below_the_folder_even_if_it_was_named_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    table = GrowingTable(tmp_path / "pictures", [(str(tmp_path / "link" / "a.png"), None)], ["m"])
    assert table.row(0).key == "a.png"
