"""The ways of explaining that are held against the truth, and the names of the baselines beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipmk.settings import Settings, preset

PartSource = Literal["found", "true", "feature maps"]

GROUNDINGS = ("prompts", "attend")
FEATURE_MAPS = "feature maps, attend"
"""Name of the baseline whose regions are channels of the feature map (see `feature_maps`)."""
TRUE_PARTS = ", true parts"
"""How the name of a way ends that is given the true masks."""

LOOKUP = "class lookup, predicted class"
TRUE_LOOKUP = "class lookup, true class"
NEAREST = "nearest to the whole image"
SPARSE = "sparse decomposition"
RANDOM = "random descriptors"
BASELINES = (LOOKUP, TRUE_LOOKUP, NEAREST, SPARSE, RANDOM)
"""Rankings that look at no part."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of explaining."""

    name: str
    settings: Settings
    parts: PartSource = "found"
    """`found` as the settings say; the `true` masks of the scene, which is the ceiling of the grounding; or regions of
    the `feature maps`, a baseline."""


def ways(*, seed: int = 0) -> tuple[Way, ...]:
    """Both presets, both groundings, discovered and true parts; then the regions of the feature maps.

    The feature maps are grounded by `attend` and named as the `default` preset names parts.

    Args:
        seed: of k-means.
    """
    listed = []
    for name in ("default", "paper"):
        for grounding in GROUNDINGS:
            settings = preset(name, grounding=grounding, seed=seed)
            listed.append(Way(f"{name}, {grounding}", settings))
            listed.append(Way(f"{name}, {grounding}{TRUE_PARTS}", settings, parts="true"))
    return (*listed, Way(FEATURE_MAPS, preset("default", grounding="attend", seed=seed), parts="feature maps"))
