"""Nothing is widened to float64 on a device: Apple's GPUs have none."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import clipmk
import embedded
from clipmk.concepts.float64 import host64
from clipmk.evaluate.prompt_sets import nearest_classes
from clipmk.explanation import Explanation
from clipmk.pipeline.encoder import EncodedImage, fetch
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import embed_parts
from clipmk.pipeline.segmentation import segment

WIDENS = re.compile(r"\.double\(\)|torch\.float64|torch\.double")


class OnApple(torch.Tensor):
    """A tensor like one of an Apple GPU: what is made of it is one too, until it is brought to the CPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        given = (*args[1:], *(kwargs or {}).values())
        if func is torch.Tensor.double or (func is torch.Tensor.to and torch.float64 in given):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return super().__torch_function__(func, types, args, kwargs or {})


def on_apple(values: torch.Tensor) -> torch.Tensor:
    return values.as_subclass(OnApple)


def test_the_stand_in_refuses_what_apple_refuses() -> None:
    values = on_apple(torch.ones(2))
    for widen in (
        lambda v: v.double().cpu(),
        lambda v: v.to("cpu", torch.float64),
        lambda v: (v + v).detach().double(),
    ):
        with pytest.raises(TypeError, match="float64"):
            widen(values)
    assert values.cpu().double().tolist() == [1.0, 1.0]


def test_values_are_widened_on_the_cpu_without_their_gradient() -> None:
    values = torch.tensor([0.1, -2.0], requires_grad=True)
    for widened in (host64(values), host64(on_apple(values))):
        assert type(widened) is torch.Tensor
        assert (widened.dtype, widened.device.type, widened.requires_grad) == (torch.float64, "cpu", False)
        assert widened.tolist() == [float(torch.tensor(0.1)), -2.0]


def _explained(explainer: Explainer, *, apple: bool) -> Explanation:
    square = explainer.square(embedded.picture())
    encoded = explainer.encode(square)
    found = segment([square], [encoded], explainer.settings)[0]
    (parts,) = fetch(
        embed_parts(explainer.backbone, "attend", squares=[square], forwards=[encoded], masks=[found.masks])
    )
    bank, whole, builder = explainer.bank, encoded.embeddings[0], explainer.builder
    if apple:
        whole, parts = on_apple(whole), on_apple(parts)
        rows = {name: on_apple(getattr(bank, name)) for name in ("classes", "descriptors", "raw")}
        bank = dataclasses.replace(bank, **rows)
        builder = dataclasses.replace(builder, bank=bank)
    source = explainer.builder.source(embedded.picture(), keep_pixels=False)
    return builder.build(source, EncodedImage(square, whole, (found,), (parts,)))


@pytest.mark.parametrize("preset", embedded.PRESETS)
@pytest.mark.parametrize("relevance", ["mean", "median"])
def test_an_explanation_is_built_from_tensors_on_an_apple_gpu(preset: str, relevance: str) -> None:
    explainer = embedded.explainer(preset, soft_threshold=0.5, relevance=relevance, grounding="attend")
    assert _explained(explainer, apple=True) == _explained(explainer, apple=False)


def test_the_nearest_classes_are_found_from_tensors_on_an_apple_gpu() -> None:
    classes = embedded.explainer().bank.classes
    assert nearest_classes(on_apple(classes)) == nearest_classes(classes)


def test_only_one_module_widens_to_float64() -> None:
    """Elsewhere `host64` does, or `.cpu()` is right before it."""
    root = Path(clipmk.__file__).parent
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if path != root / "concepts" / "float64.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if WIDENS.search(line.replace(".cpu().double()", ""))
    ]
    assert found == []
