"""Writing the comparison: whatever the image is called and wherever the app runs, it goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app_harness import FakeEngine, compare_host, press, settled
from clipmk_tui.app.screens.compare import CompareScreen


async def written(image: str) -> list[str]:
    """What the app says after `w`, twice; still running at the end."""
    app = compare_host(FakeEngine(), image=image)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        for _ in range(2):
            await press(pilot, "w")
        assert app.is_running
        assert isinstance(app.screen, CompareScreen)
    return app.notes


@pytest.mark.parametrize("letter", ["x", "é", "狐"])
async def test_a_name_as_long_as_a_name_can_be_is_cut_between_its_letters(
    letter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    size = len(letter.encode())
    notes = await written(f"album/{letter * (251 // size)}.png")
    stem = f"clipmk-compare-{letter * (80 // size)}"
    assert notes == [f"wrote {stem}.json", f"wrote {stem}-2.json"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{stem}.json", f"{stem}-2.json"}
    assert max(len(name.encode()) for name in names) <= 143


@pytest.mark.parametrize("name", ["--.png", "\udcff.png"])
async def test_a_name_without_a_letter_gives_one_all_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (await written(name))[0] == "wrote clipmk-compare-unnamed.json"


@pytest.mark.skipif(sys.platform == "win32", reason="the working folder cannot be removed there")
async def test_a_working_folder_that_is_gone_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    notes = await written("fox.png")
    assert notes == 2 * ["the comparison cannot be written: the working folder does not exist any more"]


async def test_a_folder_that_cannot_be_listed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "cwd", refuse)
    assert await written("fox.png") == 2 * ["the comparison cannot be written: Permission denied"]
