"""What is trained: one frozen recipe per model of the embedded zoo."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a model's weights, given the world's tables."""

    vision: dict[str, Any]
    """open_clip's `vision_cfg`."""
    embed_dim: int = 128
    text: dict[str, Any] = field(default_factory=lambda: {"context_length": 24, "width": 128, "heads": 4, "layers": 2})
    """open_clip's `text_cfg` but for the vocabulary size, which the BPE decides."""
    scenes: int = 100_000
    """Different scenes of the `train` split."""
    steps: int = 3_600
    batch: int = 160
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.05
    warmup: int = 200
    prompted: float = 0.05
    """Share of pairs whose image carries a drawn prompt around a jittered box of one part, captioned with it."""
    texts: int = 256
    """Most different captions in one batch."""
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the model card."""
        return asdict(self)


def _vit(width: int, layers: int, patch: int, size: int = 64) -> dict[str, Any]:
    return {"image_size": size, "patch_size": patch, "width": width, "layers": layers, "head_width": 48}


ZOO: dict[str, Recipe] = {
    "vit-s8": Recipe(vision=_vit(width=192, layers=4, patch=8)),
}
