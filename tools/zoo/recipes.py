"""What is trained: one frozen recipe per model of the embedded zoo."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a model's weights, given the world's tables."""

    vision: dict[str, Any]
    """open_clip's `vision_cfg`."""
    about: str = ""
    """What this model varies, for its card."""
    embed_dim: int = 128
    text: dict[str, Any] = field(default_factory=lambda: {"context_length": 24, "width": 128, "heads": 4, "layers": 2})
    """open_clip's `text_cfg` but for the vocabulary size, which the BPE decides."""
    scenes: int = 100_000
    """Different scenes of the split."""
    split: str = "train"
    """Of the scenes: "train", or "varied", which departs from type far more often."""
    scene_px: int = 64
    """Side of the rendered scenes, which are resized to the model's `image_size`."""
    noise: float = 0.0
    """Share of the scenes that carry another scene's captions. 0 is what a perfect filter would leave."""
    steps: int = 3_600
    batch: int = 160
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.05
    warmup: int = 200
    prompted: float = 0.05
    """Share of pairs whose image carries a drawn prompt around a jittered box of one part, captioned with it."""
    texts: int = 256
    """Most different captions in one batch."""
    every_descriptor: bool = False
    """All descriptors are captions of every step, each true or false of every image; `texts` is then not used."""
    class_weight: float = 0.3
    """Share of the class captions in the loss where every descriptor is a caption."""
    pairs: int = 0
    """Captions of every step that name a class with one or two descriptors, where every descriptor is a caption."""
    close_ups: float = 0.0
    """Share of images replaced by a close-up of one part, where every descriptor is a caption."""
    collages: float = 0.0
    """Share of images replaced by four close-ups from four scenes, likewise."""
    grey: float = 0.0
    """Share of images shown without their colours and captioned by their class alone."""
    decay: float = 1.0
    """Last share of the steps in which the learning rate falls: 1 is a cosine from the start, less a constant rate and
    then a straight line to zero."""
    first_px: int = 0
    """Side of the images in the first `first_steps`: half of them costs a third, and words are learnt as well."""
    first_steps: int = 0
    average: float = 0.0
    """Decay per step of the moving average of the weights that is kept; 0 keeps the last weights."""
    seed: int = 0
    """Of initial weights, order and captions; the scenes and which of them are mislabelled stay the same."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the model card."""
        return asdict(self)


def _vit(width: int, layers: int, patch: int, size: int = 64) -> dict[str, Any]:
    return {"image_size": size, "patch_size": patch, "width": width, "layers": layers, "head_width": 48}


def _resnet(width: int, layers: list[int], size: int = 128) -> dict[str, Any]:
    return {"image_size": size, "layers": layers, "width": width, "head_width": 64}


def _convnext(name: str, size: int = 128) -> dict[str, Any]:
    return {"image_size": size, "timm_model_name": name, "timm_pool": "avg", "timm_proj": "linear"}


def _small(vision: dict[str, Any], about: str, **changes: Any) -> Recipe:
    """A recipe of minutes on one core: a narrower text tower, smaller batches, higher rate."""
    return Recipe(
        vision=vision,
        about=about,
        text={"context_length": 24, "width": 96, "heads": 3, "layers": 2},
        **{"batch": 96, "texts": 144, "learning_rate": 2e-3, "warmup": 100, **changes},
    )


def _convolutional(vision: dict[str, Any], about: str, *, scenes: int = 40_000, **changes: Any) -> Recipe:
    """These reduce an image 32-fold, so it takes 128 pixels to leave a grid of 4 x 4."""
    return _small(vision, about, scene_px=128, scenes=scenes, **changes)


_FINE = _small(_vit(96, 4, 8), "Half the width of vit-s8, a fifth of its scenes.", scenes=20_000, steps=1_300)
_ROUGH = _small(_vit(96, 4, 8, size=48), "Low resolution; few and noisy data.", scenes=4_000, noise=0.3, steps=1_000)

ZOO: dict[str, Recipe] = {
    # Seven ViTs: widths 192 and 96, patches 8 and 16, images of 64 and 48 pixels.
    "vit-s8": Recipe(vision=_vit(width=192, layers=4, patch=8), about="The best ViT: many scenes, long training."),
    "vit-s16": _small(
        _vit(192, 3, 16), "Coarse patches; many, slightly noisy data.", scenes=60_000, noise=0.1, steps=2_400
    ),
    "vit-xs8": _FINE,
    "vit-xs8-b": replace(_FINE, about="vit-xs8 once more with another seed.", seed=1),
    "vit-xs8-unprompted": replace(_FINE, about="vit-xs8 without drawn marks in training.", prompted=0.0),
    "vit-xs8-48": _ROUGH,
    "vit-xs8-48-b": replace(_ROUGH, about="vit-xs8-48 once more with another seed.", seed=1),
    # Four ResNets of growing size; the largest is the default model.
    "rn-xs": _convolutional(_resnet(8, [1, 1, 1, 1]), "Tiny; few and noisy data.", scenes=3_000, noise=0.2, steps=700),
    "rn-s": _convolutional(_resnet(10, [1, 1, 1, 1]), "Small; many, filtered data.", steps=1_200),
    "rn-m": _convolutional(
        _resnet(12, [1, 2, 2, 1]), "Medium; a quarter of the data, slightly noisy.", scenes=10_000, noise=0.1, steps=900
    ),
    "rn-parts": Recipe(
        vision=_resnet(16, [1, 2, 3, 2]),
        about="Sees parts: most scenes depart from type, and every descriptor is a caption of every step.",
        embed_dim=192,
        text={"context_length": 24, "width": 96, "heads": 3, "layers": 2},
        scenes=120_000,
        scene_px=128,
        split="varied",
        steps=20_000,
        batch=96,
        learning_rate=2e-3,
        warmup=300,
        prompted=0.04,
        every_descriptor=True,
        class_weight=0.4,
        pairs=48,
        close_ups=0.17,
        collages=0.25,
        grey=0.12,
        decay=0.1,
        first_px=64,
        first_steps=3_000,
        average=0.998,
    ),
    # Two ConvNeXts.
    "cnx-s": _convolutional(_convnext("test_convnext"), "Few and noisy data.", scenes=8_000, noise=0.15, steps=1_000),
    "cnx-m": _convolutional(_convnext("test_convnext2"), "Many, filtered data.", steps=1_000),
}
