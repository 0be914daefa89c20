"""The keys that hints name: as they are bound now, with the changes of the user's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from textual.binding import ActiveBinding, Binding
from textual.dom import DOMNode
from textual.screen import Screen

from clipmk_tui.app.bindings import PAIRS

_ARROWS: Final = frozenset("↑↓←→")


def keys_of(node: DOMNode, *actions: str) -> str:
    """The keys of some actions as people write them, the first one of each: ``n``, ``ctrl+r``, ``, .``, ``↑↓``.

    Args:
        node: what binds the actions, or something inside it.
        actions: ids of bindings.

    Raises:
        LookupError: nothing from the node up to the app binds such an action.
    """
    changed: Mapping[str, str] = getattr(node.app, "changed_keys", {})
    written = [_written(node, changed.get(action) or _default(node, action)) for action in actions]
    return ("" if _ARROWS.issuperset(written) else " ").join(written)


def key_text(active: ActiveBinding) -> str:
    """The key of a binding that is active now; of a pair both."""
    binding = active.binding
    if binding.id in PAIRS:
        return keys_of(active.node, binding.id, PAIRS[binding.id])
    return active.node.app.get_key_display(binding)


def is_own(active: ActiveBinding, screen: Screen[Any]) -> bool:
    """Whether a key belongs to the focused pane: bound inside it, or by the screen in its name (`image.zoom`)."""
    if active.node not in screen.ancestors_with_self:
        return True
    pane = (active.binding.id or "").partition(".")[0]
    return screen.focused is not None and any(node.id == pane for node in screen.focused.ancestors_with_self)


def _default(node: DOMNode, action: str) -> str:
    """The keys that the code gives to an action, comma-separated."""
    for holder in node.ancestors_with_self:
        for base in type(holder).__mro__:
            for binding in vars(base).get("BINDINGS", ()):
                if isinstance(binding, Binding) and binding.id == action:
                    return binding.key
    raise LookupError(f"nothing around {node!r} binds the action {action!r}")


def _written(node: DOMNode, keys: str) -> str:
    first = keys.partition(",")[0]
    bare = first.removeprefix("ctrl+")
    return first.removesuffix(bare) + node.app.get_key_display(Binding(bare, ""))
