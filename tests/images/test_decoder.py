"""Safe decoding: files of every kind, damaged ones, and arrays and tensors."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from clipmk.errors import ImageError, UsageError
from clipmk.images.decoder import Picture, read_picture
from pictures import EXPECTED_BLOCKS, blocks, encode, noise


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_preview_is_the_picture_with_fewer_pixels_and_the_same_identity(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation if kind in {"JPEG", "PNG", "WEBP"} else 1
    data = encode(blocks().resize((4800, 3200), Image.Resampling.NEAREST), kind, exif=exif)
    whole, preview = read_picture(data, name="x"), read_picture(data, name="x", least_side=300)
    assert preview.info == whole.info
    height, width, _ = preview.pixels.shape
    assert 300 <= max(height, width) < 600
    expected = whole.image.resize((width, height), Image.Resampling.BOX)
    assert np.abs(preview.pixels.astype(int) - np.asarray(expected)).mean() < 1.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_a_preview_of_every_mode_has_its_colours(mode: str) -> None:
    image = Image.new("RGBA", (700, 1), (250, 250, 250, 255))
    if mode == "I;16":
        image = Image.fromarray(np.full((1, 700), 250 * 257, dtype=np.uint16))
    elif mode == "P":
        image = image.convert("RGB").quantize(4)
    elif mode not in {"RGBA", "LA"}:
        image = image.convert("RGB").convert(mode)
    data = encode(image, "JPEG" if mode == "CMYK" else "PNG")
    whole, preview = read_picture(data), read_picture(data, least_side=100)
    assert preview.pixels.shape == (1, 100, 3)
    np.testing.assert_allclose(preview.pixels[0, 50], whole.pixels[0, 350], atol=1)


def test_a_small_picture_and_one_in_memory_are_read_whole_for_a_preview() -> None:
    data = encode(noise(60, 40))
    np.testing.assert_array_equal(read_picture(data, least_side=60).pixels, read_picture(data).pixels)
    assert read_picture(noise(60, 40), least_side=10).pixels.shape == (40, 60, 3)


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


def test_a_phone_photo_with_a_second_view_is_not_an_animation() -> None:
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_truncated_file_is_damaged(kind: str, share: float) -> None:
    data = encode(noise(64, 64), kind)
    with pytest.raises(ImageError, match="image 'x' is damaged"):
        read_picture(data[: int(len(data) * share) + 4], name="x")


@settings(max_examples=150)
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
        (b"\0\0\0\x18ftypheic", "(is of the format|is a damaged) HEIC or AVIF"),
        (b"%PDF-1.7", "is of the format PDF"),
        (encode(noise(4, 4), "TIFF")[:60], "is a TIFF that is damaged or has pixels of another kind"),
        (encode(noise(4, 4), "PPM"), "readable formats"),
    ],
)
def test_unreadable_data_is_named_with_the_readable_formats(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_picture(data, name="x")


@pytest.mark.parametrize("size", [(10_001, 10_000), (20_000, 20_000)])
def test_too_many_pixels_are_refused_from_the_header_alone(size: tuple[int, int]) -> None:
    header = bytearray(encode(Image.new("1", (1, 1)), "BMP"))
    header[18:26] = size[0].to_bytes(4, "little") + size[1].to_bytes(4, "little")
    with pytest.raises(ImageError, match="100 megapixels"):
        read_picture(bytes(header))


@pytest.mark.parametrize("size", [(1, 300_001), (300_001, 1)])
def test_a_side_that_is_too_long_is_refused_however_narrow_the_image_is(size: tuple[int, int]) -> None:
    header = bytearray(encode(Image.new("1", (1, 1)), "BMP"))
    header[18:26] = size[0].to_bytes(4, "little") + size[1].to_bytes(4, "little")
    with pytest.raises(ImageError, match="no side may be longer than 300,000 px"):
        read_picture(bytes(header))


def test_the_pixel_cap_is_raised_by_the_variable_or_the_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large = encode(Image.new("L", (12_000, 9_000)))
    with pytest.raises(ImageError, match=r"at most 100 .*CLIPMK_MAX_MEGAPIXELS=N or max_megapixels = N in the config"):
        read_picture(large)
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text("max_megapixels = 108")
    assert read_picture(large).info.width == 12_000
    monkeypatch.setenv("CLIPMK_MAX_MEGAPIXELS", "107")  # outranks the config
    with pytest.raises(ImageError, match="at most 107 megapixels"):
        read_picture(large)
    monkeypatch.setenv("CLIPMK_MAX_MEGAPIXELS", "many")
    with pytest.raises(UsageError, match="CLIPMK_MAX_MEGAPIXELS is 'many'; it must be a whole number"):
        read_picture(large)


def test_pillows_own_limit_is_put_back_and_does_not_undo_a_raised_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_MAX_MEGAPIXELS", "200")
    before = Image.MAX_IMAGE_PIXELS
    assert read_picture(encode(Image.new("1", (20_000, 9_000)))).info.height == 9_000
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_large_picture_below_the_cap_is_read_without_pillows_bomb_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture = read_picture(encode(Image.new("L", (12, 12))))
    assert picture.pixels.shape == (12, 12, 3)
    assert picture.warnings == ()


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


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P", "1"])
def test_tiff_is_read_in_the_compressions_that_are_safe(compression: str | None, mode: str) -> None:
    image = blocks().convert(mode)
    picture = read_picture(encode(image, "TIFF", compression=compression))
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.warnings == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_upright_like_any_other(orientation: int) -> None:
    reference = Image.Exif()
    reference[ExifTags.Base.Orientation] = orientation
    expected = read_picture(encode(blocks(), "PNG", exif=reference))
    picture = read_picture(encode(blocks(), "TIFF", tiffinfo={ExifTags.Base.Orientation: orientation}))
    np.testing.assert_array_equal(picture.pixels, expected.pixels)
    assert (picture.info.width, picture.info.height) == (expected.info.width, expected.info.height)


def test_tiff_of_other_compressions_is_refused_and_further_pages_are_noted() -> None:
    with pytest.raises(ImageError, match="is a TIFF with jpeg compression; of RGB or grey, read are: raw, packbits"):
        read_picture(encode(blocks(), "TIFF", compression="jpeg"))
    pages = encode(blocks(), "TIFF", save_all=True, append_images=[noise(4, 4)])
    assert read_picture(pages).warnings == ("the file holds several images; only the first is used",)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_heic_and_avif_are_read_where_pillow_heif_is_installed(kind: str) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    with warnings.catch_warnings(action="ignore"):
        heif.register_avif_opener()
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    picture = read_picture(encode(blocks(96, 64), kind, quality=95))
    assert np.abs(picture.pixels.astype(int) - np.asarray(blocks(96, 64)).astype(int)).mean() < 8
    upright = read_picture(encode(blocks(96, 64), kind, quality=95, exif=turned.tobytes()))
    assert (upright.info.width, upright.info.height) == (64, 96)
    with pytest.raises(ImageError, match="is a damaged HEIC or AVIF file, or a video"):
        read_picture(b"\0\0\0\x18ftypqt  " + bytes(99))
