"""What a service holds in memory: how much, what goes first, and what it does when there is none left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clipmk
from clipmk.errors import OUT_OF_MEMORY, OutOfMemoryError
from clipmk.settings import preset
from clipmk.system.memory import is_out_of_memory
from clipmk.worker import protocol
from clipmk.worker.protocol import Compare, Explain, Load
from conversation import VIT, Conversation

pytestmark = pytest.mark.usefixtures("clean", "loaded_once")
MiB = 2**20


@pytest.mark.parametrize(("memory", "fitting"), [(2, 1), (2048 * MiB, 2)])
def test_little_memory_holds_one_model_and_much_holds_all(
    memory: int, fitting: int, images: list[str], tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmk.worker.explainers.device_memory", lambda device: memory)
    talk, asked = Conversation(), (VIT, tiny_model, VIT)
    for number, model in enumerate(asked, 1):
        assert isinstance(talk.ask(Load(model=model)), protocol.Loaded)
        assert talk.service.models == asked[:number][-fitting:]
    assert isinstance(talk.ask(Compare(models=(tiny_model, VIT), image=images[0])), protocol.Done)
    assert all(column.explanation for column in talk.received(protocol.ColumnReady))


def test_a_model_weighs_what_its_parameters_and_its_texts_take(tiny_model: str) -> None:
    talk = Conversation()
    talk.ask(Load(model=tiny_model))
    backbone = clipmk.load(tiny_model, device="cpu")
    module: Any = backbone._texts._model  # type: ignore[attr-defined]
    tensors = {t.data_ptr(): t for t in (*module.parameters(), *module.buffers())}
    words = clipmk.load_vocabulary("world")
    rows = len(words.classes) + 2 * len(words.descriptors)
    assert (
        talk.service.explainers.held.weight == sum(t.nbytes for t in tensors.values()) + rows * backbone.embed_dim * 4
    )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert talk.service.explainers.held.budget == total // 2


def out_of_memory() -> list[Exception]:
    import torch  # noqa: PLC0415

    return [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        OutOfMemoryError("not enough memory on cuda"),
    ]


@pytest.mark.parametrize("index", range(5))
def test_running_out_of_memory_unloads_the_models_and_the_service_goes_on(
    index: int, images: list[str], tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    talk, real = Conversation(settings=preset("default")), Explainer.encode_picture
    talk.ask(Load(model=tiny_model))

    def encode(self: Any, *args: Any, **options: Any) -> Any:
        if self.backbone.info.id == VIT:
            raise out_of_memory()[index]
        return real(self, *args, **options)

    monkeypatch.setattr(Explainer, "encode_picture", encode)
    answer = talk.ask(Explain(model=VIT, image=images[0]))
    assert (type(answer), answer.code) == (protocol.Failed, OUT_OF_MEMORY)
    for words in (f"'{VIT}'", "cpu", "a smaller model", "--precision bf16"):
        assert words in answer.message
    assert "--device cpu" not in answer.message  # it is there already
    assert talk.service.models == ()
    talk.ask(Compare(models=(VIT, tiny_model), image=images[0]))
    codes = [(column.code, column.explanation is not None) for column in talk.received(protocol.ColumnReady)]
    assert codes == [(OUT_OF_MEMORY, False), (None, True)]
    monkeypatch.undo()
    assert isinstance(talk.ask(Explain(model=VIT, image=images[0])), protocol.Explained)


def test_a_bug_is_not_taken_for_a_lack_of_memory(images: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    talk = Conversation()
    talk.ask(Load(model=VIT))

    def encode(*args: Any, **options: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Explainer, "encode_picture", encode)
    with pytest.raises(RuntimeError, match="shapes"):
        talk.ask(Explain(model=VIT, image=images[0]))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert talk.service.models == (VIT,)


def test_few_pictures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmk.worker.service.PICTURE_BYTES", 3 * 100 * 100 * 3)
    talk = Conversation()
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((100, 100, 3), 40 * number, dtype=np.uint8)).save(path)
        talk.ask(Explain(model=VIT, image=str(path)))
    assert [Path(name).stem for name, _ in talk.service._pictures.keys] == ["3", "4", "5"]
