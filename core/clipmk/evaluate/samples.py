"""The images to evaluate on, one at a time: rendered scenes, or any dataset that a study takes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmk.datasets.matching import resolve_labels
from clipmk.datasets.tables import LABEL_BYTES, TRUTH_FILE, USUAL, Columns
from clipmk.errors import ImageError, InputError, UsageError, suggest
from clipmk.images.decoder import Picture, read_picture
from clipmk.images.masks import rle_decode
from clipmk.records import Rle
from clipmk.system.files import read_regular
from clipmk.system.serialization import from_plain
from clipmk.system.text import quoted
from clipmk.vocabulary.vocabulary import Vocabulary
from clipmk.world.conditions import ALL_SPLITS
from clipmk.world.scene import Scene, render_scenes


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image and what is known about it."""

    index: int
    """Number within its dataset: what is drawn for it depends on the seed and this."""
    picture: Picture
    label: str | None
    """Its class, a name of the vocabulary."""
    object_mask: NDArray[np.bool_] | None
    """Pixels of the object, bool (height, width)."""
    scene: Scene | None = None

    @property
    def rendered(self) -> Scene:
        """The scene of a rendered image."""
        if self.scene is None:
            raise ValueError("the truth needs rendered scenes")
        return self.scene

    @property
    def true_masks(self) -> NDArray[np.bool_] | None:
        """Masks of the scene's parts; None where there is none that shows a part."""
        return self.scene.part_masks if self.scene is not None and self.scene.parts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """The images of one dataset."""

    name: str
    """Split of the rendered world, or what the user named."""
    count: int
    labelled: bool
    """Whether every image has a label; where only some have, none is used."""
    warnings: tuple[str, ...] = ()
    samples: Callable[[], Iterator[Sample | ImageError]]
    """Gives every image in order, as often as called; an error in the place of one that cannot be decoded."""


def rendered_scenes(split: str, *, count: int, seed: int = 0) -> ImageSource:
    """Scenes of one split of the rendered world, rendered when asked for; UsageError if there is no such split."""
    if split not in ALL_SPLITS:
        raise UsageError(f"split {quoted(split)} does not exist; {suggest(split, ALL_SPLITS)}")

    def samples() -> Iterator[Sample | ImageError]:
        for scene in render_scenes(split, count=count, seed=seed):
            mask = scene.object_mask if scene.object_mask.any() else None
            yield Sample(scene.index, read_picture(scene.image), scene.class_name, mask, scene)

    return ImageSource(name=split, count=count, labelled=True, samples=samples)


def open_images(
    spec: str, vocabulary: Vocabulary, *, limit: int | None = None, columns: Columns = USUAL
) -> ImageSource:
    """A dataset as `clipmk study` takes it (`datasets.opening.open_dataset`), except rendered scenes.

    Labels are those of the vocabulary; of more images than `limit` an evenly spaced sample is taken. UsageError if the
    spec cannot mean such a dataset; InputError if it does not exist, is empty or damaged, or a label is not a class.
    """
    from clipmk.datasets.opening import open_dataset  # noqa: PLC0415 - only here

    if spec == "world" or spec.startswith("world:"):
        raise UsageError(f"{quoted(spec)} names rendered scenes; choose them by their split instead")
    dataset = open_dataset(spec, limit=limit, columns=columns)
    labels, notes = resolve_labels([entry.label for entry in dataset.entries], vocabulary)
    labelled, masks = None not in labels, _object_masks(Path(spec).expanduser())

    def samples() -> Iterator[Sample | ImageError]:
        for index, (entry, label) in enumerate(zip(dataset.entries, labels, strict=True)):
            try:
                picture = dataset.reader.read(entry)
            except ImageError as error:
                yield error
            else:
                yield Sample(index, picture, label if labelled else None, _object_mask(masks.get(entry.key), picture))

    return ImageSource(
        name=dataset.info.name,
        count=len(dataset.entries),
        labelled=labelled,
        warnings=dataset.warnings + notes,
        samples=samples,
    )


def _object_mask(rle: Rle | None, picture: Picture) -> NDArray[np.bool_] | None:
    if rle is None or tuple(rle.size) != picture.pixels.shape[:2]:
        return None
    mask = rle_decode(rle)
    return mask if mask.any() else None


def _object_masks(root: Path) -> dict[str, Rle]:
    """The object masks of an exported world; nothing where there are none."""
    path = root / TRUTH_FILE
    if not path.is_file():
        return {}
    data = read_regular(path, limit=LABEL_BYTES, noun="truth file", error=InputError)
    try:
        images = json.loads(data).get("images", [])
        return {one["file"]: from_plain(Rle, one["object_mask"]) for one in images if "object_mask" in one}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as reason:
        raise InputError(f"{quoted(path)} is not the truth file of an exported world: {reason!r}") from reason
