"""Pictures made for tests of decoding: noise, four coloured quadrants, and either as a file's bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

EXPECTED_BLOCKS = {(0, 0): (250, 10, 10), (0, 1): (10, 250, 10), (1, 0): (10, 10, 250), (1, 1): (240, 240, 240)}


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def blocks(width: int = 48, height: int = 32) -> Image.Image:
    """Four coloured quadrants, which survive JPEG and show every rotation."""
    image = Image.new("RGB", (width, height))
    for (row, column), colour in EXPECTED_BLOCKS.items():
        x, y = column * width // 2, row * height // 2
        image.paste(colour, (x, y, x + width // 2, y + height // 2))
    return image
