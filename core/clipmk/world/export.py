"""Scenes as files: one folder a class, and the truth about every image beside them."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
from filelock import Timeout

from clipmk.errors import ClipmkError, UsageError
from clipmk.images.masks import mask_box, rle_encode
from clipmk.system.files import file_lock, unwritable
from clipmk.system.serialization import plain
from clipmk.world.scene import Scene, render_scenes
from clipmk.world.tables import class_names

TRUTH_FILE: Final = "truth.json"
TRUTH_FORMAT: Final = 1  # raised whenever a reader of the file would have to change
_FACTS: Final = ("index", "seed", "class_name", "kind", "framing", "missing", "descriptors")
"""What the file repeats of a `Scene`."""


def export_scenes(folder: str | Path, *, split: str, count: int, size: int = 64, seed: int = 0) -> Path:
    """Write scenes 0 to `count` of the split as `<class>/<index>.png` with `truth.json` beside the class folders.

    The folder appears only when it is complete. UsageError if it exists and is not empty, or the arguments name no
    scene; ClipmkError if it cannot be written.
    """
    target = Path(folder)
    if count < 1:
        raise UsageError(f"count is {count}, at least 1 scene needed")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} exists and is not an empty folder; name another one")
        with _unfinished(target) as unfinished:
            images = [_write(unfinished, scene) for scene in render_scenes(split, count=count, size=size, seed=seed)]
            truth = {"format": TRUTH_FORMAT, "split": split, "size": size, "seed": seed, "classes": class_names()}
            text = json.dumps({**truth, "images": images}, indent=1)
            (unfinished / TRUTH_FILE).write_text(text + "\n", encoding="utf-8")
            if target.exists():
                target.rmdir()
            unfinished.rename(target)
    except Timeout as reason:
        raise ClipmkError(f"another process is exporting to {target}") from reason
    except OSError as reason:
        raise unwritable(target, reason) from reason
    return target


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, removed afterwards; what a killed export left there is removed first."""
    place = target.with_name(f".{target.name}.unfinished")
    place.mkdir(parents=True, exist_ok=True)
    with file_lock(place / "lock", seconds=0):
        try:
            shutil.rmtree(place / "world", ignore_errors=True)
            (place / "world").mkdir()
            yield place / "world"
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _write(folder: Path, scene: Scene) -> dict[str, Any]:
    """Write one image and return the truth about it; its file is a path below the folder, with forward slashes."""
    place = folder / scene.class_name
    place.mkdir(exist_ok=True)
    path = place / f"{scene.index:06d}.png"
    _, png = cv2.imencode(".png", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
    path.write_bytes(png.tobytes())
    return {
        "file": path.relative_to(folder).as_posix(),
        **{name: plain(getattr(scene, name)) for name in _FACTS},
        "object_mask": plain(rle_encode(scene.object_mask)),
        "parts": [
            {
                "descriptor": part.descriptor,
                "part": part.part,
                "bbox_xyxy": mask_box(part.mask_pixels),
                "mask_pixels": plain(rle_encode(part.mask_pixels)),
            }
            for part in scene.parts
        ],
    }
