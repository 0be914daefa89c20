"""What can be chosen about an explanation, and the two presets: plain data that is always valid, no torch."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from clipmk.concepts.part_methods import PART_METHODS
from clipmk.errors import UsageError, suggest

Features = Literal["tokens", "keys"]
Foreground = Literal["eigenvector", "centred"]
Grounding = Literal["prompts", "attend"]
Resize = Literal["squash", "crop"]
Relevance = Literal["mean", "median"]
Fit = Literal["image", "batch"]
Importance = Literal["image", "part", "both"]
Assignment = Literal["transport", "contrast"]

GROUP_LIMIT = 50
"""Most images that are fitted together (the reference code fits the up to 50 images of one class)."""

_NAMES: Final[Mapping[str, Iterable[str]]] = {"preset": ("default", "paper"), "parts": PART_METHODS}
"""The choices of a setting whose type is `str`."""
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    **dict.fromkeys(("part_count", "part_limit", "candidate_count", "descriptors_per_part"), (1, 1_000_000)),
    **dict.fromkeys(("vision_limit", "language_count", "prediction_count"), (1, 1_000_000)),
    "seed": (0, 2**32 - 2),  # scikit-learn takes seeds below 2^32, and evaluations add 1
}
"""Smallest and largest value of whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every choice of docs/method.md; the defaults are the preset `default`, `preset("paper")` is its table 1a exactly.

    Record it beside every number: two explanations are comparable only under the same settings.

    Raises:
        UsageError: a value is of the wrong type or out of range; the message says what it must be.
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
    parts: str = "superpixels"
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
    descriptors_per_part: int = 6
    """Descriptors kept per part (paper: 3)."""
    vision_limit: int = 15
    """3L: the most vision concepts an explanation keeps. Curves have one point more, whatever else is chosen."""
    importance: Importance = "both"
    """What orders D_v: cosine with the whole `image` (paper), the highest score of a `part`, or the mean of `both`."""
    language_count: int | None = None
    """u, the size of D_y; None: 50 from 2,000 descriptors on, below that the u with the same chance overlap."""
    soft_threshold: float | None = None
    """Match D_v and D_y one-to-one above this text-text cosine as well; None: exact identity only."""
    prediction_count: int = 5
    """How many of the highest-ranked classes are reported, each with its D_y."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))

    @property
    def curve_length(self) -> int:
        """3L + 1 points: the length every dynamics curve is padded to, so that AUC does not depend on other images."""
        return self.vision_limit + 1


def unmet(name: str, value: object) -> str | None:
    """What a setting must be, where a value is not that; None where the value can be used."""
    hint = _types()[name]
    if hint is str or get_origin(hint) is Literal:
        choices = get_args(hint) or _NAMES[name]
        return None if isinstance(value, str) and value in choices else f"one of: {', '.join(choices)}"
    if value is None and NoneType in get_args(hint):
        return None
    kind = (get_args(hint) or (hint,))[0]
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else int):
        return "a whole number" if kind is int else "a number"
    return _out_of_range(name, value)


def _check(name: str, value: object) -> None:
    if (needed := unmet(name, value)) is not None:
        raise UsageError(f"{name} is {value!r:.80}; it must be {needed}")


@functools.cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings)


def _out_of_range(name: str, value: float) -> str | None:
    least, most = _BOUNDS.get(name, (-math.inf, math.inf))
    if name == "soft_threshold":
        return None if 0 <= value < 1 else "at least 0 and below 1"
    if value < least:
        return f"at least {least}"
    if value > most:
        return f"at most {most}"
    return None if -math.inf < value < math.inf else "a finite number"


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
    """Look a preset up by name and apply `changes` to it; UsageError names what exists instead."""
    if not isinstance(name, str) or name not in PRESETS:
        raise UsageError(f"preset {name!r:.80} does not exist; {suggest(str(name), PRESETS)}")
    for key in changes:
        if key not in _types() or key == "preset":
            known = sorted(_types().keys() - {"preset"})
            raise UsageError(f"setting {key!r} does not exist; {suggest(key, known)}")
    return dataclasses.replace(PRESETS[name], **changes)


def settings_of_call(name: str | None, *, seed: int | None, settings: Settings | Mapping[str, Any] | None) -> Settings:
    """The settings of a call of the library: the preset named (else in `settings`, else "default") with changes.

    `settings` are changes to the preset, by name; or all settings, whose seed yields to `seed`. UsageError as `preset`,
    or if preset or seed are given twice and differ.
    """
    if seed is not None:
        _check("seed", seed)
    changes: object = {} if settings is None else settings
    if isinstance(settings, Settings):
        changes = dataclasses.asdict(settings if seed is None else dataclasses.replace(settings, seed=seed))
    if not isinstance(changes, Mapping) or not all(isinstance(key, str) for key in changes):
        raise UsageError(f"settings is {settings!r:.80}; it must map names of settings to values")
    chosen = dict(changes)
    for key, value in (("preset", name), ("seed", seed)):
        if value is not None and key in chosen and (type(chosen[key]) is not type(value) or chosen[key] != value):
            raise UsageError(f"{key} is given twice: {value!r:.80}, and {chosen[key]!r:.80} in settings")
    named = chosen.pop("preset", "default" if name is None else name)
    return preset(named, **chosen if seed is None else chosen | {"seed": seed})
