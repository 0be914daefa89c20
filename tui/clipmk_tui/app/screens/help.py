"""The help screen: every key, what the signs, numbers and words of the focused pane mean, and what it shows."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from clipmk.system.text import printable
from clipmk_tui.app.bindings import KEY_BINDINGS, PAIRS, is_own, key_text, keys_of
from clipmk_tui.app.screens.dialog import Dialog
from clipmk_tui.show.signs import SIGN
from clipmk_tui.show.text import shown

Rows = Sequence[tuple[str, str]]  # (sign or keys, what it means)
_WIDEST = 14  # cells of the column of signs and keys at most

_TERM = re.compile(r"^- `(.+?)` (.+)$", re.MULTILINE)


class HelpScreen(Dialog[None]):
    """Help about one pane: its keys, those of all panes, and a text of `help_texts` (empty: keys only)."""

    BINDINGS = KEY_BINDINGS["HelpScreen"]

    def __init__(self, title: str, text: str, keys: Rows, everywhere: Rows) -> None:
        super().__init__()
        self.pane, self.keys, self.everywhere = title, tuple(keys), tuple(everywhere)
        self._text = text

    def compose(self) -> ComposeResult:
        """Keys, words and signs, paragraphs."""
        with VerticalScroll(classes="dialog") as box:
            box.border_title = shown(f"help: {self.pane}")  # a str would be read as markup
            scroll = f"{keys_of(self, 'help.up', 'help.down')} {keys_of(self, 'help.page')}"
            box.border_subtitle = shown(f"{scroll} scroll · {keys_of(self, 'help.close')} closes")
            yield from self._table("Keys here", self.keys)
            yield from self._table("Keys everywhere", self.everywhere)
            yield from self._table("What the words, signs and numbers mean", _TERM.findall(self._text))
            for paragraph in _TERM.sub("", self._text).split("\n\n"):
                if paragraph.strip():
                    yield Static(Content(paragraph.strip()))
            yield Static(Content(""))

    def action_scroll(self, lines: int) -> None:
        """Move by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_page(self) -> None:
        """The next page; after the last, the first."""
        box = self.query_one(VerticalScroll)
        if box.scroll_offset.y >= box.max_scroll_y:
            box.scroll_home(animate=False)
        else:
            box.scroll_page_down(animate=False)

    def _table(self, title: str, rows: Rows) -> ComposeResult:
        if not rows:
            return
        ink = {sign: self.app.theme_variables[kind] for kind, sign in SIGN.items()}
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(max_width=_WIDEST)
        table.add_column(ratio=1)
        for sign, meaning in rows:
            table.add_row(Text(printable(sign), f"bold {ink.get(sign, '')}".strip()), Text(printable(meaning)))
        yield Static(Content(title), classes="head")
        yield Static(table, classes="table")


def help_texts() -> dict[str, str]:
    """Id of a pane or screen -> what it shows: paragraphs, then lines like "- `sign` meaning"."""
    sections = re.split(r"^# (\w+)$", (Path(__file__).parents[1] / "help.md").read_text("utf-8"), flags=re.MULTILINE)
    texts = dict(zip(sections[1::2], sections[2::2], strict=True))
    numbers = texts.pop("numbers").lstrip()
    return {pane: text + numbers if pane in {"concepts", "comparison"} else text for pane, text in texts.items()}


def help_for(screen: Screen[Any]) -> HelpScreen:
    """Help about the pane that has the focus, with its keys as they are bound now."""
    keys: dict[str, list[str]] = {}
    everywhere: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.id and binding.description and binding.id not in PAIRS.values():
            found = keys if is_own(active, screen) else everywhere
            name = key_text(active)
            written = found.setdefault(binding.tooltip or binding.description, [])
            if name not in written:
                written.append(name)
    texts = help_texts()
    nodes = screen.focused.ancestors_with_self if screen.focused is not None else [screen]
    pane = next((node.id for node in nodes if node.id in texts), None) or screen.id or "keys"
    return HelpScreen(
        pane,
        texts.get(pane, ""),
        [(" ".join(names), description) for description, names in keys.items()],
        [(" ".join(names), description) for description, names in everywhere.items()],
    )
