"""The picture with its parts drawn on it: translucent colours, contours and numbers, so colour is not the only sign."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from clipmk.errors import ImageError
from clipmk.images.decoder import read_picture
from clipmk.images.masks import heat_pixels, rle_decode
from clipmk.output.palette import colour_of
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from jaxtyping import Bool

    from clipmk.records import ExplanationRecord, Part, RelevanceMap

ALPHA = 0.45
HEAT_ALPHA = 0.75  # opacity of a relevance map where it is highest

READABLE_SIDE = 256
"""Pixels: pictures whose shorter side is below this are magnified where numbers must be readable."""

_CONTOUR = 1 / 200
_NUMBER = 1 / 14
_BLUR = 1 / 24
"""Width of a contour, height of a number and radius of a blur, as shares of the picture's shorter side."""


def overlay(
    explanation: ExplanationRecord,
    image: Image.Image | None = None,
    *,
    alpha: float = ALPHA,
    marks: bool = True,
    scale: int = 1,
) -> Image.Image:
    """Draw the parts of an explanation over its picture; those of a what-if's left-out concepts are blurred instead.

    Without `image` the picture is `picture_of` the explanation. `marks` are contours and part numbers; an integer
    `scale` magnifies, so that numbers are readable on a small picture. ImageError if there is no picture, its file has
    changed since, or `image` has another size.
    """
    base = (picture_of(explanation) if image is None else image).convert("RGB")
    wanted = (explanation.image.width, explanation.image.height)
    if base.size != wanted:
        raise ImageError(
            f"the picture is {base.width}x{base.height} px; the explanation is about {wanted[0]}x{wanted[1]} px"
        )
    drawn = base.resize((base.width * scale, base.height * scale), Image.Resampling.NEAREST)
    masks = [(part, rle_decode(part.mask).repeat(scale, 0).repeat(scale, 1)) for part in explanation.parts]
    blurred = explanation.parts_of(explanation.what_if.left_out) if explanation.what_if else frozenset()
    blur = drawn.filter(ImageFilter.GaussianBlur(max(1, min(drawn.size) * _BLUR))) if blurred else drawn
    for part, mask in masks:
        if part.id in blurred:
            drawn.paste(blur, mask=_opacity(mask, 1.0))
        else:
            drawn.paste(colour_of(part.id), mask=_opacity(mask, alpha))
    if marks:
        for part, mask in masks:
            drawn.paste(colour_of(part.id), mask=_opacity(_contour(mask), 1.0))
        for part, mask in masks:
            _number(drawn, part, mask)
    return drawn


def heat_overlay(
    explanation: ExplanationRecord, heat: RelevanceMap, image: Image.Image | None = None, *, scale: int = 1
) -> Image.Image:
    """Draw a relevance map over the picture: hot where it is high, with a contour around its upper half."""
    whole = dataclasses.replace(explanation, what_if=None)
    drawn = overlay(whole, image, alpha=0.0, marks=False, scale=scale)
    pixels = heat_pixels(heat, width=explanation.image.width, height=explanation.image.height)
    share = np.asarray(cv2.resize(pixels / max(float(pixels.max()), 1e-30), drawn.size), dtype=np.float32)
    colours = cv2.applyColorMap(np.rint(255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = np.rint(255 * HEAT_ALPHA * np.sqrt(share)).astype(np.uint8)
    drawn.paste(Image.fromarray(np.ascontiguousarray(colours)), mask=Image.fromarray(opacity))
    drawn.paste((255, 255, 255), mask=_opacity(_contour(share >= 0.5), 1.0))
    return drawn


def readable_scale(explanation: ExplanationRecord) -> int:
    """The smallest integer magnification that makes the shorter side at least `READABLE_SIDE` pixels."""
    return -(-READABLE_SIDE // min(explanation.image.width, explanation.image.height))


def picture_of(explanation: ExplanationRecord) -> Image.Image:
    """The explanation's own picture, else its file read again; ImageError if that is missing or has changed."""
    if explanation.picture is not None:
        return explanation.picture
    path = explanation.image.path
    if path is None or path == "-":
        raise ImageError("the explanation carries no picture and names no file to read it from; pass the image")
    again = read_picture(path)
    if again.info.sha256 != explanation.image.sha256:
        raise ImageError(f"image {quoted(path)} has changed since it was explained; pass the image that was explained")
    return again.image


def anchor(mask: Bool[np.ndarray, "height width"]) -> tuple[int, int]:
    """(x, y) of the pixel farthest from a mask's border, of several the one nearest to the mask's centre."""
    if not mask.any():
        raise ValueError("an empty mask has no anchor")
    padded = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    ys, xs = np.nonzero(depth >= depth.max() - 1e-3)
    centre_y, centre_x = (float(axis.mean()) for axis in np.nonzero(mask))
    best = int(np.hypot(ys - centre_y, xs - centre_x).argmin())
    return int(xs[best]), int(ys[best])


def _opacity(mask: Bool[np.ndarray, "height width"], alpha: float) -> Image.Image:
    return Image.fromarray(np.where(mask, round(255 * alpha), 0).astype(np.uint8))


def _contour(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels of a mask along its border, the picture's border included."""
    width = max(1, round(min(mask.shape) * _CONTOUR))
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=(0.0,))
    contour: Bool[np.ndarray, "height width"] = mask & (inner == 0)
    return contour


def _number(drawn: Image.Image, part: Part, mask: Bool[np.ndarray, "height width"]) -> None:
    """Write the part's number where the part is widest; white with a black rim is readable on every colour."""
    if not mask.any():
        return
    size = max(8, round(min(drawn.size) * _NUMBER))
    ImageDraw.Draw(drawn).text(
        anchor(mask),
        str(part.id),
        font=ImageFont.load_default(size),
        fill="white",
        stroke_fill="black",
        stroke_width=max(1, size // 8),
        anchor="mm",
    )
