"""Make the README's screenshots: the real app with the real engine and the embedded models, driven by keys.

python tools/make_screenshots.py docs/screenshots
"""

from __future__ import annotations

import argparse
import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from clipmk.settings import preset
from clipmk.worker.session import Session
from clipmk_tui.app.app import ClipmkApp
from clipmk_tui.app.engine.worker import Engine
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.start_options import StartOptions

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("embedded/rn-parts", "embedded/vit-s8", "embedded/rn-s", "embedded/cnx-s")


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of the app."""

    name: str
    image: str
    keys: tuple[str, ...]
    """Pressed one after another once the image is explained; "wait" waits until nothing is being worked on."""
    size: tuple[int, int] = (120, 36)
    theme: str = "clipmk-dark"


SHOTS = (
    Shot("main", "fox-typical-09.png", ("down", "down")),
    Shot("what-if", "rocket-typical-06.png", ("down", "x", "down", "x", "wait")),
    Shot("ask", "cat-typical-14.png", ("a", *"yellow", "space", *"eyes", "enter", "wait")),
    Shot("compare", "fish-chimera-20.png", ("c", "wait")),
    Shot("difference", "cat-typical-14.png", ("d", "wait", "down")),
    Shot("venn", "fox-typical-09.png", ("v",)),
    Shot("images", ".", ("i", "wait", *["down"] * 8), size=(120, 24)),
    Shot("narrow", "robot-missing-11.png", ("down",), size=(80, 24)),
    Shot("light", "train-typical-13.png", ("down",), theme="clipmk-light"),
)


async def settled(pilot: Pilot[Any]) -> None:
    """Until nothing is being worked on."""
    while True:
        await pilot.pause(0.2)
        if not any(worker.is_running for worker in pilot.app.workers):
            return


async def take(shot: Shot, folder: Path) -> None:
    """Make one picture."""
    session = Session(vocabulary="world", settings=preset("default", prediction_count=10))
    models = tuple(model for model in MODELS if (ROOT / "core/clipmk/assets/models" / model.split("/")[1]).is_dir())
    options = StartOptions(
        paths=(str(ROOT / "sample_images" / shot.image),), models=models, session=session, theme=shot.theme
    )
    app = ClipmkApp(options, lambda: Engine(session))
    async with app.run_test(size=shot.size) as pilot:
        while not (isinstance(screen := app.screen, MainScreen) and screen.check_action("step", ())):
            await pilot.pause(0.1)
        while not screen.state.explanation:
            await pilot.pause(0.1)
        await settled(pilot)
        for key in shot.keys:
            await (settled(pilot) if key == "wait" else pilot.press(key))
        await settled(pilot)
        picture = app.export_screenshot(title=f"clipmk tui {shot.image}", simplify=True)
    # a picture in a README fetches nothing
    (folder / f"{shot.name}.svg").write_text(
        re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S), encoding="utf-8"
    )
    print(shot.name)


def main() -> None:
    """Make all pictures, or the named ones."""
    parser = argparse.ArgumentParser(description="Make the README's screenshots.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="only these: " + ", ".join(shot.name for shot in SHOTS))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        if not arguments.names or shot.name in arguments.names:
            asyncio.run(take(shot, arguments.folder))


if __name__ == "__main__":
    main()
