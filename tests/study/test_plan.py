"""How a study is divided: every image once, whole groups of one class in a shard, a shard can be read alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmk.datasets.entries import Entry
from clipmk.errors import InputError, UsageError
from clipmk.settings import GROUP_LIMIT, Fit
from clipmk.study import plan
from clipmk.study.plan import PlannedImage, make_plan, read_shard, shard_sizes, write_plan
from clipmk.study.schema import PLAN

Labels = list[str | None]


LABELS = st.lists(st.sampled_from(["fox", "cat", "owl", None]), min_size=1, max_size=60)
FITS = st.sampled_from(["image", "batch"])


def entries_of(labels: Labels) -> list[Entry]:
    return [Entry(f"key {k}", "as it was", *((f"p{k}", 512 * k, k + 1) if k % 3 else ())) for k, _ in enumerate(labels)]


def table_of(labels: Labels, fit: Fit, *, shard_size: int, group_limit: int) -> pa.Table:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plan, "GROUP_LIMIT", group_limit)
        return make_plan(entries_of(labels), labels, fit=fit, shard_size=shard_size)


def planned(labels: Labels, fit: Fit = "batch", *, shard_size: int = 5, group_limit: int = 5) -> list[dict[str, Any]]:
    table = table_of(labels, fit, shard_size=shard_size, group_limit=group_limit)
    assert table.schema == PLAN
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_images_of_a_class_are_fitted_in_the_order_of_the_dataset() -> None:
    labels: Labels = ["fox", "cat", "fox", None, "fox", "cat", None, "fox"]
    rows = planned(labels, shard_size=4, group_limit=3)
    assert [(row["shard"], row["group"], row["image"]) for row in rows] == [
        (0, 0, 0),
        (0, 0, 2),
        (0, 0, 4),
        (1, 1, 1),
        (1, 1, 5),
        (1, 2, 3),
        (1, 3, 6),
        (2, 4, 7),
    ]


def test_the_paper_fits_fifty_images_of_a_class() -> None:
    table = make_plan(entries_of(["fox"] * 120), ["fox"] * 120, fit="batch", shard_size=100)
    assert Counter(table["group"].to_pylist()) == {0: 50, 1: 50, 2: 20}
    assert Counter(table["shard"].to_pylist()) == {0: 100, 1: 20}
    assert GROUP_LIMIT == 50


def test_alone_every_image_is_a_group_and_shards_are_runs() -> None:
    rows = planned(["fox"] * 7, "image", shard_size=3)
    assert [(row["shard"], row["group"], row["image"]) for row in rows] == [(k // 3, k, k) for k in range(7)]


@given(labels=LABELS, fit=FITS, group_limit=st.integers(1, 7), room=st.integers(0, 9))
def test_every_image_comes_once_in_whole_groups_of_its_class(
    labels: Labels, fit: Fit, group_limit: int, room: int
) -> None:
    shard_size = group_limit + room
    rows = planned(labels, fit, shard_size=shard_size, group_limit=group_limit)
    assert sorted(row["image"] for row in rows) == list(range(len(labels)))
    assert all(row["label"] == labels[row["image"]] for row in rows)
    places = [(row["shard"], row["group"], row["image"]) for row in rows]
    assert places == sorted(places)
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    for group in groups.values():
        assert len({row["shard"] for row in group}) == 1
        assert len({row["label"] for row in group}) == 1
        assert len(group) <= (group_limit if fit == "batch" and group[0]["label"] is not None else 1)
    shards = Counter(row["shard"] for row in rows)
    assert max(shards.values()) <= shard_size
    assert sorted(shards) == list(range(len(shards)))
    assert sorted(groups) == list(range(len(groups)))
    full = Counter(row["label"] for row in rows if len(groups[row["group"]]) == group_limit)
    if fit == "batch":  # no class has two groups that are not full
        assert all(count - full[label] < group_limit for label, count in Counter(labels).items() if label is not None)


@given(labels=LABELS, fit=FITS, room=st.integers(0, 9))
def test_no_shard_could_take_the_group_that_follows_it(labels: Labels, fit: Fit, room: int) -> None:
    rows = planned(labels, fit, shard_size=5 + room)
    sizes, first = Counter(row["shard"] for row in rows), {row["shard"]: row["group"] for row in reversed(rows)}
    groups = Counter(row["group"] for row in rows)
    assert all(sizes[shard] + groups[first[shard + 1]] > 5 + room for shard in range(len(sizes) - 1))


@given(labels=LABELS, more=LABELS, fit=FITS)
def test_images_added_at_the_end_leave_the_groups_of_others_as_they_were(
    labels: Labels, more: Labels, fit: Fit
) -> None:
    before = {row["image"]: row["group"] for row in planned(labels, fit)}
    after = {row["image"]: row["group"] for row in planned(labels + more, fit)}
    assert before == {image: after[image] for image in before}


@settings(max_examples=20)
@given(labels=LABELS, fit=FITS)
def test_a_shard_is_read_as_it_was_planned(labels: Labels, fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.parquet"
    entries, table = entries_of(labels), table_of(labels, fit, shard_size=6, group_limit=4)
    write_plan(table, path, "these")
    found = [(row, number) for number in shard_sizes(path) for row in read_shard(path, number)]
    assert [(row.image, row.group, number) for row, number in found] == list(
        zip(*(table[name].to_pylist() for name in ("image", "group", "shard")), strict=True)
    )
    for row, _ in found:
        entry = entries[row.image]
        assert row.entry == Entry(entry.key, labels[row.image], entry.path, entry.offset, entry.size)
    assert pq.read_table(path).equals(table)


def test_a_shard_is_a_row_group_of_its_own_and_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    labels: Labels = ["fox"] * 10
    for name in ("a", "b"):
        write_plan(make_plan(entries_of(labels), labels, fit="image", shard_size=4), tmp_path / name / "plan", "these")
    path, other = tmp_path / "a" / "plan", tmp_path / "b" / "plan"
    assert path.read_bytes() == other.read_bytes()
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [4, 4, 2]
    assert read_shard(path, 2)[1] == PlannedImage(9, Entry("key 9", "fox"), 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "batch", "shard_size": 49}, "shards of 49 images are too small: .* whole groups of up to 50 images"),
        ({"fit": "image", "shard_size": 0}, "shards of 0 images are too small; at least 1"),
    ],
)
def test_an_impossible_plan_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(entries_of(["fox"]), ["fox"], **options)


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    with pytest.raises(InputError, match=r"plan\.parquet' does not exist"):
        shard_sizes(path)
    write_plan(make_plan(entries_of(["fox"]), ["fox"], fit="image", shard_size=1), path, "these")
    for number in (-1, 1):
        with pytest.raises(InputError, match=f"has 1 shard, counted from 0; {number} is not one of them"):
            read_shard(path, number)


def test_a_damaged_plan_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    labels: Labels = ["fox"] * 4
    write_plan(make_plan(entries_of(labels), labels, fit="image", shard_size=2), path, "these")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(InputError, match="is damaged"):
        read_shard(path, 0)
    path.write_bytes(whole[:4] + b"\xff" * 60 + whole[64:])
    with pytest.raises(InputError, match="is damaged"):
        read_shard(path, 0)
    pq.write_table(pa.table({"image": [1]}), path)
    with pytest.raises(InputError, match="has other columns"):
        shard_sizes(path)
    pq.write_table(make_plan(entries_of(labels), labels, fit="image", shard_size=2), path)
    with pytest.raises(InputError, match="row group 0 is not shard 0"):
        read_shard(path, 0)
