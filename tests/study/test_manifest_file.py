"""The manifest of a study: any content is written and read back unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clipmk.study.manifest import differences, read_manifest, write_manifest
from study_shards import make_manifest


def test_names_that_are_not_utf_8_are_written_and_read_back(tmp_path: Path) -> None:
    plain = make_manifest()
    made = replace(
        plain,
        command="clipmk study photos --out caf\udce9",
        vocabulary=replace(plain.vocabulary, name="t\udcff"),
        models=(replace(plain.models[0], id="local-dir:m\udce9"),),
    )
    path = tmp_path / "study.json"
    write_manifest(made, path)
    path.read_bytes().decode("utf-8", "strict")
    assert read_manifest(path) == made
    assert differences(read_manifest(path), made) == []
