"""Memory: a cache within a budget, and one error for every way in which it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import embedded
from clipmk.backbones.backbone import Backbone
from clipmk.errors import DeviceError, OutOfMemoryError
from clipmk.explanation import Explanation
from clipmk.models import loading
from clipmk.pipeline.explainer import Explainer
from clipmk.system.memory import LruCache, is_out_of_memory, memory_named, remedies

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
]


@pytest.fixture(params=range(len(SHORT)))
def short(request: pytest.FixtureRequest) -> Exception:
    return SHORT[request.param]


def raising(error: Exception, *, after: int = 0) -> Any:
    """A method that works a few times and then fails."""
    real, calls = Backbone.encode_with_patches, iter(range(after))

    def encode(*args: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise error
        return real(*args, **options)

    return encode


def test_out_of_memory_is_a_device_error_that_says_what_to_try(short: Exception) -> None:
    with pytest.raises(OutOfMemoryError) as caught, memory_named("cuda:1", "this", ["one", "another", "a third"]):
        raise short
    assert str(caught.value) == "not enough memory on cuda:1 for this; try one, another or a third"
    assert caught.value.__cause__ is short
    assert (caught.value.code, caught.value.exit_status) == (DeviceError.code, DeviceError.exit_status)
    assert is_out_of_memory(caught.value)
    with pytest.raises(OutOfMemoryError, match=r"try one$"), memory_named("cpu", "this", ["one"]):
        raise short


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"), memory_named("cpu", "this", ["nothing"]):
        raise RuntimeError("shapes do not fit")


def test_only_what_would_change_something_is_proposed() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert remedies(gpu, torch.float32) == ["precision 'bf16'", "device 'cpu'", "a smaller model"]
    assert remedies(cpu, torch.bfloat16) == ["a smaller model"]


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_explaining_names_model_device_and_remedies(
    short: Exception, grounding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = embedded.explainer(grounding=grounding)
    monkeypatch.setattr(Backbone, "encode_with_patches", raising(short))
    with pytest.raises(OutOfMemoryError) as caught:
        explainer.explain([embedded.picture()])
    message = str(caught.value)
    assert message.startswith("not enough memory on cpu for model 'embedded/vit-s8'; try ")
    assert ("grounding 'attend'" in message) == (grounding == "prompts")
    assert "precision 'bf16'" in message
    assert "device 'cpu'" not in message  # it is there already


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stream_gives_what_it_has_before_it_runs_out_of_memory(
    short: Exception, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "encode_with_patches", raising(short, after=2))
    images = [scene.image for scene in embedded.scenes()]
    found: Iterator[Any] = embedded.explainer().stream(images, batch_size=batch_size, threads=1)
    assert isinstance(next(found), Explanation)
    with pytest.raises(OutOfMemoryError, match="not enough memory on cpu for model 'embedded/vit-s8'; try") as caught:
        list(found)
    assert ("a batch size below 2" in str(caught.value)) == (batch_size == 2)


def test_running_out_of_memory_in_a_thread_of_a_stream_is_named_too(
    short: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(*_: Any, **__: Any) -> None:
        raise short

    monkeypatch.setattr("clipmk.pipeline.encoder.segment_variants", segment)
    with pytest.raises(OutOfMemoryError):
        list(embedded.explainer().stream([embedded.scenes()[0].image], threads=1))


def test_loading_a_model_and_embedding_its_texts_explain_out_of_memory(
    short: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise short

    explainer = embedded.explainer()
    monkeypatch.setattr("clipmk.pipeline.explainer.load_bank", refuse)
    with pytest.raises(OutOfMemoryError, match="model 'embedded/vit-s8'"):
        Explainer(explainer.backbone, explainer.vocabulary, explainer.settings)
    monkeypatch.setattr("clipmk.models.loading.Backbone", refuse)
    with pytest.raises(OutOfMemoryError, match="not enough memory on cpu for model 'embedded/rn-xs'"):
        loading.load("embedded/rn-xs", device="cpu")


def test_a_shard_names_the_batch_size_of_its_study(short: Exception) -> None:
    from clipmk.study.shard_worker import _memory_named  # noqa: PLC0415

    manifest: Any = type("Manifest", (), {"batch_size": 8})
    task: Any = type("Task", (), {"manifest": manifest, "device": "cuda"})
    told = "'vit' at a batch size of 8; try --batch-size 4 in a new folder"
    with pytest.raises(OutOfMemoryError, match=told), _memory_named(task, "vit"):
        raise short
    manifest.batch_size = 1
    with pytest.raises(OutOfMemoryError, match="try --grounding attend"), _memory_named(task, "vit"):
        raise short


operations = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.booleans()), max_size=40)


@given(operations, st.integers(0, 20))
def test_a_cache_stays_within_its_budget_and_drops_the_least_recently_used_first(
    steps: list[tuple[str, int, bool]], budget: int
) -> None:
    held: LruCache[str, str] = LruCache(budget)
    used: list[str] = []  # least recently first, everything ever put and not known to be gone
    weights: dict[str, int] = {}
    for key, weight, putting in steps:
        if putting:
            held.put(key, key.upper(), weight=weight)
            weights[key] = weight
        elif held.get(key) is None:
            assert key not in held.keys
            continue
        used = [*(other for other in used if other != key), key]
        gone = [other for other in used if other not in held.keys]
        assert used[: len(gone)] == gone  # the oldest only
        used = used[len(gone) :]
        assert list(held.keys) == used
        assert held.weight == sum(weights[key] for key in used)
        assert held.weight <= budget or len(used) == 1
        if putting and gone:  # nothing was let go without need
            assert held.weight + weights[gone[-1]] > budget
