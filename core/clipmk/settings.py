"""What can be chosen about an explanation, and the two presets: plain data, no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from clipmk.errors import UsageError, suggest

Features = Literal["tokens", "keys"]
Foreground = Literal["eigenvector", "centred"]
PartMethod = Literal["kmeans", "pca", "superpixels"]
Grounding = Literal["prompts", "attend"]
Resize = Literal["squash", "crop"]
Relevance = Literal["mean", "median"]
Fit = Literal["image", "batch"]
Importance = Literal["image", "part", "both"]
Assignment = Literal["transport", "contrast"]

GROUP_LIMIT = 50
"""Most images that are fitted together (the reference code fits the up to 50 images of one class)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every choice of method.md; the defaults are the `default` preset, `preset("paper")` is table 1a to the letter.

    Record it beside every number: two explanations are comparable only under the same settings.
    """

    preset: str = "default"
    """Name of the preset these settings started from."""
    features: Features = "tokens"
    """Patch features that find foreground and parts: last-block tokens, or keys of the last attention (ViT only)."""
    foreground: Foreground = "centred"
    """`eigenvector`: second left singular vector of the unit rows (paper). `centred`: first principal
    direction of the centred tokens, robust to outlier tokens."""
    fit: Fit = "image"
    """Fit foreground and parts to each image alone, or to all images given together (reference code: one class)."""
    second_component: bool = True
    """Keep the second connected component too when it holds at least five patches (reference code)."""
    parts: PartMethod = "superpixels"
    """How the foreground is divided: `kmeans`, `pca` (paper), or `superpixels` (borders at the picture's own edges)."""
    part_count: int = 5
    """L, the number of parts asked for; `superpixels` finds as many as the image holds, up to `part_limit`."""
    part_limit: int = 12
    """Most parts that `superpixels` may find."""
    grounding: Grounding = "attend"
    """`prompts`: three drawn prompts per part (3L forwards, paper). `attend`: masked pooling, no extra forward."""
    resize: Resize = "squash"
    """`squash` the image to the square input (paper), or resize and centre-`crop` as open_clip's own transform."""
    candidate_count: int = 500
    """k: each part's nearest descriptors that become candidates, at most |D|."""
    intersect_candidates: bool = False
    """Keep only descriptors that are candidates of every part (reference code)."""
    relevance: Relevance = "mean"
    """The statistic of cos(raw descriptor, image) over the candidates that the relevance filter compares with."""
    relevance_offset: float = -0.02
    """Keep candidates above statistic + offset. Reference code: mean - 0.02; paper text: median + 0.02."""
    score_scale: float = 2.5
    """Factor on every cosine that enters the transport and the importance (reference code)."""
    assignment: Assignment = "contrast"
    """How parts take descriptors: optimal `transport` (paper), or `contrast` (see `contrast_weight`)."""
    contrast_weight: float = 0.7
    """w in score = cos(part, d) + w (cos(image, d) - mean over the parts of cos(part, d)); 0 is the plain nearest."""
    descriptors_per_part: int = 5
    """Descriptors kept per part (paper: 3)."""
    vision_limit: int = 15
    """3L: the most vision concepts an explanation keeps. Curves have one point more, whatever else is chosen."""
    importance: Importance = "both"
    """What orders D_v: cosine with the whole `image` (paper), with the nearest `part`, or the mean of `both`."""
    language_count: int | None = None
    """u, the size of D_y; None: 50 from 2,000 descriptors on, below that the u with the same chance overlap."""
    soft_threshold: float | None = None
    """Match D_v and D_y one-to-one above this text-text cosine as well; None: exact identity only."""
    prediction_count: int = 5
    """How many of the highest-ranked classes are reported, each with its D_y."""
    seed: int = 0
    """Seed of k-means and of every other drawn number."""

    @property
    def curve_length(self) -> int:
        """3L + 1 points: the length every dynamics curve is padded to, so that AUC does not depend on the company."""
        return self.vision_limit + 1


PRESETS: dict[str, Settings] = {
    "default": Settings(),
    "paper": Settings(
        preset="paper",
        foreground="eigenvector",
        parts="kmeans",
        grounding="prompts",
        intersect_candidates=True,
        assignment="transport",
        descriptors_per_part=3,
        importance="image",
    ),
}


def preset(name: str, **changes: Any) -> Settings:
    """Look a preset up by name and apply `changes` to it.

    Raises:
        UsageError: the preset, a setting or a value does not exist; the message names what does.
    """
    if name not in PRESETS:
        raise UsageError(f"preset {name!r} does not exist; {suggest(name, PRESETS)}")
    fields = {field.name for field in dataclasses.fields(Settings)}
    for key in changes:
        if key not in fields:
            raise UsageError(f"setting {key!r} does not exist; {suggest(key, sorted(fields))}")
    settings = dataclasses.replace(PRESETS[name], **changes)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    hints = get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        value = getattr(settings, field.name)
        kinds = {int: (int, "a whole number"), float: (int | float, "a number")}
        kind, words = kinds.get(hints[field.name], (object, ""))
        if words and (isinstance(value, bool) or not isinstance(value, kind)):
            raise UsageError(f"{field.name} is {value!r}; it must be {words}")
        if get_origin(hints[field.name]) is Literal and value not in get_args(hints[field.name]):
            choices = ", ".join(get_args(hints[field.name]))
            raise UsageError(f"{field.name} {value!r} does not exist; choose one of: {choices}")
    for name in (
        "part_count",
        "part_limit",
        "candidate_count",
        "descriptors_per_part",
        "vision_limit",
        "prediction_count",
    ):
        if getattr(settings, name) < 1:
            raise UsageError(f"{name} is {getattr(settings, name)}; it must be at least 1")
    if settings.language_count is not None and settings.language_count < 1:
        raise UsageError(f"language_count is {settings.language_count}; it must be at least 1")
    if settings.soft_threshold is not None and not 0 <= settings.soft_threshold < 1:  # so that NaN fails too
        raise UsageError(f"soft_threshold is {settings.soft_threshold}; it must be at least 0 and below 1")
