"""Images for which half precision overflows: each has an error of its own, the others go on."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import embedded
from clipmk.concepts.superpixels import WorkingCopy
from clipmk.errors import InputError, ModelError
from clipmk.evaluate import harness
from clipmk.evaluate.samples import open_images, rendered_scenes
from clipmk.evaluate.variants import VariantRunner, variants
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.models.loading import load
from clipmk.pipeline.builder import ExplanationBuilder
from clipmk.pipeline.encoder import BatchEncoder
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.segmentation import part_variants
from clipmk.settings import preset
from clipmk.study import schema
from clipmk.study.shard_worker import ShardExplainer
from clipmk.vocabulary.vocabulary import load_vocabulary

BAD = embedded.flat((200, 40, 40))
"""The picture that overflows in these tests."""

WHAT = ("embeddings", "patches", "both")


def overflow(values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Infinite in the rows of pictures of one colour."""
    flat = pixels.flatten(2).float().std(dim=2).sum(dim=1) < 1e-3
    changed = values.clone()
    changed[flat] = math.inf
    return changed


@pytest.fixture(params=WHAT)
def overflowing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The embedded model, unable to embed `BAD`."""
    backbone: Any = embedded.backbone()
    encoder, what = backbone.images, request.param
    encode, embed = encoder.encode, encoder.embed

    def encoded(pixels: torch.Tensor, features: Any) -> Any:
        raw = encode(pixels, features)
        names = ("embeddings", "patches") if what == "both" else (what,)
        return dataclasses.replace(raw, **{name: overflow(getattr(raw, name), pixels) for name in names})

    monkeypatch.setattr(encoder, "encode", encoded)
    if what != "patches":
        monkeypatch.setattr(encoder, "embed", lambda pixels: overflow(embed(pixels), pixels))
    monkeypatch.setattr(backbone, "_pooling_checked", False)  # pooling has not been tried yet
    return str(what)


MESSAGE = (
    "the output of 'embedded/vit-s8' for this image in precision fp32 is not finite; "
    "its weights are damaged, or the pixels are not finite"
)


@pytest.mark.parametrize(
    ("dtype", "name", "remedy"),
    [
        (torch.float16, "fp16", "try precision bf16 or fp32"),
        (torch.bfloat16, "bf16", "try precision fp32"),
        (torch.float32, "fp32", "its weights are damaged, or the pixels are not finite"),
    ],
)
def test_the_error_names_model_and_precision(
    dtype: torch.dtype, name: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = embedded.backbone()
    monkeypatch.setattr(backbone, "dtype", dtype)
    backbone.check_finite(torch.ones(2), torch.zeros(0))
    for bad in (math.inf, -math.inf, math.nan):
        with pytest.raises(ModelError) as caught:
            backbone.check_finite(torch.ones(2), torch.tensor([1.0, bad]))
        assert str(caught.value) == (
            f"the output of 'embedded/vit-s8' for this image in precision {name} is not finite; {remedy}"
        )


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_explaining_such_an_image_says_so(overflowing: str, grounding: str) -> None:
    explainer = embedded.explainer(grounding=grounding)
    for _ in range(2):
        with pytest.raises(ModelError, match=MESSAGE):
            explainer.explain([read_picture(BAD)])
    good = explainer.explain([embedded.picture()])[0]
    assert math.isfinite(good.predictions[0].probability)


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_the_users_own_parts_do_not_hide_it(overflowing: str, grounding: str) -> None:
    if overflowing == "patches":
        pytest.skip("nothing reads the patches where the parts are given")
    explainer = embedded.explainer(grounding=grounding)
    with pytest.raises(ModelError, match=MESSAGE):
        explainer.explain([read_picture(BAD)], masks=[np.ones((1, *BAD.shape[:2]), dtype=bool)])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "changes", [{}, {"grounding": "prompts"}, {"fit": "batch"}], ids=["attend", "prompts", "batch"]
)
def test_in_a_stream_it_is_the_error_of_that_image_alone(
    overflowing: str, changes: dict[str, Any], batch_size: int
) -> None:
    explainer = embedded.explainer(**changes)
    good = [scene.image for scene in embedded.scenes(count=3)]
    expected = list(explainer.stream(good, batch_size=batch_size))
    found = list(explainer.stream([BAD, good[0], BAD, *good[1:]], batch_size=batch_size))
    for index in (0, 2):
        assert isinstance(found[index], ModelError)
        assert str(found[index]) == MESSAGE
    for one, alone in zip([found[1], *found[3:]], expected, strict=True):
        assert isinstance(one, Explanation)
        assert isinstance(alone, Explanation)
        assert [part.mask for part in one.parts] == [part.mask for part in alone.parts]
        assert one.predictions[0].probability == pytest.approx(alone.predictions[0].probability, abs=1e-4)
        one.to_json()


def test_in_a_study_it_is_the_error_of_that_image_alone(overflowing: str) -> None:
    explainer = embedded.explainer()
    pictures = [read_picture(image) for image in (embedded.scenes()[0].image, BAD)]
    squares = np.stack([explainer.square(picture) for picture in pictures])
    with ThreadPoolExecutor(2) as workers:
        builder = ExplanationBuilder(explainer.backbone, explainer.vocabulary, explainer.bank, explainer.settings)
        variants = part_variants(explainer.settings, ("kmeans", "superpixels"))
        encoder = BatchEncoder(explainer.backbone, variants, 2, workers)
        [[first, second]] = ShardExplainer(encoder, builder).explain(
            squares, [0, 1], [None, None], [WorkingCopy(one) for one in squares]
        )
        good, bad = first.result(), second.result()
    assert bad == [{"parts": way, "error": MESSAGE} for way in ("kmeans", "superpixels")]
    assert [row["parts"] for row in good] == ["kmeans", "superpixels"]
    assert all(math.isfinite(row["probability"]) for row in good)
    assert set(bad[0]) <= set(schema.IMAGE.names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images that can be embedded, and between them one that cannot."""
    good = [scene.image for scene in embedded.scenes(count=2)]
    for name, image in zip("abc", (good[0], BAD, good[1]), strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    return tmp_path


def faithfulness(folder: Path) -> Any:
    words = load_vocabulary("world")
    return harness.run(
        embedded.backbone(),
        words,
        [open_images(str(folder), words)],
        variants=variants(["default", "paper"], ["attend"]),
        measures=["faithfulness"],
    )["faithfulness"]


@pytest.mark.usefixtures("clean")
def test_in_an_evaluation_that_image_alone_is_skipped(overflowing: str, folder: Path) -> None:
    found = faithfulness(folder)
    (used,) = found.data
    (skipped,) = used.skipped
    assert used.images == 2
    assert "b.png" in skipped
    assert skipped.endswith(MESSAGE)
    values = [value for row in found.rows for value in row.values.values()]
    assert all(math.isfinite(number) for value in values for number in (value.mean, value.low, value.high))
    (folder / "b.png").unlink()
    alone = {row.name: row.values["deletion"].mean for row in faithfulness(folder).rows}
    ways = ("default, attend", "paper, attend")
    measured = {row.name: row.values["deletion"].mean for row in found.rows}
    assert [measured[name] for name in ways] == pytest.approx([alone[name] for name in ways])


@pytest.mark.usefixtures("clean")
def test_an_evaluation_without_any_image_left_blames_the_model_unless_a_file_is_bad(
    overflowing: str, folder: Path
) -> None:
    for name in "ac":
        (folder / f"{name}.png").unlink()
    with pytest.raises(ModelError, match=r"no image of .* can be used; the first: image .*b\.png.* is not finite"):
        faithfulness(folder)
    (folder / "c.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="no image of"):
        faithfulness(folder)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_parts_that_are_not_finite_skip_their_image_too(monkeypatch: pytest.MonkeyPatch, grounding: str) -> None:
    backbone: Any = embedded.backbone()
    runner = VariantRunner(backbone, embedded.words(600), cache=False)
    found, _ = variants(["default"], [grounding])[:2]
    for name in ("pool_regions", "encode_images"):
        real = getattr(backbone, name)
        monkeypatch.setitem(vars(backbone), name, lambda *given, _real=real: _real(*given) * math.inf)
    with pytest.raises(ModelError, match=MESSAGE):
        runner.run(embedded.picture(), [found])


@pytest.mark.usefixtures("clean")
def test_what_is_wrong_with_the_model_itself_skips_no_image(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ModelError("it has no attention keys")

    monkeypatch.setitem(vars(embedded.backbone()), "encode_with_patches", refuse)
    with pytest.raises(ModelError, match=r"^it has no attention keys$"):
        faithfulness(folder)


def test_occlusions_that_are_not_finite_are_not_measured(overflowing: str) -> None:
    pictures = np.stack([embedded.scenes()[0].image, BAD])
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    if overflowing == "patches":
        assert runner.embed(pictures).isfinite().all()
        return
    with pytest.raises(ModelError, match=MESSAGE):
        runner.embed(pictures)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_variants_of_an_image_that_is_not_finite_raise(overflowing: str, name: str) -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    chosen = [one for one in variants([name]) if one.parts == "found"]
    for _ in range(2):
        with pytest.raises(ModelError, match=MESSAGE):
            runner.run(read_picture(BAD), chosen)
    assert len(runner.run(embedded.picture(), chosen)) == 2


@pytest.mark.usefixtures("clean")
def test_the_truth_of_a_model_that_overflows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Any = embedded.backbone()
    encode = backbone.images.encode

    def encoded(pixels: torch.Tensor, features: Any) -> Any:
        raw = encode(pixels, features)
        return dataclasses.replace(raw, patches=raw.patches * math.inf)

    monkeypatch.setattr(backbone.images, "encode", encoded)
    with pytest.raises(ModelError, match=MESSAGE):
        harness.run(
            backbone,
            load_vocabulary("world"),
            [rendered_scenes("test", count=1, seed=0)],
            variants=variants()[:1],
            measures=["truth"],
        )


def test_predicting_such_an_image_says_so() -> None:
    explainer = embedded.explainer()
    with pytest.raises(ModelError, match="not finite"):
        explainer.builder.predict(torch.full((explainer.backbone.embed_dim,), math.nan))


def test_wrong_pooling_is_still_reported_beside_an_image_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Any = embedded.backbone()
    pixels = backbone.normalise(torch.from_numpy(np.stack([embedded.scenes()[0].image, BAD])))
    encoded = backbone.encode_with_patches(pixels)
    encoded.embeddings[1] = math.nan
    weights = torch.ones(2, 1, encoded.patches.shape[1])
    monkeypatch.setattr(backbone, "_pooling_checked", False)
    pool = backbone.images.pool
    monkeypatch.setattr(backbone.images, "pool", lambda state, visible: -pool(state, visible))
    with pytest.raises(ModelError, match="masked pooling does not reproduce"):
        backbone.pool_regions(encoded, weights)


def test_a_model_that_overflows_in_half_precision_says_which_would_do() -> None:
    """Its last norm scales so much that float16 has no number for what comes out."""
    backbone: Any = load("embedded/vit-s8", device="cpu", precision="fp16")
    with torch.no_grad():
        backbone.images._visual.ln_post.weight.fill_(6e4)
    explainer = Explainer(backbone, embedded.words(600), preset("default"), cache=False)
    for _ in range(2):
        with pytest.raises(ModelError, match="in precision fp16 is not finite; try precision bf16 or fp32"):
            explainer.explain([embedded.picture()])
    (streamed,) = explainer.stream([embedded.scenes()[0].image])
    assert isinstance(streamed, ModelError)


def test_a_row_of_a_study_holds_the_error_and_nothing_below_it() -> None:
    from clipmk.study.shard_worker import _Decoded, _full_row  # noqa: PLC0415

    row: Any = SimpleNamespace(image=3, entry=SimpleNamespace(key="a.png", label=None))
    full = _full_row(row, "vit", _Decoded({}, warnings=("odd",)), {"parts": "pca", "error": MESSAGE})
    assert full == {"image": 3, "key": "a.png", "label": None, "model": "vit", "parts": "pca", "error": MESSAGE}
