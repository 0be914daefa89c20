from __future__ import annotations

from pathlib import Path

import pytest

from clipmk.errors import ClipmkError, UsageError
from clipmk_tui.show.files import check_writable, overlay_names


def test_one_overlay_has_the_name_given_and_several_have_names_of_their_own() -> None:
    target = Path("out/parts.png")
    assert overlay_names(target, ["a/fox.jpg"], ["m"]) == [target]
    assert overlay_names(target, ["a/fox.jpg", "-"], ["m"]) == [Path("out/parts-fox.png"), Path("out/parts-stdin.png")]
    assert overlay_names(target, ["fox.jpg"], ["embedded/vit-s8", "ViT-B-32:x"]) == [
        Path("out/parts-fox-embedded-vit-s8.png"),
        Path("out/parts-fox-ViT-B-32-x.png"),
    ]


def test_overlays_of_images_with_equal_names_do_not_overwrite_each_other() -> None:
    names = overlay_names(Path("o.png"), ["a/fox.jpg", "b/fox.jpg", "b/FOX.png", "fox-2.png"], ["m"])
    assert len({str(name).casefold() for name in names}) == 4


def test_image_name_cannot_lead_the_overlay_elsewhere() -> None:
    names = overlay_names(Path("out/o.png"), ["..", "x/\x1b[31m*.png", "/"], ["../m", "b"])
    assert {name.parent for name in names} == {Path("out")}
    assert all(name.name.isprintable() and "*" not in name.name for name in names)


def test_unwritable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipmkError, match=r"the folder '.*nowhere' does not exist"):
        check_writable(tmp_path / "nowhere" / "o.png", inputs=[])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ClipmkError, match="it exists and is not a regular file"):
        check_writable(tmp_path / "folder.png", inputs=[])
    check_writable(tmp_path / "new.png", inputs=["new.png"])


def test_input_image_is_never_overwritten(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png"):
        with pytest.raises(UsageError, match="is one of the images"):
            check_writable(target, inputs=["-", "other.png", str(tmp_path / "." / "photo.png")])
