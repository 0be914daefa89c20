"""Requests against the real models, in this process: the answers are the library's, and nothing stops the service."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clipmk
from clipmk.backbones import library
from clipmk.backbones.backbone import Backbone
from clipmk.errors import ModelError
from clipmk.explanation import Explanation
from clipmk.models import loading
from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.jobs import INTERVAL, Job
from clipmk.worker.protocol import Compare, Explain, ExplainImages, Load, WhatIf
from conversation import VIT, Conversation, Recorder

pytestmark = pytest.mark.usefixtures("clean", "loaded_once")


def timeless(explanation: Explanation) -> Explanation:
    return dataclasses.replace(explanation, elapsed_ms=None, picture=None)  # type: ignore[arg-type]


def test_a_loaded_model_is_described_after_progress_on_loading() -> None:
    talk = Conversation()
    answer = talk.ask(Load(model=VIT))
    backbone = clipmk.load(VIT, device="cpu")
    assert isinstance(answer, protocol.Loaded)
    assert answer.model == backbone.info
    assert answer.classes == clipmk.load_vocabulary("world").classes
    assert (answer.descriptor_count, answer.device) == (650, "cpu")
    assert talk.stages()[0] == ("loading", 0, 0)
    talk.ask(Load(model=VIT))
    assert talk.stages() == []  # it is held


def test_an_explanation_is_the_librarys(images: list[str]) -> None:
    talk = Conversation()
    talk.ask(Load(model=VIT))
    for target, stages in ((None, [("image", 0, 1), ("image", 1, 1), ("parts", 1, 1)]), ("cat", [])):
        answer = talk.ask(Explain(model=VIT, image=images[0], target=target))
        assert timeless(answer.explanation) == timeless(clipmk.explain(images[0], VIT, target=target))
        assert answer.explanation.picture is None
        assert talk.stages() == stages  # another target needs no forward


def test_classes_of_the_session_replace_the_vocabularys(images: list[str]) -> None:
    answer = Conversation(classes="cat,fox").ask(Explain(model=VIT, image=images[0]))
    assert {prediction.class_name for prediction in answer.explanation.predictions} == {"cat", "fox"}


def test_prompts_report_progress(images: list[str]) -> None:
    talk = Conversation(settings=preset("paper"))
    parts = len(talk.ask(Explain(model=VIT, image=images[0])).explanation.parts)
    prompts = [(done, total) for stage, done, total in talk.stages() if stage == "prompts"]
    assert prompts[-1] == (3 * parts, 3 * parts)
    assert talk.stages()[-1][0] == "prompts"


def test_a_what_if_is_the_librarys_and_needs_no_new_explanation(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmk.images.decoder import read_picture  # noqa: PLC0415
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    talk = Conversation()
    explanation = talk.ask(Explain(model=VIT, image=images[1])).explanation
    left_out = tuple(concept.text for concept in explanation.vision_concepts[:3])
    explainer = Explainer(clipmk.load(VIT, device="cpu"), clipmk.load_vocabulary("world"), preset("default"))
    expected = explainer.predict_without(read_picture(images[1]), explanation, left_out)
    assert expected != explanation.predictions
    restarted = Conversation()
    again = restarted.ask(WhatIf(model=VIT, image=images[1], left_out=left_out))
    monkeypatch.setattr(Explainer, "encode_picture", None)
    for target in (None, explanation.predictions[1].class_name):
        answer = talk.ask(WhatIf(model=VIT, image=images[1], target=target, left_out=left_out))
        assert (answer.left_out, answer.predictions) == (left_out, expected)
    assert again.predictions == expected


def test_a_concept_that_was_not_seen_cannot_be_left_out(images: list[str]) -> None:
    answer = Conversation().ask(WhatIf(model=VIT, image=images[1], left_out=("a nonsense",)))
    assert (answer.code, "a nonsense" in answer.message) == ("usage", True)


def test_more_classes_are_ranked_than_have_alternatives_and_the_named_ones_wherever_they_are(images: list[str]) -> None:
    talk = Conversation()
    plain = talk.ask(Explain(model=VIT, image=images[0])).explanation
    whole = talk.ask(Explain(model=VIT, image=images[0], ranked=1_000)).explanation
    assert [one.rank for one in whole.predictions] == [*range(1, 30)]
    assert whole.predictions[:5] == plain.predictions
    assert whole.alternatives == plain.alternatives
    last, before = (one.class_name for one in reversed(whole.predictions[-2:]))
    some = talk.ask(Explain(model=VIT, image=images[0], target=last, also=(before,), ranked=7)).explanation
    assert [one.rank for one in some.predictions] == [*range(1, 8), 28, 29]
    talk.ask(Compare(models=(VIT,), image=images[0], also=(before,), ranked=7))
    (column,) = talk.received(protocol.ColumnReady)
    assert [one.rank for one in column.explanation.predictions] == [*range(1, 8), 28]
    assert clipmk.explain(images[0], VIT, target=last).predictions[5:] == whole.predictions[-1:]


def test_an_image_that_was_made_ready_for_texts_is_not_encoded_for_them(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Conversation()
    plain = talk.ask(Explain(model=VIT, image=images[0])).explanation
    assert timeless(talk.ask(Explain(model=VIT, image=images[0], maps=True)).explanation) == timeless(plain)
    monkeypatch.setattr(Backbone, "encode_images", None)
    found = talk.ask(Explain(model=VIT, image=images[0], asks=("snow",))).explanation
    monkeypatch.undo()
    assert timeless(found) == timeless(clipmk.ask(images[0], VIT, "snow"))


def test_words_and_classes_of_ones_own_take_no_further_forward_and_no_further_load(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

    talk, texts = Conversation(), ("round ears", "snow")
    talk.ask(Explain(model=VIT, image=images[0]))
    monkeypatch.setattr(Explainer, "encode_picture", None)
    monkeypatch.setattr(loading, "load", None)
    found = talk.ask(Explain(model=VIT, image=images[0], asks=texts)).explanation
    added = Conversation(talk.service, added_classes=("a red wolf", "cat"))
    extended = added.ask(Explain(model=VIT, image=images[0], target="a red wolf", asks=texts)).explanation
    classes = added.ask(Load(model=VIT)).classes
    added.ask(Compare(models=(VIT,), image=images[0], asks=texts))
    monkeypatch.undo()
    assert timeless(found) == timeless(clipmk.ask(images[0], VIT, texts))
    alone = clipmk.ask(images[0], VIT, texts, add_classes=["a red wolf"], target="a red wolf")
    assert timeless(extended) == timeless(alone)
    (column,) = added.received(protocol.ColumnReady)
    assert [one.text for one in column.explanation.asked] == list(texts)
    assert classes == (*clipmk.load_vocabulary("world").classes, "a red wolf")


def test_a_text_that_cannot_be_asked_fails_the_request(images: list[str]) -> None:
    answer = Conversation().ask(Explain(model=VIT, image=images[0], asks=("snow", " ")))
    assert (answer.code, answer.message) == ("vocabulary", "text 2 is blank")


def test_a_changed_file_is_explained_again(tmp_path: Path, scene_files: list[Path]) -> None:
    path, talk = tmp_path / "x.png", Conversation()
    found = []
    for number, scene in enumerate(scene_files[:2]):
        path.write_bytes(scene.read_bytes())
        os.utime(path, ns=(number, number))
        found.append(talk.ask(Explain(model=VIT, image=str(path))).explanation)
    assert found[0].image.sha256 != found[1].image.sha256
    assert talk.ask(Explain(model=VIT, image=str(path))).explanation is found[1]


def test_a_comparison_has_a_column_per_model_and_a_broken_one_costs_only_its_own(
    images: list[str], tiny_model: str
) -> None:
    talk = Conversation()
    models = (VIT, "no-such-model", tiny_model, VIT)
    answer = talk.ask(Compare(models=models, image=images[0]))
    columns = talk.received(protocol.ColumnReady)
    assert answer.count == len(columns) == 4
    assert tuple(column.model for column in columns) == models
    assert (columns[1].explanation, columns[1].code) == (None, "model")
    assert "no-such-model" in columns[1].message
    for index in (0, 2, 3):
        expected = clipmk.explain(images[0], models[index], vocabulary="world")
        assert timeless(columns[index].explanation) == timeless(expected)
        assert (columns[index].code, columns[index].message) == (None, None)
    talk.ask(Compare(models=(VIT, tiny_model), image=images[0], target="cat"))
    assert [column.explanation.class_name for column in talk.received(protocol.ColumnReady)] == ["cat", "cat"]


def test_images_that_cannot_be_explained_do_not_stop_the_others(tmp_path: Path, images: list[str]) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    every = (*images, str(broken), "missing.png", *images)
    for stream in (False, True):
        talk = Conversation()
        answer = talk.ask(ExplainImages(model=VIT, images=every, stream=stream))
        found = talk.received(protocol.ImageExplained)
        assert answer.count == len(every) == len(found)
        for image, one in zip(every, found, strict=True):
            if image in images:
                assert one.explanation.class_name == clipmk.explain(image, VIT).class_name
            else:
                assert one.explanation is None
                assert Path(image).name in one.message


def test_models_are_listed_embedded_ones_first() -> None:
    answer = Conversation().ask(protocol.ListModels())
    assert answer.models[0].source == "embedded"
    assert VIT in [entry.id for entry in answer.models]
    assert any(entry.source == "remote" for entry in answer.models)


@pytest.mark.parametrize(
    ("session", "request_", "code", "words"),
    [
        ({}, Explain(model=VIT, image="missing.png"), "image", "missing.png"),
        ({}, Explain(model=VIT, image="a\0b.png"), "image", "a"),
        ({}, Compare(models=(VIT,), image="missing.png"), "image", "missing.png"),
        ({}, Explain(model=VIT, image="missing.png", target="fxo"), "usage", "close: 'fox'"),
        ({"vocabulary": "wrold"}, Load(model=VIT), "usage", "close: 'world'"),
        ({"classes": "a,,b"}, Load(model=VIT), "vocabulary", "is blank"),
    ],
)
def test_a_typo_fails_before_a_model_is_loaded(
    session: Any, request_: Any, code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", None)
    answer = Conversation(**session).ask(request_)
    assert (type(answer), answer.code) == (protocol.Failed, code)
    assert words in answer.message


# Cancelling.


def test_a_request_cancelled_before_it_begins_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Conversation()
    answer = talk.ask(Load(model=VIT), cancelled=True)
    assert talk.sent == []
    assert (answer.code, answer.id) == (protocol.CANCELLED, 1)
    assert isinstance(talk.ask(Load(model=VIT)), protocol.Loaded)


@pytest.mark.parametrize("stage", ["loading", "image", "parts", "prompts"])
def test_cancelling_takes_effect_at_the_next_step(stage: str, images: list[str]) -> None:
    talk = Conversation(settings=preset("paper"))

    def cancel(answer: Any) -> None:
        if isinstance(answer, protocol.Progress) and answer.stage == stage:
            talk.cancel()

    talk.hook = cancel
    request = Explain(model=VIT, image=images[0])
    answer = talk.ask(request)
    assert (type(answer), answer.code) == (protocol.Failed, protocol.CANCELLED)
    assert [sent[0] for sent in talk.stages()].count(stage) == 1
    assert talk.stages()[-1][0] == stage
    talk.hook = lambda answer: None
    assert isinstance(talk.ask(request), protocol.Explained)


def test_cancelling_ends_the_wait_for_an_import(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, imported = Conversation(), threading.Event()

    def importing() -> None:
        talk.cancel()
        imported.wait(120)

    with monkeypatch.context() as patch:
        patch.setattr(library, "open_clip", importing)
        assert talk.ask(Load(model=tiny_model)).code == protocol.CANCELLED
    assert not imported.is_set()
    imported.set()
    assert isinstance(talk.ask(Load(model=tiny_model)), protocol.Loaded)


def test_an_error_in_an_import_fails_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ModelError("no open_clip")

    monkeypatch.setattr(library, "open_clip", fails)
    answer = Conversation().ask(Load(model="ViT-B-32:random"))
    assert (answer.code, answer.message) == ("model", "no open_clip")


def test_embedding_texts_can_be_cancelled(tiny_model: str) -> None:
    talk = Conversation(cache=False)
    talk.hook = lambda answer: talk.cancel() if getattr(answer, "stage", "") == "texts" else None
    assert talk.ask(Load(model=tiny_model)).code == protocol.CANCELLED
    assert talk.service.models == ()
    talk.hook = lambda answer: None
    assert isinstance(talk.ask(Load(model=tiny_model)), protocol.Loaded)


def test_many_images_and_a_comparison_end_between_their_items(images: list[str], tiny_model: str) -> None:
    talk = Conversation()
    talk.hook = lambda answer: (
        talk.cancel() if isinstance(answer, protocol.ImageExplained | protocol.ColumnReady) else None
    )
    assert talk.ask(ExplainImages(model=VIT, images=tuple(images) * 40)).code == protocol.CANCELLED
    assert 1 <= len(talk.received(protocol.ImageExplained)) <= 8
    assert talk.ask(Compare(models=(VIT, tiny_model), image=images[0])).code == protocol.CANCELLED
    assert len(talk.received(protocol.ColumnReady)) == 1


# Progress and imports.


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=60))
def test_progress_is_sent_first_last_and_seldom_between(steps: list[float]) -> None:
    now, sent = 0.0, []
    talk = Conversation()
    talk.hook = lambda progress: sent.append((progress.done, now))
    job = Job(Load(id=1, model=VIT), talk.session, Recorder(talk.keep), clock=lambda: now)
    for done, step in enumerate(steps, 1):
        now += step
        job.report("texts", done, len(steps))
    assert sent[0][0] == 1
    assert sent[-1][0] == len(steps)
    for (_, before), (done, after) in itertools.pairwise(sent):
        assert done == len(steps) or after - before >= INTERVAL
    assert len(sent) <= now / INTERVAL + 2
    job.report("image", 0, 5)
    assert talk.sent[-1].stage == "image"  # another stage


def test_loading_is_reported_before_anything_heavy_is_imported() -> None:
    code = (
        "import asyncio, sys; sys.path[:0] = sys.argv[1:]\nfrom clipmk.worker import pipe, protocol\n"
        "from conversation import Conversation\n"
        "def stop(answer):\n    print(answer.stage, *sys.modules)\n    sys.exit(0)\n"
        "talk = Conversation()\ntalk.hook = stop\n"
        "asyncio.run(talk.queue(protocol.Load(model='embedded/vit-s8')))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    stage, *modules = ran.stdout.split()
    assert stage == "loading"
    assert not {"torch", "numpy", "PIL", "open_clip", "cv2"} & set(modules)
