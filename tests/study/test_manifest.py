"""What makes two studies different: only what a user can act on, without what follows from it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.settings import preset
from clipmk.study.manifest import Manifest, differences
from study_shards import make_manifest

STUDY = make_manifest()
MODEL = STUDY.models[0]


def changed(field: str, /, **values: Any) -> Manifest:
    return replace(STUDY, **{field: replace(getattr(STUDY, field), **values)})


def with_settings(one: Manifest, **values: Any) -> Manifest:
    return replace(one, settings={**one.settings, **values})


OTHER_DATA = replace(
    changed("dataset", name="photos", kind="manifest", images=9, labelled=0, classes=0, fingerprint="12" * 32), shards=1
)


@pytest.mark.parametrize(
    ("other", "lines"),
    [
        (STUDY, []),
        (with_settings(OTHER_DATA, fit="image"), ["dataset: 'scenes (60 images)' there, 'photos (9 images)' here"]),
        (
            with_settings(OTHER_DATA, fit="image", seed=4),
            ["dataset: 'scenes (60 images)' there, 'photos (9 images)' here", "settings.seed: 0 there, 4 here"],
        ),
        (
            changed("dataset", images=59, labelled=59, fingerprint="12" * 32),
            ["dataset: 'scenes (60 images)' there, 'scenes (59 images)' here"],
        ),
        (changed("dataset", labelled=59, fingerprint="12" * 32), ["dataset.labelled: 60 there, 59 here"]),
        (changed("dataset", fingerprint="12" * 32), [f"dataset.fingerprint: {'ab' * 6!r} there, {'12' * 6!r} here"]),
        (changed("dataset", name="./scenes"), []),
        (
            changed("vocabulary", name="farm", sha256="12" * 32, classes=3, descriptors=9, templates=("a {}",)),
            ["vocabulary: 'world' there, 'farm' here"],
        ),
        (changed("vocabulary", sha256="12" * 32, classes=3), ["vocabulary.classes: 6 there, 3 here"]),
        (changed("vocabulary", sha256="12" * 32), [f"vocabulary.sha256: {'cd' * 6!r} there, {'12' * 6!r} here"]),
        (
            replace(STUDY, settings=asdict(preset("default", seed=3)), parts=("superpixels",), shards=2),
            ["settings.preset: 'paper' there, 'default' here", "settings.seed: 0 there, 3 here"],
        ),
        (with_settings(replace(STUDY, shards=5), fit="image"), ["settings.fit: 'batch' there, 'image' here"]),
        (replace(STUDY, shards=6, shard_size=10), ["shard_size: 20 there, 10 here"]),
        (replace(STUDY, device="cuda", threads=None), ["device: 'cpu' there, 'cuda' here"]),
        (
            replace(STUDY, models=(replace(MODEL, weights_sha256="12" * 32), *STUDY.models[1:])),
            [f"models[1].weights_sha256: {'00' * 6!r} there, {'12' * 6!r} here"],
        ),
        (
            replace(STUDY, models=STUDY.models[1:2]),
            [f"models: {', '.join(one.id for one in STUDY.models)!r} there, {STUDY.models[1].id!r} here"],
        ),
    ],
)
def test_differences_leave_out_what_follows_from_others(other: Manifest, lines: list[str]) -> None:
    assert differences(STUDY, other) == lines


CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dataset", {"images": 59, "labelled": 59, "fingerprint": "12" * 32}),
    ("dataset", {"labelled": 50}),
    ("dataset", {"classes": 5}),
    ("vocabulary", {"sha256": "12" * 32}),
    ("vocabulary", {"classes": 5}),
)
PLAIN: tuple[dict[str, Any], ...] = (
    {"parts": ("kmeans",)},
    {"shards": 9},
    {"shard_size": 9},
    {"batch_size": 9},
    {"device": "mps"},
    {"dtype": "float16"},
    {"threads": 9},
    {"models": STUDY.models[1:]},
)


@given(
    nested=st.lists(st.sampled_from(CHANGES), unique_by=str),
    plain=st.lists(st.sampled_from(PLAIN), unique_by=str),
    settings=st.sets(st.sampled_from(["preset", "fit", "parts", "seed", "part_count"])),
)
def test_different_studies_always_have_differences(
    nested: list[tuple[str, dict[str, Any]]], plain: list[dict[str, Any]], settings: set[str]
) -> None:
    other = with_settings(STUDY, **dict.fromkeys(settings, "other"))
    for values in plain:
        other = replace(other, **values)
    for name, values in nested:
        other = replace(other, **{name: replace(getattr(other, name), **values)})
    assert bool(differences(STUDY, other)) == bool(nested or plain or settings)
