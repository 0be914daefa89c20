"""The rendered world as a dataset: scenes are drawn when they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

from clipmk.datasets.entries import Dataset, Entry, make_dataset
from clipmk.errors import ImageError, UsageError, suggest
from clipmk.images.decoder import Picture, read_picture
from clipmk.system.text import printable, quoted
from clipmk.world.conditions import ALL_SPLITS, SPLITS
from clipmk.world.sampling import class_at
from clipmk.world.scene import SMALLEST_SIZE, render_scene

SCENES = 600  # scenes by default

_OPTIONS: dict[str, tuple[int, int, int | None]] = {
    "scenes": (SCENES, 1, None),
    "seed": (0, 0, None),
    "size": (64, SMALLEST_SIZE, 4096),
}
"""Default, smallest and largest value of each option."""


@dataclass(frozen=True, slots=True)
class WorldReader:
    """Draws scenes by their key, `SPLIT/INDEX`."""

    seed: int
    size: int
    """Side in pixels."""

    def read(self, entry: Entry) -> Picture:
        """Draw one scene; see `Reader`."""
        split, _, index = entry.key.partition("/")
        if split not in ALL_SPLITS or not index.isdecimal():
            raise ImageError(f"image {quoted(entry.key)} is not a scene of the rendered world")
        return read_picture(render_scene(split, int(index), size=self.size, seed=self.seed).image, name=entry.key)


def open_world(spec: str, limit: int | None) -> Dataset:
    """The first scenes of a split: `world:SPLIT?scenes=600&seed=0&size=64`; every class equally often."""
    split, _, query = spec.removeprefix("world").removeprefix(":").partition("?")
    if split not in ALL_SPLITS:
        raise UsageError(
            f"split {quoted(split)} of the rendered world does not exist; {printable(suggest(split, ALL_SPLITS))}; "
            f"as in world:{SPLITS[1]}"
        )
    count, seed, size = _options(spec, query)
    count = count if limit is None else min(count, limit)
    entries = [Entry(key=f"{split}/{index:06d}", label=class_at(split, index, seed)) for index in range(count)]
    note = f"the embedded models were trained on scenes of {split!r}: accuracy on unseen images is lower"
    warnings = [note] if split in ("train", "varied") else []
    reader = WorldReader(seed, size)
    return make_dataset(spec, "world", entries, reader, warnings=warnings, drawn=f"seed={seed} size={size}")


def _options(spec: str, query: str) -> Iterator[int]:
    """The options in their order, from what stands after the question mark."""
    options = {name: default for name, (default, _, _) in _OPTIONS.items()}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in options:
            raise UsageError(
                f"option {quoted(name)} of {quoted(spec)} does not exist; {printable(suggest(name, options))}"
            )
        if not (value.isascii() and value.isdecimal() and len(value) < 19):
            raise UsageError(f"option {name} of {quoted(spec)} is {quoted(value)}; a whole number is needed")
        options[name] = int(value)
    for name, number in options.items():
        _, least, most = _OPTIONS[name]
        if number < least or (most is not None and number > most):
            bound = f"at least {least}" if most is None else f"between {least} and {most}"
            raise UsageError(f"{name} is {number}; it must be {bound}")
        yield number
