"""The images to evaluate on: rendered scenes, or any data set that a study takes; one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from clipmk.datasets.labels import LABEL_BYTES, TRUTH_FILE
from clipmk.datasets.matching import resolve_labels
from clipmk.errors import ImageError, InputError, UsageError, suggest
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_decode
from clipmk.records import Rle
from clipmk.system.files import read_regular
from clipmk.system.text import quoted
from clipmk.world.conditions import ALL_SPLITS
from clipmk.world.scene import render_scenes

if TYPE_CHECKING:
    from clipmk.datasets.dataset import Dataset
    from clipmk.images.decoder import Picture
    from clipmk.vocabulary.vocabulary import Vocabulary
    from clipmk.world.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image and what is known about it."""

    index: int
    """Number within its data set: what is drawn for it depends on the seed and this."""
    picture: Picture
    label: str | None
    """Its class, a name of the vocabulary."""
    object_mask: NDArray[np.bool_] | None
    """Pixels of the object, bool (height, width)."""
    scene: Scene | None = None
    """Everything about a rendered scene."""

    @property
    def true_masks(self) -> NDArray[np.bool_] | None:
        """`true_masks` of the scene; None where there is none that shows a part."""
        return true_masks(self.scene) if self.scene is not None and self.scene.parts else None


def true_masks(scene: Scene) -> NDArray[np.bool_]:
    """The masks of a scene's visible parts, bool (parts, height, width)."""
    return np.stack([part.mask_pixels for part in scene.parts])


class ImageSource(Protocol):
    """Images of one data set, in order."""

    @property
    def name(self) -> str:
        """Split or folder."""

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about it."""

    def __len__(self) -> int:
        """How many images."""

    def samples(self) -> Iterator[Sample | ImageError]:
        """Every image in order; an error in the place of one that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """Scenes of one split of the rendered world, rendered when they are asked for.

    Raises:
        UsageError: there is no such split; the message names those that exist.
    """

    split: str
    count: int
    seed: int
    labelled: bool = True
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.split not in ALL_SPLITS:
            raise UsageError(f"split {quoted(self.split)} does not exist; {suggest(self.split, ALL_SPLITS)}")

    @property
    def name(self) -> str:
        """The split."""
        return self.split

    def __len__(self) -> int:
        """How many scenes."""
        return self.count

    def samples(self) -> Iterator[Sample | ImageError]:
        """Every scene, in order."""
        for scene in render_scenes(self.split, count=self.count, seed=self.seed):
            mask = scene.object_mask if scene.object_mask.any() else None
            yield Sample(scene.index, read_picture(scene.image), scene.class_name, mask, scene)


@dataclass(frozen=True, slots=True)
class Images:
    """Images of any data set that a study takes, opened by `open_images`."""

    dataset: Dataset
    labels: tuple[str | None, ...]
    """Of each image, as the vocabulary spells it."""
    masks: Mapping[str, Rle]
    """Key of an image -> its object mask, where the data set is an exported world."""
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """As the user gave it."""
        return self.dataset.info.name

    @property
    def labelled(self) -> bool:
        """Whether every image has a label; where only some have, none is used."""
        return None not in self.labels

    def __len__(self) -> int:
        """How many images."""
        return len(self.dataset.entries)

    def samples(self) -> Iterator[Sample | ImageError]:
        """Every image, in the data set's order."""
        for index, (entry, label) in enumerate(zip(self.dataset.entries, self.labels, strict=True)):
            try:
                picture = self.dataset.reader.read(entry)
            except ImageError as error:
                yield error
                continue
            yield Sample(index, picture, label if self.labelled else None, self._mask(entry.key, picture))

    def _mask(self, key: str, picture: Picture) -> NDArray[np.bool_] | None:
        rle = self.masks.get(key)
        if rle is None or tuple(rle.size) != picture.pixels.shape[:2]:
            return None
        mask = rle_decode(rle)
        return mask if mask.any() else None


def open_images(spec: str, vocabulary: Vocabulary, *, limit: int | None = None) -> Images:
    """A data set as `clipmk study` takes it: folders of classes, a flat folder, a table of paths, tar shards.

    Args:
        spec: as in `datasets.opening.open_dataset`; rendered scenes are `Scenes`.
        vocabulary: whose classes the labels mean.
        limit: most images taken, spread evenly.

    Raises:
        UsageError: the spec cannot mean such a data set.
        InputError: it does not exist, is empty or damaged, or a label is not a class of the vocabulary.
    """
    from clipmk.datasets.opening import open_dataset  # noqa: PLC0415 - only here

    if spec == "world" or spec.startswith("world:"):
        raise UsageError(f"{quoted(spec)} names rendered scenes; choose them by their split instead")
    dataset = open_dataset(spec, limit=limit)
    labels, notes = resolve_labels([entry.label for entry in dataset.entries], vocabulary)
    return Images(dataset, tuple(labels), _object_masks(Path(spec)), dataset.warnings + notes)


def _object_masks(root: Path) -> dict[str, Rle]:
    """The object masks of an exported world; nothing where there are none."""
    path = root / TRUTH_FILE
    if not path.is_file():
        return {}
    data = read_regular(path, limit=LABEL_BYTES, noun="truth file", error=InputError)
    try:
        images = json.loads(data).get("images", [])
        masked = [one for one in images if "object_mask" in one]
        return {
            one["file"]: Rle(size=tuple(one["object_mask"]["size"]), counts=one["object_mask"]["counts"])
            for one in masked
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as reason:
        raise InputError(f"{quoted(path)} is not the truth file of an exported world: {reason!r}") from reason
