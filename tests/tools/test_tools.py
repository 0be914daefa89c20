"""The scripts of `tools/` that people run in pipes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import embedded
import part_names
from clipmk.evaluate import checks
from clipmk.images.masks import rle_encode
from clipmk.settings import PRESETS
from study_shards import POOL, make_manifest, write_study

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    """What `clipmk evaluate --truth --output` writes, of more variants than a pipe holds."""
    value = {"mean": 0.5, "low": 0.25, "high": 0.75, "count": 3}
    values = dict.fromkeys(("ap", "hit1", "foreground", "top1"), value)
    rows = [
        {"split": "test", "name": f"a variant {'x' * 200} {i}", "values": values, "margins": {}} for i in range(2000)
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"truth": [{"model": "m", "scenes": 3, "rows": rows}]}), encoding="utf-8")
    return path


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_tables_of_the_truth_end_quietly_with_their_reader(truth_file: Path, unbuffered: str) -> None:
    command = [sys.executable, TOOLS / "truth_markdown.py", truth_file]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"\n"
        assert process.stdout.readline().startswith(b"**test**, 3 scenes")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
    whole = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert whole.stdout.count(b"| 0.500 \xc2\xb10.250 |") >= 2000


def test_tables_of_a_path_and_of_gains_have_every_step_and_name_what_it_changes(tmp_path: Path) -> None:
    steps = [f"+ {name} {getattr(PRESETS['default'], name)}" for name in checks.PATH]
    changes = [0.5, -0.25, 0.0, 0.5, -0.25, 0.0, 0.5]
    rows: list[dict[str, object]] = []
    for number, (step, change) in enumerate(zip(["paper", *steps], [0.0, *changes], strict=True)):
        values = {name: interval(0.1 * number) for name in ("ap", "hit1", "mutual_true")}
        values |= {f"{name}_change": interval(change) for name in values if number}
        rows.append({"data": "test", "name": step, "values": values})
    gains = {name: interval(0.5) for name in ("before", "after", "gain", "random_gain", "words_gain", "over_random")}
    gain = {"data": "hard", "name": "default, attend: held out", "values": gains}
    reports = {"path": [{"model": "embedded/a", "rows": rows}], "zero_shot": [{"model": "embedded/b", "rows": [gain]}]}
    lines = printed(tmp_path, reports)
    first = next(line for line in lines if line.startswith("| a | test |"))
    assert first.count(" / ") == len(steps)  # `paper` and all steps but the union of candidates
    assert first.endswith("| 0.70 / 0.70 |")
    place = lines.index("- test, + assignment contrast, AP: +0.500 to +0.500")
    assert lines[place + 1 : place + 3] == ["  above 0 in 1 of 1: a +0.500 [+0.400, +0.600]", "  below 0 in 0: "]
    place = lines.index("- test, + foreground centred, hit@1: +0.500 to +0.500")
    assert lines[place + 2] == "  below 0 in 0: "
    assert "| b | hard | default, attend: held out | 0.500 | 0.500 |" + 4 * " +0.500 [+0.400, +0.600] |" in lines


def test_names_of_parts_are_right_by_the_true_part_that_they_overlap_most() -> None:
    scene = next(scene for scene in embedded.scenes(count=8) if len(scene.parts) > 1)
    true, made = scene.parts, embedded.explainer().explain([embedded.picture()])[0]
    words = made.parts[0].descriptors[0]
    parts = tuple(
        dataclasses.replace(
            made.parts[0],
            id=number,
            mask=rle_encode(scene.part_masks[place]),
            descriptors=(dataclasses.replace(words, text=true[named].descriptor),),
        )
        for number, (place, named) in enumerate([(0, 0), (1, 1), (1, 0)], 1)
    )
    concept = dataclasses.replace(made.vision_concepts[0], text=true[0].descriptor, parts=(1,))
    made = dataclasses.replace(made, parts=parts, vision_concepts=(concept,))
    assert part_names.named(scene, made) == [(False, True), (True, True), (True, False)]


def test_tables_of_faithfulness_leave_one_control_out_and_end_with_the_margins(tmp_path: Path) -> None:
    rows = []
    for number, name in enumerate(["default, attend", "feature maps, attend", "paper, attend"]):
        scores = {key: interval(number) for key in ("deletion", "insertion", "acc_drop", "acc_inc")}
        rows.append({"data": "test", "name": name, "values": scores})
        margins = {"deletion_margin": interval(0.25 * number), "insertion_margin": interval(-0.5)}
        controls = ("random order", "random descriptors", "random regions") if name != "feature maps, attend" else ()
        rows += [{"data": "test", "name": f"{name}: {control}", "values": scores | margins} for control in controls]
    reports = {"path": None, "faithfulness": [{"model": "embedded/a", "rows": rows}], "zero_shot": None}
    lines = printed(tmp_path, reports)
    assert not any("random descriptors" in line for line in lines)
    assert "| test | feature maps, attend |" + 2 * " 1.000 [0.900, 1.100] |" + 2 * " 1.000 |" + "  |  |" in lines
    inserted = "-0.500 [-0.600, -0.400]"
    assert f"| a | paper, attend | +0.500 [+0.400, +0.600] | {inserted} | {inserted} |" in lines
    assert len(lines[lines.index("") :]) == 1 + 2 + 2


def printed(folder: Path, reports: Mapping[str, object]) -> list[str]:
    """What the tool prints of some reports."""
    complete = dict.fromkeys(("path", "faithfulness", "zero_shot")) | dict(reports)
    (folder / "found.json").write_text(json.dumps(complete), encoding="utf-8")
    command = [sys.executable, TOOLS / "changes_markdown.py", folder / "found.json"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "count": 3}


def test_tables_of_a_study_have_a_line_per_model(tmp_path: Path) -> None:
    manifest = make_manifest(pool=POOL[:2], images=120, classes=3, shard_size=60)
    folder = write_study(tmp_path, manifest, pool=POOL[:2])
    command = [sys.executable, TOOLS / "study_markdown.py", folder.root]
    made = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert made.count("| ViT-B-32 openai |") >= 4
    assert "| probability | margin | m | class swap p | MI | AUC |" in made
    assert "what misleads" in made
