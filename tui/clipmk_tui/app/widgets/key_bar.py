"""The line at the bottom: the keys of the focused pane."""

from __future__ import annotations

from rich.text import Text
from textual.binding import ActiveBinding, Binding
from textual.widget import Widget

from clipmk_tui.app.key_hints import is_own, key_text


class KeyBar(Widget):
    """Keys and what they do, the focused pane's first, as many as fit; one widget: a change redraws one line."""

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """One line: the focused pane's keys, then the screen's, then the app's; help and quit are always on it.

        The arrows are named where the focused widget moves something by them, and has no name of its own for it.
        """
        found: dict[str, Text] = {}
        active = self.screen.active_bindings
        arrows = [active[key] for key in ("up", "down") if key in active]
        if arrows and all(one.node is self.screen.focused and not one.binding.show for one in arrows):
            found["move"] = Text.assemble(("↑↓", "bold"), " move  ")
        for one in sorted(active.values(), key=self._order):
            binding = one.binding
            if binding.show and one.enabled and binding.action not in found:
                found[binding.action] = Text.assemble((key_text(one), "bold"), f" {binding.description}  ")
        last = [found.pop(action) for action in ("app.help", "help", "app.quit", "quit") if action in found]
        width = self.content_size.width
        room = width - sum(text.cell_len for text in last)
        shown = Text(no_wrap=True)
        for text in found.values():
            if shown.cell_len + text.cell_len <= room:
                shown += text
        for text in last:
            shown += text
        shown.truncate(width, pad=True)
        return shown

    def _order(self, active: ActiveBinding) -> tuple[bool, int, int]:
        """The focused pane's keys first, the app's last; each in the order of its bindings."""
        nodes = [*(self.screen.focused.ancestors_with_self if self.screen.focused else ()), self.screen, self.app]
        declared = [binding.id for binding in type(active.node).BINDINGS if isinstance(binding, Binding)]
        place = declared.index(active.binding.id) if active.binding.id in declared else len(declared)
        return not is_own(active, self.screen), nodes.index(active.node), place
