"""Safe decoding of images: known formats only, sizes capped, nothing that blocks, every failure an `ImageError`."""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from clipmk.errors import ImageError
from clipmk.images.paths import EXTENSIONS, HEIF_HINT, MAX_BYTES
from clipmk.records import ImageInfo
from clipmk.system.config import environment_options, positive_number, read_config, variable
from clipmk.system.files import read_regular
from clipmk.system.quiet import SharedPatch, captured_warnings
from clipmk.system.text import byte_size, encodable, printable, quoted

if TYPE_CHECKING:
    from jaxtyping import UInt8

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The only decoders that are tried (HEIF and AVIF besides): Pillow 10.4 has known vulnerabilities in others."""

_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
"""Compressions of TIFF files that are read; libtiff's code for others, and for YCbCr, has known vulnerabilities."""
_YCBCR = 6

MAX_PIXELS = 100_000_000
"""Largest image, checked against the header before anything is decoded; `max_megapixels` raises it."""

MAX_SIDE = 300_000  # longest side in pixels: each row or column costs memory, however narrow the image is

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | io.IOBase | Image.Image | np.ndarray | Any"
"""What `read_picture` reads; Any stands for a torch tensor, so that torch is not imported here."""

MEGAPIXELS: Final = "max_megapixels"  # key in the config, and `CLIPMK_MAX_MEGAPIXELS` in the environment

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    EOFError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""Everything Pillow's decoders are known to raise on broken files."""

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    *((magic, "TIFF") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transpose that undoes it; from 5 on, it exchanges width and height."""

_STRIP_ROWS = 64  # rows of a reduced image that are made at a time


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image: upright, opaque, RGB."""

    pixels: UInt8[np.ndarray, "height width 3"]
    info: ImageInfo
    """Its width and height are those of the file, also where the pixels are fewer (`least_side`)."""
    warnings: tuple[str, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The same pixels as a PIL image, mode RGB."""
        return Image.fromarray(self.pixels, mode="RGB")


def read_picture(source: ImageSource, *, name: str | None = None, least_side: int | None = None) -> Picture:
    """Decode an image to upright RGB; transparency becomes white, an animation its first frame.

    From a path, encoded bytes, an open binary file, a PIL image, a uint8 array (H, W, 3) RGB or (H, W) grey, or a float
    tensor (3, H, W) RGB in [0, 1]. 16-bit grey is scaled to 8 bits (value / 257, rounded); of 16-bit colour Pillow
    keeps the upper byte. Messages and records call it `name` instead of its path ("-" for standard input). For a
    preview, `least_side` decodes little more than it takes for the longer side to have this many pixels; fewer than
    twice as many. ImageError if it cannot be read or decoded, or has another format, kind, type or range.
    """
    if isinstance(source, Image.Image):
        return _from_pil(source, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if hasattr(source, "detach") and hasattr(source, "is_floating_point"):
        return _from_tensor(source, name)
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        data = read_regular(path, limit=MAX_BYTES, noun="image", error=ImageError, suffixes=EXTENSIONS)
        return _decode(data, path if name is None else name, least_side)
    return _decode(_bytes_of(source, name), name, least_side)


def max_megapixels() -> int:
    """Millions of pixels that an image may have, as raised by the environment, else by the config."""
    raised = environment_options({MEGAPIXELS: positive_number}).get(MEGAPIXELS) or read_config().max_megapixels or 0
    return max(MAX_PIXELS // 10**6, raised)


_bomb_patch = SharedPatch(lambda: Image, "MAX_IMAGE_PIXELS", lambda _: math.inf)
"""Lifts Pillow's own limit: `_check_size` knows what the user wants."""


def _label(name: str | None) -> str:
    return "image" if name is None else f"image {quoted(name)}"


def _bytes_of(source: Any, name: str | None) -> bytes:
    data = source.read(MAX_BYTES + 1) if hasattr(source, "read") else source
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(
            f"{_label(name)} is given as {type(data).__name__}; a path, bytes, an open binary file, a PIL image, "
            "a uint8 array (height, width, 3) or a float tensor (3, height, width) is needed"
        )
    if len(data) > MAX_BYTES:
        raise ImageError(f"{_label(name)} is larger than {byte_size(MAX_BYTES)}")
    return bytes(data)


def _decode(data: bytes, name: str | None, least_side: int | None) -> Picture:
    label, notes = _label(name), list[str]()
    if not data:
        raise ImageError(f"{label} is empty")
    with _decoding(label, notes), _bomb_patch:
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS + _heif_formats(data))
        except UnidentifiedImageError as reason:
            raise ImageError(f"{label} {_unidentified(data)}") from reason
        with image:
            _check_size(image.size, label)
            _load_tiff(image, label)
            size = image.size
            pixels, turned = _pixels(image, label, notes, least_side)
            notes += _animation_note(image)
    return _picture(pixels, name, notes, data, size=size[::-1] if turned else size)


def _from_pil(image: Image.Image, name: str | None) -> Picture:
    label, notes = _label(name), list[str]()
    _check_size(image.size, label)
    with _decoding(label, notes):
        pixels, _ = _pixels(image, label, notes)
    return _picture(pixels, name, notes)


def _from_array(array: np.ndarray, name: str | None) -> Picture:
    if array.dtype != np.uint8 or array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] != 3):
        raise ImageError(
            f"{_label(name)} is {array.dtype} {array.shape}; "
            "uint8 (height, width, 3) RGB or (height, width) grey is needed"
        )
    _check_size((array.shape[1], array.shape[0]), _label(name))
    pixels = np.array(array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2), order="C")
    return _picture(pixels, name)


def _from_tensor(tensor: Any, name: str | None) -> Picture:
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point() or len(shape) != 3 or shape[0] != 3:
        raise ImageError(f"{_label(name)} is {tensor.dtype} {shape}; float (3, height, width) RGB in [0, 1] is needed")
    _check_size((shape[2], shape[1]), _label(name))
    values = tensor.detach().cpu().double().numpy()
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # written so that NaN fails too
        raise ImageError(
            f"{_label(name)} has values in [{low:.4g}, {high:.4g}]; [0, 1] is needed, before any mean and deviation"
        )
    pixels = np.ascontiguousarray(np.rint(values * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    return _picture(pixels, name)


def _picture(
    pixels: np.ndarray,
    name: str | None,
    notes: Iterable[str] = (),
    data: bytes | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> Picture:
    """A picture known by the hash of its encoded data, or else of its pixels; size: (width, height) if not theirs."""
    width, height = size or (pixels.shape[1], pixels.shape[0])
    path, sha256 = None if name is None else encodable(name), hashlib.sha256(pixels.tobytes() if data is None else data)
    info = ImageInfo(path=path, sha256=sha256.hexdigest(), width=width, height=height)
    return Picture(pixels=pixels, info=info, warnings=tuple(dict.fromkeys(notes)))


@contextmanager
def _decoding(label: str, notes: list[str]) -> Iterator[None]:
    """Turn what Pillow raises into `ImageError`, and what it warns about into notes."""
    try:
        with captured_warnings() as caught:
            yield
    except _DAMAGE as reason:
        raise ImageError(f"{label} is damaged: {printable(str(reason)) or type(reason).__name__}") from reason
    notes += [printable(str(entry.message)) for entry in caught if issubclass(entry.category, UserWarning)]


def _check_size(size: tuple[int, int], label: str) -> None:
    width, height = size
    if min(size) < 1:
        raise ImageError(f"{label} is {width}x{height} px; at least 1x1 is needed")
    if max(size) > MAX_SIDE:
        raise ImageError(f"{label} is {width}x{height} px; no side may be longer than {MAX_SIDE:,} px")
    if width * height > MAX_PIXELS and width * height > (most := max_megapixels()) * 10**6:
        raise ImageError(
            f"{label} is {width}x{height} px; at most {most} megapixels are read, more with {variable(MEGAPIXELS)}=N "
            f"or {MEGAPIXELS} = N in the config"
        )


def _heif_formats(data: bytes) -> tuple[str, ...]:
    """HEIF and AVIF, where data may be such an image and pillow-heif is installed."""
    if data[4:8] != b"ftyp":
        return ()
    try:
        import pillow_heif  # noqa: PLC0415 - optional
    except ImportError:
        return ()
    pillow_heif.register_heif_opener()
    pillow_heif.register_avif_opener()
    return ("HEIF", "AVIF")


def _load_tiff(image: Image.Image, label: str) -> None:
    """Decode a TIFF, which turns it upright; others are left alone."""
    if image.format != "TIFF":
        return
    compression, tags = image.info.get("compression"), getattr(image, "tag_v2", {})
    if compression not in _TIFF or tags.get(ExifTags.Base.PhotometricInterpretation) == _YCBCR:
        kinds = ", ".join(_TIFF)
        raise ImageError(f"{label} is a TIFF with {compression} compression; of RGB or grey, read are: {kinds}")
    image.load()


def _unidentified(data: bytes) -> str:
    head = data[:512].lstrip()
    kind = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
    kind = "WEBP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else kind
    if data[4:8] == b"ftyp":
        installed = find_spec("pillow_heif") is not None
        return (
            "is a damaged HEIC or AVIF file, or a video" if installed else f"is of the format HEIC or AVIF; {HEIF_HINT}"
        )
    if kind == "TIFF":
        return "is a TIFF that is damaged or has pixels of another kind than grey, RGB or CMYK"
    if kind in FORMATS:
        return f"is damaged: its {kind} header cannot be read"
    what = "not an image that can be read" if kind is None else f"of the format {kind}"
    return f"is {what}; readable formats: {', '.join(FORMATS)}"


def _animation_note(image: Image.Image) -> list[str]:
    """Called last: looking for a second frame leaves the first. A phone's MPO holds further views, not an animation."""
    try:
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    except _DAMAGE:
        return ["what follows the first frame is damaged"]
    if animated and image.format in {"TIFF", "HEIF", "AVIF"}:
        return ["the file holds several images; only the first is used"]
    return ["the image is animated; only its first frame is used"] if animated else []


def _pixels(
    image: Image.Image, label: str, notes: list[str], least_side: int | None = None
) -> tuple[UInt8[np.ndarray, "height width 3"], bool]:
    """The upright pixels, and whether width and height have changed places."""
    factor = 1
    if least_side is not None and max(image.size) > least_side:
        wanted = [max(1, least_side * side // max(image.size)) for side in image.size]
        image.draft(None, (wanted[0], wanted[1]))  # JPEG decodes at 1/2, 1/4, 1/8; other formats ignore it
        factor = max(image.size) // least_side
    image.load()
    orientation = _orientation(image, notes)
    method = _UPRIGHT.get(orientation)
    opaque = _opaque(image, label) if factor == 1 else _reduced(image, factor, label)
    upright = opaque if method is None else opaque.transpose(method)
    return np.array(upright), method is not None and orientation >= 5


def _reduced(image: Image.Image, factor: int, label: str) -> Image.Image:
    """As RGB on white, `factor` x `factor` pixels as their mean; in strips: converting all of it would double it."""
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, rows := factor * _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(_opaque(strip, label).reduce(factor), (0, top // factor))
    return small


def _orientation(image: Image.Image, notes: list[str]) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        notes.append("the EXIF data is damaged; its orientation is ignored")
        return 1
    return value if isinstance(value, int) else 1


def _opaque(image: Image.Image, label: str) -> Image.Image:
    """Any mode as RGB on white."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in {"I", "F", "LAB"}:
        raise ImageError(f"{label} has mode {image.mode!r}; convert it to 'L' or 'RGB' first")
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257: white stays white
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
