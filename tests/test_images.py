"""Safe decoding, and the way from the picture to the model's square and back."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image

import clipmk.square
from clipmk import images
from clipmk.errors import ImageError, InputError, UsageError
from clipmk.images import Picture, Square, expand_paths, read_picture, square_image

SIZES = st.integers(1, 40)
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


def test_a_png_keeps_every_pixel_and_is_identified_by_its_file_bytes(tmp_path: Path) -> None:
    data = encode(noise(7, 5))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    picture = read_picture(str(path))
    np.testing.assert_array_equal(picture.pixels, np.array(noise(7, 5)))
    assert picture.info.path == str(path)
    assert (picture.info.width, picture.info.height) == (7, 5)
    assert picture.info.sha256 == hashlib.sha256(data).hexdigest()
    assert picture.image.mode == "RGB"
    assert picture.image.size == (7, 5)
    assert picture.warnings == ()


@pytest.mark.parametrize("source", [lambda p: p, lambda p: p.read_bytes(), lambda p: io.BytesIO(p.read_bytes())])
def test_path_bytes_and_open_file_give_the_same_picture(tmp_path: Path, source: object) -> None:
    path = tmp_path / "a.png"
    noise(4, 6).save(path)
    np.testing.assert_array_equal(read_picture(source(path)).pixels, np.array(noise(4, 6)))


def test_bytes_take_the_name_they_are_given() -> None:
    assert read_picture(encode(noise(2, 2)), name="-").info.path == "-"
    assert read_picture(encode(noise(2, 2))).info.path is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "MPO"])
def test_every_allowed_format_is_read(kind: str) -> None:
    pixels = read_picture(encode(blocks(), kind)).pixels
    for (row, column), colour in EXPECTED_BLOCKS.items():
        np.testing.assert_allclose(pixels[8 + 16 * row, 12 + 24 * column], colour, atol=6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    picture = read_picture(encode(blocks(), kind, exif=exif, **options))
    expected = undo(np.array(blocks()))
    assert (picture.info.height, picture.info.width) == expected.shape[:2]
    np.testing.assert_allclose(picture.pixels.astype(int), expected.astype(int), atol=12 if kind == "JPEG" else 0)


def test_orientation_counts_for_pil_images_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encode(blocks(), "PNG", exif=exif)))
    np.testing.assert_array_equal(read_picture(image).pixels, np.rot90(np.array(blocks()), -1))


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257], [32768, 40000, 65406, 65535]], dtype=np.uint16)
    picture = read_picture(encode(Image.fromarray(values)))
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(picture.pixels, np.repeat(expected[..., None], 3, axis=2))


def test_a_transparent_value_of_sixteen_bit_grey_is_white() -> None:
    values = np.array([[1000, 40000]], dtype=np.uint16)
    picture = read_picture(encode(Image.fromarray(values), transparency=1000))
    assert picture.pixels[0, :, 0].tolist() == [255, round(40000 / 257)]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    straight = Image.new("RGBA" if "RGB" in mode else "LA", (3, 1))
    colours = [(0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 128)] if "RGB" in mode else [(0, 0), (0, 255), (0, 128)]
    straight.putdata(colours)
    image = straight if mode in {"RGBA", "LA"} else straight.convert(mode)
    assert read_picture(image).pixels[0].tolist() == [[255] * 3, [0] * 3, [127] * 3]


def test_transparent_palette_entries_and_colour_keys_are_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 10, 10, 10, 200, 10])
    palette.putdata([0, 1])
    assert read_picture(encode(palette, transparency=0)).pixels[0].tolist() == [[255] * 3, [10, 200, 10]]
    assert read_picture(encode(palette)).pixels[0].tolist() == [[200, 10, 10], [10, 200, 10]]
    keyed = encode(palette.convert("RGB"), transparency=(10, 200, 10))
    assert read_picture(keyed).pixels[0].tolist() == [[200, 10, 10], [255] * 3]


def test_cmyk_bilevel_and_grey_become_rgb() -> None:
    cmyk = read_picture(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).pixels
    np.testing.assert_allclose(cmyk[4, 4], (255, 0, 0), atol=6)
    bilevel = Image.new("1", (2, 1))
    bilevel.putdata([0, 1])
    assert read_picture(encode(bilevel)).pixels[0].tolist() == [[0] * 3, [255] * 3]
    assert read_picture(encode(Image.new("L", (1, 1), 77))).pixels.tolist() == [[[77] * 3]]


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_a_mode_without_a_range_is_refused_by_name(mode: str) -> None:
    with pytest.raises(ImageError, match=f"mode '{mode}'"):
        read_picture(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame_and_a_warning(kind: str) -> None:
    first, second = Image.new("RGB", (4, 4), (250, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 250))
    picture = read_picture(encode(first, kind, save_all=True, append_images=[second]))
    np.testing.assert_allclose(picture.pixels[0, 0], (250, 0, 0), atol=8)
    assert picture.warnings == ("the image is animated; only its first frame is used",)


def test_a_phone_photo_with_a_second_view_is_no_animation() -> None:
    data = encode(blocks(), "MPO", save_all=True, append_images=[blocks().rotate(180)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    picture = read_picture(data)
    np.testing.assert_allclose(picture.pixels[2, 2], EXPECTED_BLOCKS[0, 0], atol=6)
    assert picture.warnings == ()


def test_damaged_exif_leaves_the_picture_and_a_warning() -> None:
    data = encode(blocks(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, np.array(blocks()))
    assert picture.warnings != ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_truncated_file_is_damaged(kind: str, share: float) -> None:
    data = encode(noise(64, 64), kind)
    with pytest.raises(ImageError, match="image 'x' is damaged"):
        read_picture(data[: int(len(data) * share) + 4], name="x")


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]), st.data())
def test_broken_bytes_raise_nothing_but_image_errors(kind: str, data: st.DataObject) -> None:
    broken = bytearray(encode(noise(9, 8), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert isinstance(read_picture(bytes(broken)), Picture)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "image 'x' is empty"),
        (b"hello", "is not an image that can be read; readable formats: JPEG, PNG, WEBP, GIF, BMP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is of the format SVG; readable formats: JPEG, PNG"),
        (b"\0\0\0\x18ftypheic", "is of the format HEIC or AVIF"),
        (b"%PDF-1.7", "is of the format PDF"),
        (encode(noise(4, 4), "TIFF"), "is of the format TIFF; readable formats"),
        (encode(noise(4, 4), "PPM"), "readable formats"),
    ],
)
def test_what_is_no_readable_image_is_named_with_the_readable_formats(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_picture(data, name="x")


@pytest.mark.parametrize("size", [(10_001, 10_000), (20_000, 20_000)])
def test_too_many_pixels_are_refused_from_the_header_alone(size: tuple[int, int]) -> None:
    header = bytearray(encode(Image.new("1", (1, 1)), "BMP"))
    header[18:26] = size[0].to_bytes(4, "little") + size[1].to_bytes(4, "little")
    with pytest.raises(ImageError, match="100 megapixels"):
        read_picture(bytes(header))


def test_a_large_picture_below_the_cap_is_read_without_pillows_bomb_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture = read_picture(encode(Image.new("L", (12, 12))))
    assert picture.pixels.shape == (12, 12, 3)
    assert picture.warnings == ()


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    path = tmp_path / "big.png"
    with path.open("wb") as handle:
        handle.truncate(2**20 + 1)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="larger than 1 MiB"):
            read_picture(source)


def test_a_missing_file_is_repeated_with_close_names(tmp_path: Path) -> None:
    for name in ("fox_03.png", "house.jpg", "fox_03.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / "fxo_03.png")
    assert str(caught.value) == f"image '{tmp_path / 'fxo_03.png'}' does not exist; close: 'fox_03.png'"
    with pytest.raises(ImageError, match="neither does the folder"):
        read_picture(tmp_path / "nowhere" / "fox.png")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_picture(tmp_path)


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.touch()

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageError, match=r"secret.png' cannot be read: Permission denied"):
        read_picture(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # nobody writes: opening it the ordinary way would wait forever
    with pytest.raises(ImageError, match="is a pipe"):
        read_picture(pipe)
    with pytest.raises(ImageError, match="is a device"):
        read_picture("/dev/zero")
    short = Path(os.path.relpath(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short))
        with pytest.raises(ImageError, match="is a socket"):
            read_picture(short)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
def test_a_file_swapped_for_a_pipe_after_the_check_does_not_block(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from clipmk import files\n"
        "from clipmk.errors import ImageError\n"
        "real = os.stat(sys.executable)\n"
        "pathlib.Path.stat = lambda self, **_: real\n"
        "try:\n"
        "    files.read_regular(sys.argv[1], limit=10**9, noun='image', error=ImageError)\n"
        "except ImageError as error:\n"
        "    print(error)\n"
    )
    os.mkfifo(tmp_path / "swapped")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "swapped")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "is a pipe" in done.stdout


@pytest.mark.parametrize("name", ["", "a\0b.png", "x" * 5000])
def test_impossible_names_are_image_errors(name: str) -> None:
    with pytest.raises(ImageError):
        read_picture(name)


def test_control_characters_of_a_name_never_reach_the_message(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / "\x1b[31mred\u202e.png")
    assert r"\x1b[31mred\u202e.png" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_undecodable_name_can_be_written_as_utf_8(tmp_path: Path) -> None:
    assert read_picture(encode(noise(1, 1)), name="caf\udce9.png").info.path == r"caf\udce9.png"


def test_arrays_are_taken_as_they_are_and_copied() -> None:
    array = np.array(noise(5, 3))
    picture = read_picture(array[:, ::-1])
    np.testing.assert_array_equal(picture.pixels, np.array(noise(5, 3))[:, ::-1])
    array[:] = 0
    assert picture.pixels.any()
    assert picture.info.path is None
    assert picture.info.sha256 == hashlib.sha256(picture.pixels.tobytes()).hexdigest()
    grey = read_picture(array[..., 0])
    assert grey.pixels.shape == (3, 5, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_float_tensor_gives_back_the_pixels_it_was_made_from(dtype: torch.dtype) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    tensor = torch.tensor(pixels).permute(2, 0, 1).to(torch.float32).div(255).to(dtype).requires_grad_()
    np.testing.assert_array_equal(read_picture(tensor).pixels, pixels)
    with torch.no_grad():
        assert read_picture(torch.zeros(3, 2, 2, dtype=torch.bfloat16)).pixels.sum() == 0


def test_images_in_memory_agree_on_their_identity() -> None:
    image = noise(6, 4)
    tensor = torch.tensor(np.array(image)).permute(2, 0, 1) / 255
    digests = {read_picture(source).info.sha256 for source in (image, np.array(image), tensor)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\); uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 \(3, 4, 4\); uint8 \(height, width, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), "needed"),
        (np.zeros((0, 4, 3), np.uint8), "4x0 px"),
        (np.zeros(4, np.uint8), "needed"),
        (torch.zeros(4, 4, 3), r"float \(3, height, width\)"),
        (torch.zeros(1, 3, 4, 4), "needed"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"torch.uint8 \(3, 4, 4\)"),
        (torch.zeros(3, 0, 4), "4x0 px"),
        (torch.full((3, 2, 2), 1.5), r"values in \[1.5, 1.5\]; \[0, 1\] is needed"),
        (torch.full((3, 2, 2), -0.1), "values in"),
        (torch.full((3, 2, 2), torch.nan), "values in"),
        (Image.new("RGB", (0, 3)), "0x3 px"),
        (12, "given as int"),
        (io.StringIO("text"), "given as str"),
    ],
)
def test_wrong_objects_are_refused_with_what_is_needed(source: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_picture(source)


@pytest.mark.parametrize(
    "size", [(64, 48), (48, 64), (63, 41), (37, 53), (31, 97), (224, 224), (5, 3), (225, 224), (3, 100)]
)
@pytest.mark.parametrize("side", [32, 37])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_squares_equal_open_clips_own_transform_to_the_pixel(
    size: tuple[int, int], side: int, resize: str, interpolation: str
) -> None:
    mode = "shortest" if resize == "crop" else "squash"
    transform = image_transform(
        side, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    expected = (transform(noise(*size)) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    square = square_image(read_picture(noise(*size)), side=side, resize=resize, interpolation=interpolation)
    np.testing.assert_array_equal(np.array(square), expected)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3001)])
def test_a_very_long_strip_is_cropped_on_the_way_with_the_same_pixels(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = image_transform(16, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    expected = (transform(noise(*size)) * 255).round().permute(1, 2, 0).numpy()
    monkeypatch.setattr(clipmk.square, "STRIP_PIXELS", 1000)
    square = np.array(square_image(read_picture(noise(*size)), side=16, resize="crop"))
    np.testing.assert_allclose(square.astype(float), expected, atol=1)
    monkeypatch.undo()
    assert square_image(read_picture(np.zeros((1, 300_000), np.uint8)), side=224, resize="crop").size == (224, 224)


@pytest.mark.parametrize(("resize", "expected"), [("squash", (0, 0, 80, 40)), ("crop", (20, 0, 60, 40))])
def test_the_box_is_the_region_of_the_original(resize: str, expected: tuple[float, ...]) -> None:
    assert Square(80, 40, 20, resize).box == expected


@settings(deadline=None)
@given(width=SIZES, height=SIZES, side=SIZES, resize=st.sampled_from(["squash", "crop"]), seed=st.integers(0, 9))
def test_masks_follow_the_pixels_that_their_centres_fall_on(
    width: int, height: int, side: int, resize: str, seed: int
) -> None:
    square = Square(width, height, side, resize)
    (across, down), (left, top) = square.resized, square.corner
    draw = np.random.default_rng(seed)
    mask_pixels, mask_square = draw.random((height, width)) < 0.5, draw.random((side, side)) < 0.5
    to_square, to_pixels = square.to_square(mask_pixels), square.to_pixels(mask_square)
    nearest = np.zeros_like(to_square)
    for row in range(side):
        for column in range(side):
            y = (row + top + Fraction(1, 2)) * height / down
            x = (column + left + Fraction(1, 2)) * width / across
            nearest[row, column] = mask_pixels[int(y), int(x)]
    if nearest.any():
        np.testing.assert_array_equal(to_square, nearest)
    for row in range(height):
        for column in range(width):
            y = (row + Fraction(1, 2)) * down / height - top
            x = (column + Fraction(1, 2)) * across / width - left
            inside = 0 <= y < side and 0 <= x < side
            assert to_pixels[row, column] == (inside and mask_square[int(y), int(x)])


@settings(deadline=None)
@given(width=SIZES, height=SIZES, side=SIZES, seed=st.integers(0, 9))
def test_squashed_masks_survive_the_way_through_the_finer_grid(width: int, height: int, side: int, seed: int) -> None:
    square, draw = Square(width, height, side, "squash"), np.random.default_rng(seed)
    if side >= max(width, height):
        mask_pixels = draw.random((height, width)) < 0.5
        np.testing.assert_array_equal(square.to_pixels(square.to_square(mask_pixels)), mask_pixels)
    if side <= min(width, height):
        mask_square = draw.random((side, side)) < 0.5
        np.testing.assert_array_equal(square.to_square(square.to_pixels(mask_square)), mask_square)


@settings(deadline=None)
@given(width=SIZES, height=SIZES, side=SIZES)
def test_a_crop_covers_exactly_the_pixels_with_their_centre_in_its_box(width: int, height: int, side: int) -> None:
    square = Square(width, height, side, "crop")
    x0, y0, x1, y1 = square.box
    covered = square.to_pixels(np.ones((side, side), bool))
    for y, x in np.ndindex(height, width):
        distance = min(x + 0.5 - x0, x1 - x - 0.5, y + 0.5 - y0, y1 - y - 0.5)
        if abs(distance) > 1e-9:
            assert covered[y, x] == (distance > 0)


@pytest.mark.parametrize("size", [(61, 47), (47, 61), (101, 100)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_mask_on_the_square_lies_where_the_picture_shows_the_thing(size: tuple[int, int], resize: str) -> None:
    width, height = size
    thing = np.zeros((height, width), bool)
    thing[height // 3 : height // 2, width // 4 : width // 2] = True
    picture = read_picture((thing * 255).astype(np.uint8))
    shown = np.array(square_image(picture, side=32, resize=resize, interpolation="nearest"))[..., 0] > 0
    mask = Square(width, height, 32, resize).to_square(thing)
    assert (mask != shown).mean() < 0.002
    assert mask.any()


def test_wrong_masks_sizes_and_names_are_refused() -> None:
    square = Square(6, 4, 3, "squash")
    with pytest.raises(InputError, match=r"bool \(3, 3\) is needed"):
        square.to_pixels(np.zeros((4, 6), bool))
    with pytest.raises(InputError, match=r"uint8 \(4, 6\); bool \(4, 6\)"):
        square.to_square(np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError):
        Square(0, 4, 3, "squash")
    with pytest.raises((UsageError, TypeError), match="squash"):  # TypeError when the test run checks types itself
        Square(6, 4, 3, "squish")
    with pytest.raises(UsageError, match="close: 'bicubic'"):
        square_image(read_picture(noise(4, 4)), side=2, resize="crop", interpolation="bicubix")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "a[1].png", "sub/deep.webp"):
        path = tmp_path / "pics" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (tmp_path / "pics" / "folder.png").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pics"], ["pics/a.jpg", "pics/a[1].png", "pics/b.PNG"]),
        (["pics/a[1].png"], ["pics/a[1].png"]),
        (["pics/[ab].*"], ["pics/a.jpg", "pics/b.PNG"]),
        (["pics/*.txt"], ["pics/notes.txt"]),
        (["pics/**/*.webp"], ["pics/sub/deep.webp"]),
        (["pics/b*", "-", "pics/notes.txt"], ["pics/b.PNG", "-", "pics/notes.txt"]),
        (["nothing*.png", "missing.jpg"], ["nothing*.png", "missing.jpg"]),
        (["x" * 5000, "", "a\0b"], ["x" * 5000, "", "a\0b"]),
        ([], []),
    ],
)
def test_arguments_become_paths(folder: Path, arguments: list[str], expected: list[str]) -> None:
    assert [path.replace(os.sep, "/") for path in expand_paths(arguments)] == expected


def test_a_folder_without_images_names_the_known_endings(folder: Path) -> None:
    with pytest.raises(InputError, match=r"folder 'empty' holds no image; known endings: .bmp, .gif.*\.webp$"):
        expand_paths(["empty"])


def test_a_folder_of_class_folders_is_told_how_to_be_named(folder: Path) -> None:
    (folder / "empty" / "fox").mkdir()
    (folder / "empty" / "fox" / "a.png").touch()
    with pytest.raises(InputError, match=r"folders in it are not searched, name what they hold: 'empty/\*/\*'"):
        expand_paths(["empty"])
    assert expand_paths(["empty/*/*"]) == ["empty/fox/a.png"]
