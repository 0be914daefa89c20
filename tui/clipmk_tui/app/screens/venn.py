"""The Venn view: what the vision encoder sees, what the language encoder ties to the class, and what is both."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from clipmk.explanation import Explanation
from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.key_hints import keys_of
from clipmk_tui.app.screens.dialog import Dialog
from clipmk_tui.app.venn_picture import Drawing, draw, left_out, numbers
from clipmk_tui.show.signs import SIGN
from clipmk_tui.show.text import shown


class VennPicture(Widget):
    """Two overlapping outlines, as large as the widget; only their lists scroll."""

    def __init__(self, explanation: Explanation) -> None:
        super().__init__(id="venn")
        self._explanation = explanation
        self._offset = 0

    def render(self) -> Text:
        """The drawing in the theme's colours."""
        return Text("\n").join(self._drawing().lines)

    def scroll_lists(self, lines: int) -> None:
        """Move the lists by so many lines, not beyond their ends."""
        self._offset = max(0, self._offset + min(lines, max(0, self._drawing().hidden)))
        self.refresh()

    def on_resize(self) -> None:
        """Where more lines fit, the lists still end at the bottom."""
        self._offset = max(0, self._offset + min(0, self._drawing().hidden))
        self.refresh()

    def _drawing(self) -> Drawing:
        colours = {kind: self.app.theme_variables[kind] for kind in SIGN}
        width, height = self.size
        return draw(self._explanation, colours, width=width, height=height, offset=self._offset)


class VennScreen(Dialog[None]):
    """One explanation as a Venn diagram.

    Args:
        explanation: what to show; without what its what-if leaves out.
    """

    BINDINGS = KEY_BINDINGS["VennScreen"]

    def __init__(self, explanation: Explanation) -> None:
        super().__init__()
        self._explanation = explanation

    def compose(self) -> ComposeResult:
        """Title, diagram, numbers, keys."""
        made = self._explanation
        name = (made.image.path or "an image in memory").rpartition("/")[2]
        title = Text.assemble(shown(made.model.id, "bold"), "  ", shown(name), no_wrap=True)
        if out := left_out(made):
            title.append(f"  {len(out)} left out", "dim")
        title.overflow = "ellipsis"
        with Vertical(classes="dialog"):
            yield Static(title, markup=False)
            yield VennPicture(made)
            yield Static(Text(numbers(made)), id="numbers", markup=False)
            keys = f"{keys_of(self, 'venn.up', 'venn.down')} scroll  {keys_of(self, 'venn.close')} close"
            yield Static(Text(keys), id="keys", markup=False)

    def action_move(self, lines: int) -> None:
        """Scroll the lists."""
        self.query_one(VennPicture).scroll_lists(lines)
