"""What the server keeps between orders, and when it must not be kept any longer."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clipmk.errors import OutOfMemoryError
from clipmk.models import loading
from clipmk.models.loading import load as real_load
from clipmk.settings import preset
from clipmk.system.locations import assets_dir
from clipmk.worker import workshop
from clipmk.worker.messages import Declined, Done, Order, Result, Working
from clipmk.worker.workshop import AbandonedError, Workshop
from serving import order

pytestmark = pytest.mark.usefixtures("clean")

SMALL = "embedded/vit-xs8-48"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were really loaded."""
    torch.set_num_threads(1)
    seen: list[str] = []

    def load(model: str, **options: Any) -> Any:
        seen.append(model)
        return real_load(model, **options)

    monkeypatch.setattr(loading, "load", load)
    return seen


@pytest.fixture
def wanted(scene_files: list[Path], tmp_path: Path) -> Callable[..., Order]:
    """An order from the test's folder, in which the picture is called fox.png."""
    shutil.copy(scene_files[0], tmp_path / "fox.png")
    base = dataclasses.replace(order("fox.png", model=SMALL), folder=str(tmp_path), device="cpu")
    return lambda **changes: dataclasses.replace(base, **changes)


def results(shop: Workshop, wanted: Order, attached: bytes = b"") -> list[Any]:
    """All answers but signs of life."""
    answers: list[Any] = []
    shop.work(wanted, attached, answers.append)
    return [answer for answer in answers if not isinstance(answer, Working)]


def test_a_model_is_loaded_once_whatever_the_settings(loads: list[str], wanted: Callable[..., Order]) -> None:
    shop = Workshop()
    counts = [2, 3, 2]
    made = [results(shop, wanted(settings=preset("default", prediction_count=count))) for count in counts]
    found = [result.explanation for result, _ in made]
    assert [len(one.predictions) for one in found] == counts
    assert [one.image.path for one in found] == ["fox.png"] * 3
    assert found[0].vision_concepts == found[2].vision_concepts
    assert (loads, shop.models) == ([SMALL], (SMALL,))


def test_names_mean_what_they_mean_to_the_client(
    loads: list[str], wanted: Callable[..., Order], tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("fox\ncat\n", encoding="utf-8")
    data = (tmp_path / "fox.png").read_bytes()
    answers = results(Workshop(), wanted(images=("fox.png", "gone.png", "-"), classes="classes.txt"), data)
    assert isinstance(answers[-1], Done)
    first, second, third = answers[:3]
    assert {one.class_name for one in first.explanation.predictions} == {"fox", "cat"}
    assert second == Result(explanation=None, code="image", message="image 'gone.png' does not exist; close: 'fox.png'")
    assert third.explanation.image.path == "-"
    assert third.explanation.image.sha256 == first.explanation.image.sha256
    assert first.explanation.picture is None
    assert os.getcwd() == "/"  # noqa: PTH109


def test_a_changed_class_list_is_read_again(loads: list[str], wanted: Callable[..., Order], tmp_path: Path) -> None:
    shop = Workshop()
    for names in ("fox\ncat\n", "dog\n"):
        (tmp_path / "classes.txt").write_text(names, encoding="utf-8")
        (found, _) = results(shop, wanted(classes="classes.txt"))
        assert {one.class_name for one in found.explanation.predictions} == set(names.split())


def test_changed_weights_are_loaded_again(loads: list[str], wanted: Callable[..., Order], tmp_path: Path) -> None:
    shop, mine = Workshop(), wanted(model="local-dir:mine", vocabulary="world")
    for name in ("vit-xs8-48", "vit-xs8-48-b"):
        shutil.copytree(assets_dir() / "models" / name, tmp_path / "mine", dirs_exist_ok=True)
        os.utime(tmp_path / "mine" / "open_clip_model.safetensors", ns=(0, len(name)))
        (found, _) = results(shop, mine)
        assert found.explanation.model.weights_sha256 == _sha256(tmp_path / "mine" / "open_clip_model.safetensors")
    results(shop, mine)
    assert loads == ["local-dir:mine"] * 2


def _sha256(path: Path) -> str:
    from clipmk.models.fingerprint import file_sha256  # noqa: PLC0415

    return file_sha256(path)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "embedded/vit-xs9"}, "model"),
        ({"target": "no such class"}, "usage"),
        ({"vocabulary": "no.json"}, "vocabulary"),
        ({"precision": "fp99"}, "device"),
        ({"folder": "/no/such/folder"}, "input"),
    ],
)
def test_what_cannot_be_done_is_declined(
    loads: list[str], wanted: Callable[..., Order], changes: dict[str, Any], code: str
) -> None:
    (answer,) = results(Workshop(), wanted(**changes))
    assert isinstance(answer, Declined)
    assert answer.code == code


def test_models_beyond_the_budget_are_let_go(
    loads: list[str], wanted: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "device_memory", lambda device: 0)
    shop = Workshop()
    for model in (SMALL, "embedded/vit-xs8-48-b"):
        results(shop, wanted(model=model))
        assert shop.models == (model,)


@pytest.mark.parametrize("short", [torch.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError("too small")])
def test_a_lack_of_memory_lets_all_models_go_and_is_declined(
    loads: list[str], wanted: Callable[..., Order], monkeypatch: pytest.MonkeyPatch, short: Exception
) -> None:
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    def explain(*arguments: Any, **options: Any) -> Any:
        raise short

    shop = Workshop()
    results(shop, wanted())
    with monkeypatch.context() as patched:
        patched.setattr(Explainer, "explain", explain)
        (answer,) = results(shop, wanted())
    assert (answer.code, shop.models) == ("memory", ())
    assert isinstance(results(shop, wanted())[0], Result)


@pytest.fixture
def overflowing(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model embeds its images as no number."""
    real_load = loading.load

    def load(model: str, **options: Any) -> Any:
        made: Any = real_load(model, **options)
        encode = made.encode_with_patches

        def encoded(*arguments: Any, **named: Any) -> Any:
            found = encode(*arguments, **named)
            return dataclasses.replace(found, embeddings=torch.full_like(found.embeddings, torch.nan))

        monkeypatch.setattr(made, "encode_with_patches", encoded)
        return made

    monkeypatch.setattr(loading, "load", load)


@pytest.mark.usefixtures("overflowing")
def test_an_image_that_cannot_be_embedded_is_told_in_its_place(loads: list[str], wanted: Callable[..., Order]) -> None:
    shop = Workshop()
    for _ in range(2):
        found, done = results(shop, wanted())
        assert (found.explanation, found.code, isinstance(done, Done)) == (None, "model", True)
        assert "makes of this image in precision fp32 is not finite" in found.message
    assert loads == [SMALL]


@pytest.mark.usefixtures("overflowing")
def test_which_of_several_images_cannot_be_embedded_is_for_the_client_to_find_out(wanted: Callable[..., Order]) -> None:
    (answer,) = results(Workshop(), wanted(images=("fox.png", "fox.png")))
    assert isinstance(answer, Declined)
    assert answer.code == "model"


def test_an_order_that_nobody_waits_for_ends_at_the_next_border(loads: list[str], wanted: Callable[..., Order]) -> None:
    shop = Workshop()
    results(shop, wanted())
    asked: list[None] = []

    def abandoned() -> bool:
        asked.append(None)
        return len(asked) > 2

    answers: list[Any] = []
    with pytest.raises(AbandonedError):
        shop.work(wanted(), b"", answers.append, abandoned)
    assert all(isinstance(answer, Working) for answer in answers)
    assert isinstance(results(shop, wanted())[0], Result)
