"""The embedded model, loaded once for all tests, and what it is held against."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.backbones.backbone import Backbone
from clipmk.explanation import Explanation
from clipmk.images.decoder import Picture, read_picture
from clipmk.images.masks import rle_decode
from clipmk.models.loading import load
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import Settings, preset
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary
from clipmk.world.scene import Scene, render_scenes

torch.set_num_threads(1)

PRESETS = ("default", "paper")


@cache
def backbone() -> Backbone:
    """Shared: replace a method by `monkeypatch.setitem(vars(backbone()), ...)`; `setattr` would leave it bound."""
    return load("embedded/vit-s8", device="cpu")


@cache
def _world() -> Explainer:
    return Explainer(backbone(), load_vocabulary("world"), preset("default"), cache=False)


def explainer(name: str = "default", **changes: Any) -> Explainer:
    """The world's vocabulary under a preset; the texts are embedded once."""
    return _world().with_settings(preset(name, **changes))


def explainer_of(vocabulary: Vocabulary, settings: Settings) -> Explainer:
    return Explainer(backbone(), vocabulary, settings, cache=False)


@cache
def scenes(split: str = "test", count: int = 4, seed: int = 0) -> tuple[Scene, ...]:
    return tuple(render_scenes(split, count=count, seed=seed))


def picture(index: int = 0) -> Picture:
    return read_picture(scenes()[index].image)


def pictures(count: int) -> list[Picture]:
    return [picture(index) for index in range(count)]


def timeless(explanation: Explanation) -> dict[str, Any]:
    """The record without its times."""
    record = explanation.to_dict()
    del record["elapsed_ms"]
    return record


def words(descriptors: int, *, classes: int = 4) -> Vocabulary:
    """A small vocabulary cut from the world's."""
    whole = load_vocabulary("world")
    return dataclasses.replace(
        whole, classes=whole.classes[:classes], descriptors=whole.descriptors[:descriptors], by_class={}
    )


def flat(colour: tuple[int, int, int], *, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def pixels_of(explanation: Explanation) -> NDArray[np.bool_]:
    """The masks of an explanation's parts, bool (parts, height, width)."""
    return np.stack([rle_decode(part.mask) for part in explanation.parts])
