"""The keys of the app: what its screens and widgets add to the bindings of their parents, from `bindings.csv`.

The user's config changes them: `[keys]`, action -> keys, comma-separated. Hints name them as they are bound now.
"""

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from textual.binding import ActiveBinding, Binding
from textual.dom import DOMNode
from textual.screen import Screen

from clipmk.errors import UsageError, suggest
from clipmk.system.text import quoted

KEY_BINDINGS: Final[dict[str, list[Any]]] = {}  # Any: lists are invariant, and Textual's holds more than `Binding`
"""Name of a class -> its `BINDINGS`."""

PAIRS: Final[dict[str, str]] = {}
"""An action that represents two in the key bar -> the other one: back and forth are named together."""

with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as _file:
    for _row in csv.DictReader(_file):
        if _row["pair"]:
            PAIRS[_row["id"]] = _row["pair"]
        KEY_BINDINGS.setdefault(_row["class"], []).append(
            Binding(
                key=_row["keys"],
                action=_row["action"],
                description=_row["description"],
                show=_row["show"] != "no",
                key_display=_row["written"] or None,
                priority=_row["priority"] == "yes",
                tooltip=_row["tooltip"],
                id=_row["id"],
            )
        )

_DEFAULT_KEYS: Final = {binding.id: binding.key for bindings in KEY_BINDINGS.values() for binding in bindings}

BINDING_IDS: Final = frozenset(_DEFAULT_KEYS)  # by these the user's config names actions

NAMED = frozenset({"up", "down", "left", "right", "space", "enter", "tab", "escape", "backspace"})
"""Keys without a character that work through tmux and SSH."""

ALIASES = {"esc": "escape", "return": "enter", " ": "space", ",": "comma"}

SENT_AS = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace"}  # what a terminal sends under another name

_POSSIBLE = "possible: one character, its name (comma, slash, ...), ctrl+ and a letter, " + ", ".join(sorted(NAMED))


def parse_keys(keys: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Check the user's keys, id of an action -> ``"x, ctrl+x"``, and name them as Textual does: ``"x,ctrl+x"``.

    Raises `UsageError` where an action does not exist, or a key does not survive tmux and SSH; the message names those
    that do.
    """
    found: dict[str, str] = {}
    for action, text in keys.items():
        if action not in known:
            raise UsageError(f"config [keys]: action {quoted(action)} does not exist; {suggest(action, sorted(known))}")
        names = [_named(key, action) for key in _split(text)]
        if not names:
            raise UsageError(f"config [keys]: {quoted(action)} has no key; {_POSSIBLE}")
        found[action] = ",".join(dict.fromkeys(names))
    return found


def refuse_clashes(keys: Mapping[str, str]) -> None:
    """Refuse keys (of `parse_keys`) that two actions of one screen or pane share: one of them could not be reached."""
    for bindings in KEY_BINDINGS.values():
        taken: dict[str, str] = {}
        for binding in bindings:
            for key in keys.get(binding.id or "", binding.key).split(","):
                other = taken.setdefault(key, binding.id or "")
                if other != binding.id and (other in keys or binding.id in keys):
                    both = f"{quoted(other)} and of {quoted(binding.id)}"
                    raise UsageError(f"config [keys]: {quoted(key)} would be the key of {both}; give one another")


def _split(text: str) -> list[str]:
    """The keys of a comma-separated list; a comma or a space all alone is the key."""
    if text == " " or text.strip() == ",":
        return [text.strip() or text]
    return [key.strip() for key in text.split(",") if key.strip()]


def _named(key: str, action: str) -> str:
    """Textual's name of a key."""
    lowered = ALIASES.get(key.lower(), key.lower())
    refused = f"config [keys]: the key {quoted(key)} of {quoted(action)}"
    typed = len(key) == 1 and key.isprintable()
    name = _key_name(key) if typed else lowered if lowered in NAMED else key
    if name in SENT_AS:
        raise UsageError(f"{refused} never arrives: terminals send it as {SENT_AS[name]}; {_POSSIBLE}")
    if not (typed or _survives(name)):
        raise UsageError(f"{refused} does not survive every terminal, tmux and SSH; {_POSSIBLE}")
    return name


def _survives(name: str) -> bool:
    if name.startswith("ctrl+"):
        letter = name.removeprefix("ctrl+")
        return len(letter) == 1 and letter.isascii() and letter.islower()
    return name in NAMED or name in {_key_name(one) for one in map(chr, range(0x21, 0x100)) if one.isprintable()}


def _key_name(character: str) -> str:
    """Textual's name of a character's key: it gives one to the key of every binding."""
    return ALIASES.get(character) or next(iter(Binding.make_bindings([Binding(character, "")]))).key


_ARROWS: Final = frozenset("↑↓←→")


def keys_of(node: DOMNode, *actions: str) -> str:
    """The keys of some actions as people write them, the first one of each: ``n``, ``ctrl+r``, ``, .``, ``↑↓``."""
    keys = _DEFAULT_KEYS | getattr(node.app, "changed_keys", {})
    written = [_written(node, keys[action]) for action in actions]
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


def _written(node: DOMNode, keys: str) -> str:
    first = keys.partition(",")[0]
    bare = first.removeprefix("ctrl+")
    return first.removesuffix(bare) + node.app.get_key_display(Binding(bare, ""))
