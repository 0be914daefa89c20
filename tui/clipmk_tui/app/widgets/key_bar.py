"""The line at the bottom: the keys of the focused pane."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text
from textual.binding import ActiveBinding, Binding
from textual.widget import Widget

from clipmk_tui.app.keys import PAIRS, keys_of


class KeyBar(Widget):
    """Keys and what they do, the focused pane's first, as many as fit; one widget: a change redraws one line."""

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """One line; "? help" is always on it."""
        width = self.content_size.width
        shown = Text(no_wrap=True)
        for key, description in self._keys():
            one = Text.assemble((key, "bold"), f" {description}", ("  ", ""))
            if shown.cell_len + one.cell_len > width:
                continue
            shown += one
        shown.truncate(width, pad=True)
        return shown

    def _order(self, active: ActiveBinding) -> tuple[int, int]:
        """The focused widget first, the app last; each in the order of its bindings."""
        nodes = [*(self.screen.focused.ancestors_with_self if self.screen.focused else ()), self.screen, self.app]
        declared = [binding.id for binding in type(active.node).BINDINGS if isinstance(binding, Binding)]
        place = declared.index(active.binding.id) if active.binding.id in declared else len(declared)
        return nodes.index(active.node) if active.node in nodes else len(nodes), place

    def _keys(self) -> list[tuple[str, str]]:
        """(key, description), help and quit first, then the focused pane's, then the screen's, then the app's."""
        found: dict[str, tuple[str, str]] = {}
        for active in sorted(self.screen.active_bindings.values(), key=self._order):
            binding = active.binding
            if binding.show and active.enabled and binding.action not in found:
                found[binding.action] = (self._keys_for(active), binding.description)
        first = [found.pop(action) for action in ("app.help", "help", "app.quit", "quit") if action in found]
        room = self.content_size.width - sum(cell_len(k) + cell_len(d) + 3 for k, d in first)
        kept = []
        for key, description in found.values():
            room -= cell_len(key) + cell_len(description) + 3
            if room < 0:
                break
            kept.append((key, description))
        return kept + first

    def _keys_for(self, active: ActiveBinding) -> str:
        binding = active.binding
        if binding.id in PAIRS:
            return keys_of(active.node, binding.id, PAIRS[binding.id])
        return self.app.get_key_display(binding)
