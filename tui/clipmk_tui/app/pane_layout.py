"""The four panes of the main screen side by side: what is visible in how much room, and in which order they are."""

import os
from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.reactive import var
from textual.widget import Widget

from clipmk_tui.app.bindings import keys_of
from clipmk_tui.app.state import View
from clipmk_tui.app.widgets.concepts import ConceptsPane
from clipmk_tui.app.widgets.image_pane import ImagePane
from clipmk_tui.app.widgets.models_pane import ModelsPane
from clipmk_tui.app.widgets.predictions import PredictionsPane
from clipmk_tui.app.widgets.sharp_image_pane import SharpImagePane
from clipmk_tui.show.pixels import protocol_for


class PaneLayout(Container):
    """Image, predictions over models, concept tree; in a narrow terminal predictions and models share one place."""

    view: var[View] = var(View(), init=False)  # what is drawn; the panes are bound to it
    heading: var[str] = var("predictions", init=False)  # title of the predictions

    def __init__(self, graphics: str, choose_class: Callable[[str], None]) -> None:
        super().__init__(id="panes")
        protocol = protocol_for(graphics, os.environ)
        self.image = SharpImagePane(protocol) if protocol is not None else ImagePane(id="image", classes="pane")
        self.image.border_title = "image"
        self.models = ModelsPane()
        self.predictions = PredictionsPane(choose_class)
        self.concepts = ConceptsPane()
        self._narrow = False
        self.models_shown = False  # in place of the predictions, where they share one

    def compose(self) -> ComposeResult:
        """Left, middle, right."""
        yield self.image
        with Vertical(id="middle"):
            yield self.predictions.data_bind(PaneLayout.view)
            yield self.models.data_bind(PaneLayout.view)
        yield self.concepts.data_bind(PaneLayout.view)

    def adapt(self, *, narrow: bool, zoomed: bool) -> None:
        """Decide which panes are visible, at once, so that the next key finds them; a zoomed image is alone."""
        self.query_one("#middle").display = self.concepts.display = not zoomed
        self.predictions.display = not (narrow and self.models_shown)
        self.models.display = self.models_shown or not narrow
        self.set_class(narrow and self.models_shown and not zoomed, "-choosing")
        self._narrow = narrow
        self.show_titles()

    def show_titles(self) -> None:
        """Name predictions and models, and what else is in their place."""
        titles = ((self.heading, self.predictions, "models", 3), ("models", self.models, "predictions", 2))
        for name, pane, other, place in titles:
            hint = f" · [{keys_of(self, f'main.pane_{place}')}] {other}" if self._narrow else ""
            pane.border_title = Text.assemble(name, (hint, "dim"))

    watch_heading = show_titles

    def pane_after(self, focused: Widget | None) -> int:
        """The place of the pane after the one that has the focus, counted from 0."""
        return self._order.index(focused) + 1 if focused in self._order else 0

    def show_pane(self, place: int) -> Widget:
        """The widget that takes the focus in a pane, counted from 0; the models become visible when it is theirs."""
        found = self._order[place % len(self._order)]
        self.models_shown = found is self.models.list
        return found

    @property
    def _order(self) -> tuple[Widget, ...]:
        """What takes the focus in each pane, in the order of `tab` and of the numbers."""
        return (self.image, self.predictions, self.models.list, self.concepts.concept_tree)
