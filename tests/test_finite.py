"""Images for which half precision overflows: each has an error of its own, the others go on."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import embedded
from clipmk.backbones import load
from clipmk.errors import ModelError
from clipmk.explainer import Explainer
from clipmk.images import read_picture
from clipmk.records import Explanation
from clipmk.settings import preset
from clipmk.study import schema
from clipmk.study.examine import Examiner

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
    encoder, what = backbone._images, request.param
    look, embed = encoder.look, encoder.embed

    def looked(pixels: torch.Tensor, features: Any) -> Any:
        raw = look(pixels, features)
        names = ("embeddings", "patches") if what == "both" else (what,)
        return dataclasses.replace(raw, **{name: overflow(getattr(raw, name), pixels) for name in names})

    monkeypatch.setattr(encoder, "look", looked)
    if what != "patches":
        monkeypatch.setattr(encoder, "embed", lambda pixels: overflow(embed(pixels), pixels))
    monkeypatch.setattr(backbone, "_pools", False)  # pooling has not been tried yet
    return str(what)


TOLD = (
    "what 'embedded/vit-s8' makes of this image in precision fp32 is not finite; "
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
            f"what 'embedded/vit-s8' makes of this image in precision {name} is not finite; {remedy}"
        )


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_explaining_such_an_image_says_so(overflowing: str, grounding: str) -> None:
    explainer = embedded.explainer(grounding=grounding)
    for _ in range(2):
        with pytest.raises(ModelError, match=TOLD):
            explainer.explain([read_picture(BAD)])
    good = explainer.explain([embedded.picture()])[0]
    assert math.isfinite(good.predictions[0].probability)


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_the_users_own_parts_do_not_hide_it(overflowing: str, grounding: str) -> None:
    if overflowing == "patches":
        pytest.skip("nothing reads the patches where the parts are given")
    explainer = embedded.explainer(grounding=grounding)
    with pytest.raises(ModelError, match=TOLD):
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
        assert str(found[index]) == TOLD
    for one, alone in zip([found[1], *found[3:]], expected, strict=True):
        assert isinstance(one, Explanation)
        assert isinstance(alone, Explanation)
        assert [part.mask for part in one.parts] == [part.mask for part in alone.parts]
        assert one.predictions[0].probability == pytest.approx(alone.predictions[0].probability, abs=1e-4)
        one.to_json()


def test_in_a_study_it_is_the_error_of_that_image_alone(overflowing: str) -> None:
    explainer = embedded.explainer()
    squares = np.stack([explainer.square(read_picture(image)) for image in (embedded.scenes()[0].image, BAD)])
    with ThreadPoolExecutor(2) as workers:
        made = Examiner(
            backbone=explainer.backbone,
            bank=explainer.bank,
            vocabulary=explainer.vocabulary,
            settings=explainer.settings,
            ways=("kmeans", "superpixels"),
            batch_size=2,
            workers=workers,
        )
        good, bad = made.examine(squares, [0, 1], [None, None], step=lambda done: None)
    assert bad == [{"parts": way, "error": TOLD} for way in ("kmeans", "superpixels")]
    assert [row["parts"] for row in good] == ["kmeans", "superpixels"]
    assert all(math.isfinite(row["probability"]) for row in good)
    assert set(bad[0]) <= set(schema.IMAGE.names)


def test_predicting_such_an_image_says_so() -> None:
    explainer = embedded.explainer()
    with pytest.raises(ModelError, match="not finite"):
        explainer.predict(torch.full((explainer.backbone.embed_dim,), math.nan))


def test_a_pooling_that_is_wrong_is_still_told_beside_an_image_that_is_not_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone: Any = embedded.backbone()
    pixels = backbone.normalise(torch.from_numpy(np.stack([embedded.scenes()[0].image, BAD])))
    encoded = backbone.encode_with_patches(pixels)
    encoded.embeddings[1] = math.nan
    weights = torch.ones(2, 1, encoded.patches.shape[1])
    monkeypatch.setattr(backbone, "_pools", False)
    pool = backbone._images.pool
    monkeypatch.setattr(backbone._images, "pool", lambda state, visible: -pool(state, visible))
    with pytest.raises(ModelError, match="masked pooling does not reproduce"):
        backbone.pool_regions(encoded, weights)


def test_a_model_that_overflows_in_half_precision_says_which_would_do() -> None:
    """Its last norm scales so much that float16 has no number for what comes out."""
    backbone: Any = load("embedded/vit-s8", device="cpu", precision="fp16")
    with torch.no_grad():
        backbone._images._visual.ln_post.weight.fill_(6e4)
    explainer = Explainer(backbone, embedded.words(600), preset("default"), cache=False)
    for _ in range(2):
        with pytest.raises(ModelError, match="in precision fp16 is not finite; try precision bf16 or fp32"):
            explainer.explain([embedded.picture()])
    (streamed,) = explainer.stream([embedded.scenes()[0].image])
    assert isinstance(streamed, ModelError)


def test_a_row_of_a_study_holds_the_error_and_nothing_below_it() -> None:
    from clipmk.study.work import _Decoded, _full_row  # noqa: PLC0415

    row: Any = SimpleNamespace(image=3, entry=SimpleNamespace(key="a.png", label=None))
    full = _full_row(row, "vit", _Decoded({}, warnings=("odd",)), {"parts": "pca", "error": TOLD})
    assert full == {"image": 3, "key": "a.png", "label": None, "model": "vit", "parts": "pca", "error": TOLD}
