"""Images explained for scripts: what is kept between requests of several clients, and when it is kept no longer."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clipmk.errors import ClipmkError, OutOfMemoryError
from clipmk.models import loading
from clipmk.models.loading import load as real_load
from clipmk.settings import preset
from clipmk.system.locations import assets_dir
from clipmk.worker import explainers, protocol
from clipmk.worker.protocol import Done, ExplainImages, Failed, ImageExplained
from clipmk.worker.service import Service
from conversation import Conversation

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
def talk(scene_files: list[Path], tmp_path: Path) -> Callable[..., Conversation]:
    """Conversations of clients in the test's folder, in which the picture is called fox.png."""
    shutil.copy(scene_files[0], tmp_path / "fox.png")
    base: dict[str, Any] = {"folder": str(tmp_path), "vocabulary": None}
    return lambda service=None, **session: Conversation(service, **{**base, **session})


def results(talk: Conversation, *, images: tuple[str, ...] = ("fox.png",), attached: bytes = b"", **more: Any) -> Any:
    """All answers but signs of life."""
    request = ExplainImages(**{"model": SMALL, "images": images, "attached": len(attached), **more})
    final = talk.ask(request, attached=attached)
    return [*talk.received(ImageExplained), final]


def test_a_model_is_loaded_once_for_all_clients_whatever_their_settings(
    loads: list[str], talk: Callable[..., Conversation]
) -> None:
    service = Service()
    counts = [2, 3, 2]
    made = [results(talk(service, settings=preset("default", prediction_count=count))) for count in counts]
    found = [result.explanation for result, _ in made]
    assert [len(one.predictions) for one in found] == counts
    assert [one.image.path for one in found] == ["fox.png"] * 3
    assert found[0].vision_concepts == found[2].vision_concepts
    app = Conversation(service)
    assert isinstance(app.ask(protocol.Load(model=SMALL)), protocol.Loaded)
    assert (loads, service.models) == ([SMALL], (SMALL,))


def test_answers_depend_on_the_clients_own_session(
    loads: list[str], talk: Callable[..., Conversation], tmp_path: Path
) -> None:
    service = Service()
    explain = protocol.Explain(model=SMALL, image="fox.png")
    few = talk(service, settings=preset("default", prediction_count=2)).ask(explain).explanation
    many = talk(service, settings=preset("default", prediction_count=4)).ask(explain).explanation
    chosen = talk(service, classes="cat,dog").ask(explain).explanation
    assert (len(few.predictions), len(many.predictions)) == (2, 4)
    assert {one.class_name for one in chosen.predictions} == {"cat", "dog"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    missing = talk(service, folder=str(elsewhere)).ask(explain)
    assert missing.code == "image"


def test_file_names_are_relative_to_the_clients_folder(
    loads: list[str], talk: Callable[..., Conversation], tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("fox\ncat\n", encoding="utf-8")
    data = (tmp_path / "fox.png").read_bytes()
    names = ("fox.png", "gone.png", "-")
    first, second, third, done = results(talk(classes="classes.txt"), images=names, attached=data)
    assert (type(done), done.count) == (Done, 3)
    assert {one.class_name for one in first.explanation.predictions} == {"fox", "cat"}
    message = "image 'gone.png' does not exist; close: 'fox.png'"
    assert second == ImageExplained(id=1, explanation=None, code="image", message=message)
    assert third.explanation.image.path == "-"
    assert third.explanation.image.sha256 == first.explanation.image.sha256
    assert first.explanation.picture is None
    assert os.getcwd() == "/"  # noqa: PTH109


def test_a_changed_class_list_is_read_again(
    loads: list[str], talk: Callable[..., Conversation], tmp_path: Path
) -> None:
    service = Service()
    for names in ("fox\ncat\n", "dog\n"):
        (tmp_path / "classes.txt").write_text(names, encoding="utf-8")
        (found, _) = results(talk(service, classes="classes.txt"))
        assert {one.class_name for one in found.explanation.predictions} == set(names.split())


def test_changed_weights_are_loaded_again(loads: list[str], talk: Callable[..., Conversation], tmp_path: Path) -> None:
    mine = talk(vocabulary="world")
    for name in ("vit-xs8-48", "vit-xs8-48-b"):
        shutil.copytree(assets_dir() / "models" / name, tmp_path / "mine", dirs_exist_ok=True)
        os.utime(tmp_path / "mine" / "open_clip_model.safetensors", ns=(0, len(name)))
        (found, _) = results(mine, model="local-dir:mine")
        assert found.explanation.model.weights_sha256 == _sha256(tmp_path / "mine" / "open_clip_model.safetensors")
    results(mine, model="local-dir:mine")
    assert loads == ["local-dir:mine"] * 2


def _sha256(path: Path) -> str:
    from clipmk.models.checkpoints import file_sha256  # noqa: PLC0415

    return file_sha256(path)


@pytest.mark.parametrize(
    ("session", "request_", "code"),
    [
        ({}, {"model": "embedded/vit-xs9"}, "model"),
        ({}, {"target": "no such class"}, "usage"),
        ({"vocabulary": "no.json"}, {}, "vocabulary"),
        ({"precision": "fp99"}, {}, "device"),
        ({"folder": "/no/such/folder"}, {}, "input"),
    ],
)
def test_what_cannot_be_done_fails_as_a_whole(
    loads: list[str], talk: Callable[..., Conversation], session: dict[str, Any], request_: dict[str, Any], code: str
) -> None:
    (answer,) = results(talk(**session), **request_)
    assert isinstance(answer, Failed)
    assert answer.code == code


def test_models_beyond_the_budget_are_unloaded(
    loads: list[str], talk: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainers, "device_memory", lambda device: 0)
    client = talk()
    for model in (SMALL, "embedded/vit-xs8-48-b"):
        results(client, model=model)
        assert client.service.models == (model,)


@pytest.mark.parametrize("short", [torch.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError("too small")])
def test_a_lack_of_memory_unloads_all_models_and_fails_the_request(
    loads: list[str], talk: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch, short: Exception
) -> None:
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    def explain(*arguments: Any, **options: Any) -> Any:
        raise short

    client = talk()
    results(client)
    with monkeypatch.context() as patched:
        patched.setattr(Explainer, "explain", explain)
        (answer,) = results(client)
    assert (answer.code, client.service.models) == ("memory", ())
    assert isinstance(results(client)[0], ImageExplained)


@pytest.fixture
def overflowing(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model embeds its images as NaN."""
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
def test_an_image_that_cannot_be_embedded_fails_in_its_place(
    loads: list[str], talk: Callable[..., Conversation]
) -> None:
    client = talk()
    for _ in range(2):
        found, done = results(client)
        assert (found.explanation, found.code, isinstance(done, Done)) == (None, "model", True)
        assert "for this image in precision fp32 is not finite" in found.message
    assert loads == [SMALL]


@pytest.mark.usefixtures("overflowing")
def test_each_of_several_images_that_cannot_be_embedded_fails_in_its_place(
    loads: list[str], talk: Callable[..., Conversation]
) -> None:
    *found, done = results(talk(), images=("fox.png", "fox.png"), stream=True)
    assert [(one.explanation, one.code) for one in found] == [(None, "model")] * 2
    assert isinstance(done, Done)


def test_some_of_many_images_are_explained_as_the_library_streams_them(
    loads: list[str],
    two_threads: None,
    talk: Callable[..., Conversation],
    images: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import clipmk  # noqa: PLC0415
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    streamed: list[Explainer] = []  # one after the other would give the same bits
    real = Explainer.stream
    monkeypatch.setattr(Explainer, "stream", lambda self, *a, **k: streamed.append(self) or real(self, *a, **k))
    names = (images[0], "gone.png", images[1])
    *found, done = results(talk(added_classes=("wolf",)), images=names, stream=True, asks=("snow",))
    assert (done.count, found[1].code, len(streamed)) == (3, "image", 1)
    vocabulary = clipmk.load_vocabulary("world")
    vocabulary = vocabulary.with_classes((*vocabulary.classes, "wolf"))
    explainer = Explainer(clipmk.load(SMALL, device="cpu"), vocabulary, preset("default"))
    streaming = explainer.stream(images, keep_pictures=False, asks=("snow",))
    expected = [one for one in streaming if not isinstance(one, ClipmkError)]
    for one, other in zip((found[0], found[2]), expected, strict=False):
        assert dataclasses.replace(one.explanation, elapsed_ms=other.elapsed_ms) == other


def test_a_cancelled_request_ends_before_its_next_step(loads: list[str], talk: Callable[..., Conversation]) -> None:
    client = talk()
    results(client)
    client.hook = lambda answer: client.cancel()
    (answer,) = results(client)
    assert answer.code == protocol.CANCELLED
    assert [stage for stage, _, _ in client.stages()] == ["image"]
    client.hook = lambda answer: None
    assert isinstance(results(client)[0], ImageExplained)
