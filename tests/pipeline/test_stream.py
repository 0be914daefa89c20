"""A stream of images against explaining them one by one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import clipmk
import embedded
from clipmk.errors import ClipmkError, ImageError, UsageError
from clipmk.explanation import Explanation
from clipmk.images.decoder import Picture, read_picture
from clipmk.records import Elapsed


def images(count: int) -> list[Any]:
    return [scene.image for scene in embedded.scenes(count=6)[:count]]


def timeless(one: Explanation | ClipmkError) -> Explanation:
    assert isinstance(one, Explanation)
    return dataclasses.replace(one, elapsed_ms=Elapsed(load=0.0, explain=0.0))


def assert_streamed_alike(preset: str, count: int, **changes: Any) -> None:
    explainer = embedded.explainer(preset, **changes)
    expected = explainer.explain([read_picture(image) for image in images(count)])
    found = list(explainer.stream(images(count), batch_size=1, threads=2))
    assert [timeless(one) for one in found] == [timeless(one) for one in expected]
    assert all(isinstance(one, Explanation) and one.elapsed_ms.explain > 0 for one in found)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("preset", "count"), [("default", 4), ("paper", 2)])
def test_a_stream_with_batches_of_one_equals_explain_bit_for_bit(preset: str, count: int) -> None:
    assert_streamed_alike(preset, count)


def test_a_stream_equals_explain_with_the_number_of_threads_that_torch_chooses_itself() -> None:
    """In a process of its own, in which nobody has set the number."""
    code = (
        "import torch\n"
        "torch.set_num_threads = lambda count: None\n"  # other modules of the tests set it
        "import test_stream\n"
        "assert torch.get_num_threads() == 2\n"
        "test_stream.assert_streamed_alike('default', 6)\n"
        "test_stream.assert_streamed_alike('paper', 3, grounding='attend')\n"
    )
    folders = (str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path)
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(folders)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_batches_change_nothing_but_rounding(grounding: str) -> None:
    explainer = embedded.explainer(grounding=grounding)
    expected = explainer.explain([read_picture(image) for image in images(4)])
    for one, alone in zip(explainer.stream(images(4), batch_size=3), expected, strict=True):
        assert isinstance(one, Explanation)
        assert [part.mask for part in one.parts] == [part.mask for part in alone.parts]
        assert [c.text for c in one.vision_concepts] == [c.text for c in alone.vision_concepts]
        assert [c.importance for c in one.vision_concepts] == pytest.approx(
            [c.importance for c in alone.vision_concepts], abs=1e-4
        )
        assert one.predictions[0].probability == pytest.approx(alone.predictions[0].probability, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_image_that_cannot_be_decoded_gives_its_error_in_its_place(batch_size: int) -> None:
    explainer = embedded.explainer()
    good = images(4)
    sources = [b"first", *good[:2], b"middle", b"middle", *good[2:], b"last"]
    found = list(explainer.stream(sources, batch_size=batch_size))
    assert [isinstance(one, ImageError) for one in found] == [isinstance(source, bytes) for source in sources]
    hashes = [one.image.sha256 for one in found if isinstance(one, Explanation)]
    assert hashes == [read_picture(image).info.sha256 for image in good]


def test_a_stream_of_errors_or_of_nothing_ends() -> None:
    explainer = embedded.explainer()
    assert [type(one) for one in explainer.stream([b"no", b"image"])] == [ImageError, ImageError]
    assert list(explainer.stream([])) == []


def test_groups_are_fitted_together_as_explain_fits_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmk.pipeline.explainer.GROUP_LIMIT", 2)
    explainer = embedded.explainer("paper", grounding="attend", fit="batch")
    expected = explainer.explain([read_picture(image) for image in images(5)])
    found = list(explainer.stream(images(5), batch_size=1))
    assert [timeless(one) for one in found] == [timeless(one) for one in expected]


def test_the_first_result_comes_before_the_last_source_is_read() -> None:
    explainer, read = embedded.explainer(), list[int]()
    image = images(1)[0]

    def reading(number: int) -> Picture:
        read.append(number)
        return read_picture(image)

    results = explainer.stream(range(100), read=reading, batch_size=2, threads=2)
    assert isinstance(next(results), Explanation)
    assert len(read) < 20
    results.close()  # type: ignore[attr-defined] # it is a generator


def test_a_stream_that_is_left_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    results = embedded.explainer().stream(images(1) * 50, threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined] # it is a generator
    assert set(threading.enumerate()) <= before


def test_what_cannot_be_is_refused_at_once() -> None:
    explainer = embedded.explainer()
    with pytest.raises(UsageError, match="batch_size is 0; it must be at least 1"):
        explainer.stream([], batch_size=0)
    with pytest.raises(UsageError, match="snowmen"):
        explainer.stream([], target="snowmen")


def test_a_stream_explains_the_target_and_keeps_pictures_only_if_asked() -> None:
    explainer = embedded.explainer()
    (kept,) = explainer.stream(images(1), target="bird")
    (bare,) = explainer.stream(images(1), target="bird", keep_pictures=False)
    assert isinstance(kept, Explanation)
    assert isinstance(bare, Explanation)
    assert kept.class_name == "bird"
    assert kept.picture is not None
    assert bare.picture is None
    assert timeless(bare) == timeless(kept)


def test_the_library_streams_with_one_call() -> None:
    (found, failed) = clipmk.explain_stream([images(1)[0], b""], embedded.backbone(), vocabulary="world")
    assert timeless(found) == timeless(clipmk.explain(images(1)[0], embedded.backbone(), vocabulary="world"))
    assert isinstance(failed, ImageError)
