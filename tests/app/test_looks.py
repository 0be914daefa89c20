"""How the app looks: screens as SVG against golden files, each with a check that nothing crashed behind them.

`pytest tests/app/test_looks.py --update-golden` writes them; then open them and look.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import samples
from app_harness import RN, VIT, FakeEngine, press, running, seen

LOOKS = {
    "app-wide": ((120, 30), "clipmk-dark", ("down", "down")),
    "app-narrow": ((80, 24), "clipmk-dark", ("down", "x")),
    "app-light": ((100, 24), "clipmk-light", ()),
    "app-compare": ((80, 24), "clipmk-dark", ("c",)),
    "app-venn": ((80, 24), "clipmk-dark", ("v",)),
}


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.chdir(tmp_path)
    path = Path("fox/fox_03.png")
    path.parent.mkdir()
    samples.picture().save(path)
    return path.parent


@pytest.mark.parametrize("name", LOOKS)
async def test_a_screen_looks_as_it_did(name: str, picture: Path, golden: Callable[[str, str], None]) -> None:
    size, theme, keys = LOOKS[name]
    async with running(FakeEngine(), picture, size=size, models=(VIT, RN)) as (pilot, screen):
        pilot.app.theme = theme
        for key in keys:
            await press(pilot, key)
        drawn = pilot.app.export_screenshot(title="clipmk", simplify=True)
        assert pilot.app.is_running
        assert pilot.app.return_code is None
        assert seen(screen).strip()
    golden(f"{name}.svg", neutral(drawn))


def neutral(drawn: str) -> str:
    """Without what differs from run to run: ids made from the content, and fonts fetched from elsewhere."""
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return re.sub(r"terminal-\d+-", "terminal-", drawn)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_without_colours_everything_is_still_in_words(
    size: tuple[int, int], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(FakeEngine(), picture, size=size) as (pilot, screen):
        text = seen(screen)
        for sign, word in (("∩", "mutual"), ("◐", "vision only"), ("◑", "language only")):
            assert f"{sign} {word}" in text
        drawn = pilot.app.export_screenshot()
        for colour in set(re.findall(r"fill: #([0-9a-f]{6})", drawn)) - {"c5c8c6"}:  # the frame around the screen
            assert colour[:2] == colour[2:4] == colour[4:], f"#{colour} is no grey"
