"""The CUDA paths, run on any machine by `fake_cuda`: no tensor is left behind on the CPU, the host hardly waits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import fake_cuda as fake
from clipmk import api
from clipmk.evaluate import truth
from clipmk.evaluate.variants import VariantRunner, variants
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.models.loading import load
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.worker import protocol
from clipmk.world.scene import render_scenes
from command_line import Ran, Runner
from conversation import Conversation

pytestmark = pytest.mark.cuda

VIT, RESNET = "embedded/vit-xs8", "embedded/rn-xs"


counted = pytest.mark.skipif("config.getoption('--gpu')", reason="a real device does not count host waits")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from PIL import Image  # noqa: PLC0415

    from clipmk.world.scene import render_scenes  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, scene in enumerate(render_scenes("test", count=6, seed=3)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(scene.image).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def on_cpu(pictures: list[Path]) -> dict[tuple[str, str], Explanation]:
    """What the CPU says of the first picture."""
    return {
        (model, name): api.explain(pictures[0], load(model, device="cpu"), preset=name)
        for model in (VIT, RESNET)
        for name in ("default", "paper")
    }


def said(explanation: Explanation) -> tuple[Any, ...]:
    """What must not depend on the device."""
    return (
        [one.class_name for one in explanation.predictions],
        [(one.text, one.parts) for one in explanation.vision_concepts],
        [(one.text, one.mutual) for one in explanation.language_concepts],
        dataclasses.replace(explanation.mutual, soft=()),
        [(part.area, part.bbox_xyxy) for part in explanation.parts],
    )


def numbers(explanation: Explanation) -> list[float]:
    """What may differ in its last bits."""
    return [one.probability for one in explanation.predictions] + [
        one.importance for one in explanation.vision_concepts
    ]


def assert_same(found: Explanation, expected: Explanation, *, exactly: bool) -> None:
    """Alike; or, where other kernels or a shorter dtype round otherwise, the same class and most of the concepts."""
    if exactly:
        assert said(found) == said(expected)
        assert numbers(found) == pytest.approx(numbers(expected), abs=1e-5)
        return
    assert found.predictions[0].class_name == expected.predictions[0].class_name
    assert abs(found.predictions[0].probability - expected.predictions[0].probability) < 0.05
    ours, theirs = ({one.text for one in each.vision_concepts} for each in (found, expected))
    assert len(ours & theirs) >= 0.6 * len(theirs)


@counted
def test_mixed_devices_are_refused(fake_cuda: fake.Waits) -> None:
    one = torch.ones(3, device="cuda")
    assert one.device == torch.device("cuda:0")
    assert (one + torch.tensor(2.0)).cpu().tolist() == [3.0, 3.0, 3.0]
    with pytest.raises(fake.MixedDevicesError, match="on the CPU"):
        one + torch.ones(3)
    with pytest.raises(TypeError, match="numpy"):
        one.numpy()


@counted
def test_host_waits_are_counted(fake_cuda: fake.Waits) -> None:
    one = torch.arange(4.0, device="cuda")
    fake_cuda.clear()
    one.sum().item()
    one[one > 1]
    one.cpu()
    one.tolist()
    assert fake_cuda.counts == {"item": 1, "nonzero": 1, "copy": 1, "tolist": 1}
    torch.empty(4).copy_(one, non_blocking=True)
    assert fake_cuda.total == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["default", "paper"])
@pytest.mark.parametrize("model", [VIT, RESNET])
def test_an_explanation_on_the_device_is_the_one_of_the_cpu(
    fake_cuda: fake.Waits | None,
    on_cpu: dict[tuple[str, str], Explanation],
    pictures: list[Path],
    model: str,
    name: str,
    precision: str,
) -> None:
    found = api.explain(pictures[0], load(model, device="cuda", precision=precision), preset=name)
    assert found.provenance.device.startswith("cuda")
    assert {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision] == found.provenance.dtype
    assert_same(found, on_cpu[model, name], exactly=precision == "fp32" and fake_cuda is not None)


@counted
@pytest.mark.parametrize("name", ["default", "paper"])
def test_a_warm_explanation_waits_at_most_20_times(fake_cuda: fake.Waits, pictures: list[Path], name: str) -> None:
    model = load(VIT, device="cuda")
    api.explain(pictures[0], model, preset=name)
    fake_cuda.clear()
    api.explain(pictures[1], model, preset=name)
    assert fake_cuda.total <= 20, fake_cuda.counts


@counted
def test_a_stream_waits_for_its_planned_copies_only(fake_cuda: fake.Waits, pictures: list[Path]) -> None:
    """Blocking copies grow with the batches, not with the images; the rest are events of downloads planned ahead."""
    model = load(VIT, device="cuda")
    copies = []
    for batch_size in (2, 6):  # four batches and two, for the first one is a single image
        list(api.explain_stream(pictures, model, batch_size=batch_size))
        fake_cuda.clear()
        results = list(api.explain_stream(pictures, model, batch_size=batch_size))
        assert all(isinstance(one, Explanation) for one in results)
        assert set(fake_cuda.counts) <= {"event", "copy"}, fake_cuda.counts
        copies.append(fake_cuda.counts["copy"])
    assert copies[1] < len(pictures)
    assert copies[0] - copies[1] <= 2


def test_a_batch_streamed_on_the_device_gives_the_explanations_of_the_cpu(
    fake_cuda: fake.Waits | None, pictures: list[Path]
) -> None:
    found = [list(api.explain_stream(pictures, load(VIT, device=device), batch_size=4)) for device in ("cuda", "cpu")]
    for one, other in zip(*found, strict=True):
        assert_same(one, other, exactly=fake_cuda is not None)


def on_device(ran: Ran) -> str:
    assert ran.status == 0, ran.err
    return ran.out


def test_models_are_compared_on_the_device(fake_cuda: fake.Waits | None, clipmk: Runner, pictures: list[Path]) -> None:
    argv = ("compare", pictures[0], "-m", VIT, "-m", RESNET, "--json", "--device")
    on_gpu, on_cpu = (json.loads(on_device(clipmk(*argv, device)))["comparison"] for device in ("cuda", "cpu"))
    assert {column["provenance"]["device"] for column in on_gpu["columns"]} == {"cuda"}
    assert [row["text"] for row in on_gpu["rows"]] == [row["text"] for row in on_cpu["rows"]]


def test_the_service_explains_one_and_many_and_blurs_on_the_device(
    fake_cuda: fake.Waits | None, pictures: list[Path]
) -> None:
    talk = Conversation(device="cuda")
    images = tuple(str(path) for path in pictures)
    made = talk.ask(protocol.Explain(id=0, model=VIT, image=images[0]))
    assert isinstance(made, protocol.Explained), made
    assert made.explanation.provenance.device == "cuda"
    left_out = (made.explanation.vision_concepts[0].text,)
    blurred = talk.ask(protocol.WhatIf(id=0, model=VIT, image=images[0], left_out=left_out))
    assert isinstance(blurred, protocol.Reranked), blurred
    many = talk.ask(protocol.ExplainImages(id=0, model=VIT, images=images, stream=True))
    assert isinstance(many, protocol.Done), many
    assert len(talk.received(protocol.ImageExplained)) == len(images)


def test_a_study_runs_on_the_device(fake_cuda: fake.Waits | None, clipmk: Runner, tmp_path: Path) -> None:
    tables = []
    for device in ("cuda", "cpu"):
        out = tmp_path / device
        on_device(
            clipmk("study", "world:test?scenes=6", "-m", VIT, "-m", RESNET, "--preset", "paper",
                   "--grounding", "attend", "--device", device, "--out", out)
        )  # fmt: skip
        tables.append(pq.read_table(next(out.rglob("models.parquet"))).to_pydict())
    for name in ("model", "images", "correct_1", "mutual_count", "top1"):
        assert tables[0].get(name) == tables[1].get(name), name


@counted
def test_an_evaluated_image_waits_for_its_planned_copies_only(fake_cuda: fake.Waits) -> None:
    """Embedding, patches and attention, then all part embeddings at once, whatever the number of variants."""
    runner = VariantRunner(load(VIT, device="cuda"), load_vocabulary("world"))
    for scene in render_scenes("test", count=2):
        fake_cuda.clear()
        runner.run(read_picture(scene.image), variants(), true_masks=scene.part_masks)
    assert fake_cuda.counts == {"event": 3, "copy": 1}


@pytest.mark.parametrize("measure", ["--truth", "--reasons", "--faithfulness", "--zero-shot"])
def test_evaluations_run_on_the_device(
    fake_cuda: fake.Waits | None, clipmk: Runner, monkeypatch: pytest.MonkeyPatch, measure: str
) -> None:
    monkeypatch.setattr(truth, "CALIBRATION_SCENES", 2)
    ran = clipmk("evaluate", measure, "--scenes", 2, "--split", "test", "-m", VIT, "--device", "cuda", "--json")
    assert json.loads(on_device(ran))


def test_texts_are_embedded_on_the_device(fake_cuda: fake.Waits | None) -> None:
    texts = ["a long snout", "pointed ears", "a red roof over a white wall"]
    on_gpu, on_cpu = (load(VIT, device=device).encode_texts(texts) for device in ("cuda", "cpu"))
    assert torch.allclose(on_gpu.cpu(), on_cpu, atol=1e-6 if fake_cuda else 1e-3)
