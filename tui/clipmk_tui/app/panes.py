"""The four panes of the main screen and where they stand; imported once their empty frames are on the screen."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widget import Widget

from clipmk_tui.app.keys import keys_of
from clipmk_tui.app.widgets.concepts import ConceptsPane
from clipmk_tui.app.widgets.image_pane import ImagePane
from clipmk_tui.app.widgets.models_pane import ModelsPane
from clipmk_tui.app.widgets.predictions import PredictionsPane


class Panes(Container):
    """Image over models, predictions, concept tree; in a narrow terminal image and models share one place."""

    def __init__(self) -> None:
        super().__init__(id="panes")
        self.image = ImagePane(id="image", classes="pane")
        self.models = ModelsPane()
        self.predictions = PredictionsPane()
        self.concepts = ConceptsPane()
        self._models_shown = False
        """In place of the image, where they share one."""

    def compose(self) -> ComposeResult:
        """Left, middle, right."""
        with Vertical(id="left"):
            yield self.image
            yield self.models
        yield self.predictions
        yield self.concepts

    def adapt(self, *, narrow: bool, zoomed: bool) -> None:
        """Decide which panes are to be seen; at once, so that the next key finds them.

        Args:
            narrow: image and models share a place.
            zoomed: the image has the whole screen.
        """
        self.image.display = zoomed or not (narrow and self._models_shown)
        self.models.display = not zoomed and (self._models_shown or not narrow)
        self.predictions.display = self.concepts.display = not zoomed
        key = keys_of(self, "main.next_pane")
        self.image.border_title = Text.assemble("image", (f" {key} models", "dim")) if narrow else "image"
        self.models.border_title = Text.assemble("models", (f" {key}", "dim")) if narrow else "models"

    def show_image(self) -> None:
        """Let the image have the place that it shares with the models, from the next `adapt` on."""
        self._models_shown = False

    def following(self, focused: Widget | None) -> Widget:
        """The widget that takes the focus after this one; the models come into sight when it is theirs."""
        order: list[Widget] = [self.image, self.models.list, self.predictions, self.concepts.concept_tree]
        here = order.index(focused) if focused in order else len(order) - 1
        found = order[(here + 1) % len(order)]
        self._models_shown = found is self.models.list
        return found
