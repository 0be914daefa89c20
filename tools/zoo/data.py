"""Rendered training scenes on disk, and batches of captioned images drawn from them.

Only the picture, the class, the visible descriptors and a bounding box per part are kept: no part mask can leak into
training.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from clipmk.world.scene import render_scenes
from clipmk.world.tables import all_descriptors, class_names

SIZE = 64
"""Side of a scene in pixels unless a recipe asks for more."""
POOLS = {("train", 64): 100_000, ("train", 128): 40_000, ("varied", 128): 120_000}
"""Scenes rendered per split and side in pixels; a recipe takes the first of them."""
MAX_PARTS = 10


@dataclass(frozen=True, slots=True)
class Scenes:
    """N rendered scenes, memory-mapped."""

    images: npt.NDArray[np.uint8]
    """(N, side, side, 3) RGB."""
    class_ids: npt.NDArray[np.int64]
    """(N,)"""
    part_ids: npt.NDArray[np.int64]
    """(N, MAX_PARTS) descriptor of each visible part, -1 where there is none."""
    boxes: npt.NDArray[np.int64]
    """(N, MAX_PARTS, 4) x0, y0, x1, y1 of each visible part, pixels, inclusive."""

    @classmethod
    def load(cls, folder: Path) -> Scenes:
        """Map the arrays that `render` wrote."""
        names = ("images", "class_ids", "part_ids", "boxes")
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))

    def first(self, count: int) -> Scenes:
        """The first `count` scenes."""
        return Scenes(self.images[:count], self.class_ids[:count], self.part_ids[:count], self.boxes[:count])

    def mislabelled(self, share: float) -> Scenes:
        """The same pictures; a share of them, always the same ones, carries the facts of another scene."""
        count = len(self.class_ids)
        rows = np.random.default_rng(0).permutation(count)[: round(share * count)]
        source = np.arange(count)
        source[rows] = np.roll(rows, 1)
        return Scenes(self.images, self.class_ids[source], self.part_ids[source], self.boxes[source])

    def shows(self, rows: npt.NDArray[np.int64], descriptor_count: int) -> npt.NDArray[np.bool_]:
        """(B, D) which descriptors are visible in each of the given scenes."""
        table = np.zeros((len(rows), descriptor_count + 1), dtype=bool)
        np.put_along_axis(table, np.asarray(self.part_ids[rows]), values=True, axis=1)  # -1 lands in the spare column
        return table[:, :-1]


def render(
    folder: Path, *, count: int, seed: int, size: int = SIZE, split: str = "train", workers: int = 2, chunk: int = 1_000
) -> Scenes:
    """Render `count` scenes of the split into `folder`, once: a finished folder is reused."""
    stamp = folder / "done.json"
    wanted = {"count": count, "seed": seed, "descriptors": len(all_descriptors())}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return Scenes.load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {"images": (size, size, 3), "class_ids": (), "part_ids": (MAX_PARTS,), "boxes": (MAX_PARTS, 4)}
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.uint8 if name == "images" else np.int64, shape=(count, *shape)
        )
        for name, shape in shapes.items()
    }
    starts = range(0, count, chunk)
    # Not forked: a fork of a process that runs OpenCV's or torch's threads can wait for ever.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_render_chunk, split, start, min(chunk, count - start), seed, size) for start in starts]
        for start, job in zip(starts, jobs, strict=True):
            for name, values in job.result().items():
                arrays[name][start : start + len(values)] = values
    for array in arrays.values():
        array.flush()
    stamp.write_text(json.dumps(wanted))
    return Scenes.load(folder)


def _render_chunk(split: str, start: int, count: int, seed: int, size: int) -> dict[str, npt.NDArray[np.generic]]:
    cv2.setNumThreads(1)
    class_of = {name: i for i, name in enumerate(class_names())}
    descriptor_of = {name: i for i, name in enumerate(all_descriptors())}
    images = np.zeros((count, size, size, 3), np.uint8)
    class_ids = np.zeros(count, np.int64)
    part_ids = np.full((count, MAX_PARTS), -1, np.int64)
    boxes = np.zeros((count, MAX_PARTS, 4), np.int64)
    for i, scene in enumerate(render_scenes(split, count=count, size=size, seed=seed, start=start)):
        images[i], class_ids[i] = scene.image, class_of[scene.class_name]
        for j, part in enumerate(scene.parts[:MAX_PARTS]):
            ys, xs = np.nonzero(part.mask_pixels)
            part_ids[i, j] = descriptor_of[part.descriptor]
            boxes[i, j] = (xs.min(), ys.min(), xs.max(), ys.max())
    return {"images": images, "class_ids": class_ids, "part_ids": part_ids, "boxes": boxes}


def jitter(rng: np.random.Generator, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Shift by up to three pixels (edges repeated) and vary brightness and contrast by up to 15 %, image by image."""
    out, size = np.empty_like(images), images.shape[1]
    shifts = rng.integers(-3, 4, size=(len(images), 2))
    gains, offsets = rng.uniform(0.85, 1.15, len(images)), rng.uniform(-18, 18, len(images))
    levels = np.arange(256)
    for i, (dy, dx) in enumerate(shifts.tolist()):
        table = np.clip(levels * gains[i] + offsets[i], 0, 255).astype(np.uint8)
        padded = cv2.copyMakeBorder(images[i], 3, 3, 3, 3, cv2.BORDER_REPLICATE)
        out[i] = cv2.LUT(padded[3 + dy : 3 + dy + size, 3 + dx : 3 + dx + size], table)
    return out


def resized(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Resize square images (B, S, S, 3): downwards by area, upwards bicubic, as the model's preprocessing does."""
    if images.shape[1] == side:
        return images
    method = cv2.INTER_AREA if side < images.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, (side, side), interpolation=method) for image in images]).astype(np.uint8)


def soften(rng: np.random.Generator, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Show half of the images as enlarged 64-pixel pictures, since a model meets such too."""
    soft = rng.random(len(images)) < 0.5
    if soft.any():
        images[soft] = resized(resized(images[soft], SIZE), images.shape[1])
    return images


def draw_prompt(
    rng: np.random.Generator, image: npt.NDArray[np.uint8], box: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Draw a red ellipse or box around a jittered part box; the outside stays, turns grey or is blurred.

    Web pictures hold such marks, which is why prompting works on web-scale CLIP; this imitates them.
    """
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    slack = rng.uniform(-0.1, 0.25, size=4) * np.array([width, height, width, height])
    x0, y0, x1, y1 = np.rint(box + slack * np.array([-1, -1, 1, 1])).astype(int).tolist()
    centre, axes = ((x0 + x1) // 2, (y0 + y1) // 2), (max(2, (x1 - x0) // 2), max(2, (y1 - y0) // 2))
    inside = np.zeros(image.shape[:2], np.uint8)
    line = max(1, image.shape[0] // SIZE)
    round_mark = rng.random() < 0.75
    angle = float(rng.uniform(-20, 20))
    if round_mark:
        cv2.ellipse(inside, centre, axes, angle, 0, 360, 255, -1)
    else:
        cv2.rectangle(inside, (x0, y0), (x1, y1), 255, -1)
    outside = (
        image,
        cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
        cv2.GaussianBlur(image, (11, 11), 2.0),
    )[int(rng.integers(3))]
    marked = np.ascontiguousarray(np.where(inside[..., None] > 0, image, outside))
    if round_mark:
        cv2.ellipse(marked, centre, axes, angle, 0, 360, (255, 0, 0), line)
    else:
        cv2.rectangle(marked, (x0, y0), (x1, y1), (255, 0, 0), line)
    return marked.astype(np.uint8)


def crop(
    rng: np.random.Generator, image: npt.NDArray[np.uint8], box: npt.NDArray[np.int64], side: int
) -> npt.NDArray[np.uint8]:
    """Cut a part box with some of its surroundings, at least 10 pixels wide, and resize it to `side` pixels."""
    x0, y0, x1, y1 = box.tolist()
    half = max(x1 - x0 + 1, y1 - y0 + 1, 10) * rng.uniform(0.5, 0.8)
    x, y, size = (x0 + x1 + 1) / 2, (y0 + y1 + 1) / 2, image.shape[0]
    left, right = max(0, int(x - half)), min(size, int(x + half + 1))
    top, bottom = max(0, int(y - half)), min(size, int(y + half + 1))
    method = cv2.INTER_AREA if bottom - top > side else cv2.INTER_LINEAR
    resized_crop = cv2.resize(image[top:bottom, left:right], (side, side), interpolation=method)
    return np.asarray(resized_crop, np.uint8)
