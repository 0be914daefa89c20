"""Wrong predictions first: the table of images, filtered by them, the most certain first."""

from pathlib import Path

import samples
from app_harness import RN, VIT, FakeEngine, press, running, seen


def labelled(folder: Path) -> Path:
    """Two foxes, a cat and a fox, in this order."""
    for name in "abcd":
        samples.picture().save(folder / f"{name}.png")
    (folder / "labels.csv").write_text("path,label\na.png,fox\nb.png,fox\nc.png,cat\nd.png,fox\n")
    return folder


async def test_mistakes_are_listed_and_walked_through_for_each_model(tmp_path: Path) -> None:
    async with running(FakeEngine(), labelled(tmp_path), models=(RN,)) as (pilot, screen):
        await press(pilot, "n", "e")
        assert seen(pilot.app).splitlines()[0].strip() == "images  3 of 4 images · 3 wrong in rn-s · filter: wrong"
        await press(pilot, "down", "enter", "n", "n")
        assert screen.state.title == "d.png  4/4"
        await press(pilot, "e")
        assert pilot.app.screen.id == "images"
        assert "3 of 4" in seen(pilot.app)
        await press(pilot, "escape")
        screen.panes.choose_model(VIT)
        await press(pilot, "e")
        assert "1 of 4 images · 1 wrong in vit-s8" in seen(pilot.app)
        await press(pilot, "enter")
        assert screen.state.title == "c.png  3/4"


async def test_other_settings_list_them_anew(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(engine, labelled(tmp_path)) as (pilot, _):
        await press(pilot, "e", "escape")
        asked = len(engine.asked)
        await press(pilot, "e", "escape")
        assert len(engine.asked) == asked
        await press(pilot, "s", "tab", "enter", "down", "enter", "ctrl+s")
        assert len(engine.sessions) == 1
        await press(pilot, "e")
        assert "1 of 4 images" in seen(pilot.app)
        assert len(engine.asked) > asked
