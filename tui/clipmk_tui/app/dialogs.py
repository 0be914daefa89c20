"""What the main screen opens above itself, and what becomes of the answers; imported with the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipmk.system.text import printable
from clipmk_tui.app.clipboard import text_of
from clipmk_tui.app.keys import keys_of
from clipmk_tui.app.screens.compare import CompareChoice, CompareScreen
from clipmk_tui.app.screens.picker import PickerScreen
from clipmk_tui.app.screens.venn import VennScreen
from clipmk_tui.app.screens.write import WriteScreen

if TYPE_CHECKING:
    from clipmk_tui.app.screens.main import MainScreen


class Dialogs:
    """The screens over one main screen.

    Args:
        screen: asked for what to show, told what was chosen.
    """

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen

    def pick_image(self) -> None:
        """One of the images on the desk, or another file or folder."""
        desk = self._screen.desk
        self._screen.app.push_screen(PickerScreen(desk.items, desk.sighted, current=desk.index), self._picked)

    def compare(self) -> None:
        """A column per marked model."""
        desk = self._screen.desk
        if desk.item is None or len(desk.marked) < 2:
            mark = keys_of(self._screen.models.list, "models.mark")
            self._screen.notify(f"mark two models or more: {mark} in the models pane", markup=False)
            return
        models = list(desk.marked)
        screen = CompareScreen(self._screen.asking.engine, models, desk.item.path, desk.target, desk.at_hand(models))
        self._screen.app.push_screen(screen, self._compared)

    def venn(self) -> None:
        """Both sides of the knowledge as a picture."""
        explanation = self._screen.desk.explanation
        if explanation is not None:
            self._screen.app.push_screen(VennScreen(explanation))

    def write(self) -> None:
        """JSON, PNG or HTML of the explanation."""
        desk = self._screen.desk
        if desk.explanation is not None and desk.item is not None:
            self._screen.app.push_screen(WriteScreen(desk.explanation, image=desk.item.path))

    def copy(self) -> None:
        """What the focused pane's cursor stands on."""
        text = text_of(self._screen)
        if text:
            self._screen.app.copy_to_clipboard(text)
            self._screen.notify(f"copied: {printable(text.splitlines()[0])[:60]}", markup=False, timeout=3)

    def _picked(self, choice: int | str | None) -> None:
        if isinstance(choice, int):
            self._screen.go_to(choice)
        elif choice is not None:
            self._screen.open(choice)

    def _compared(self, choice: CompareChoice | None) -> None:
        if choice is None:
            return
        screen = self._screen
        screen.desk.choose_model(choice.model)
        screen.desk.target = choice.target
        screen.show()
        if choice.concept is not None:
            screen.asking.select_when_shown(choice.concept)
            screen.go_to_the_tree()
