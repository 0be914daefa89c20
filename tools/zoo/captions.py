"""Captions: what is true of a scene, in words, and which caption of a batch is true of which image.

A caption names the class, one descriptor, or the class with up to two descriptors. Texts are the renderer's own
knowledge about the whole picture; no mask enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASS_TEMPLATES = ("a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "a {}.", "a photo of a {}")
DESCRIPTOR_TEMPLATES = ("a photo showing {}", "{}")
PAIR_TEMPLATES = ("a {} with {}", "a photo of a {} with {}")


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption as facts: it is true of an image whose class and descriptors include all of them."""

    text: str
    class_id: int
    """-1 where the caption names no class."""
    descriptor_ids: tuple[int, ...]


def caption(
    rng: np.random.Generator,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    class_id: int,
    visible: npt.NDArray[np.int64],
) -> Caption:
    """Draw one caption for a scene.

    Args:
        rng: Source of every draw.
        names: (class names, descriptors).
        class_id: Index of the scene's class.
        visible: Indices of the descriptors of its visible parts.
    """
    classes, descriptors = names
    kind = rng.random()
    if len(visible) == 0 or kind < 0.25:
        return name_class(rng, classes, class_id)
    if kind < 0.85:
        one = int(rng.choice(visible))
        return describe(rng, descriptors, one)
    return describe_pair(rng, names, class_id, visible)


def describe_pair(
    rng: np.random.Generator,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    class_id: int,
    visible: npt.NDArray[np.int64],
) -> Caption:
    """Caption the class with one or two of the visible descriptors."""
    classes, descriptors = names
    chosen = rng.choice(visible, size=min(len(visible), int(rng.integers(1, 3))), replace=False)
    template = PAIR_TEMPLATES[rng.integers(len(PAIR_TEMPLATES))]
    listed = " and ".join(descriptors[int(i)] for i in chosen)
    return Caption(template.format(classes[class_id], listed), class_id, tuple(int(i) for i in chosen))


def name_class(rng: np.random.Generator, classes: tuple[str, ...], class_id: int) -> Caption:
    """Caption one class."""
    return Caption(CLASS_TEMPLATES[rng.integers(len(CLASS_TEMPLATES))].format(classes[class_id]), class_id, ())


def describe(rng: np.random.Generator, descriptors: tuple[str, ...], descriptor_id: int) -> Caption:
    """Caption one descriptor."""
    template = DESCRIPTOR_TEMPLATES[rng.integers(len(DESCRIPTOR_TEMPLATES))]
    return Caption(template.format(descriptors[descriptor_id]), -1, (descriptor_id,))


def truth(
    captions: list[Caption], class_ids: npt.NDArray[np.int64], shows: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which caption is true of which image.

    Args:
        captions: T captions.
        class_ids: (B,) class of each image; -1 where only descriptors may be said of it (prompted images).
        shows: (B, D) which descriptors may be said of each image.

    Returns:
        (B, T) bool.
    """
    table = np.ones((len(class_ids), len(captions)), dtype=bool)
    for column, one in enumerate(captions):
        if one.class_id >= 0:
            table[:, column] &= class_ids == one.class_id
        for descriptor_id in one.descriptor_ids:
            table[:, column] &= shows[:, descriptor_id]
    return table
