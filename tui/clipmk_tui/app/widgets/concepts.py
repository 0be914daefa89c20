"""The concept tree: what the user asked for, what both encoders know of the class or only one, where it was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.reactive import var
from textual.widgets import Static, Tree
from textual.widgets.tree import TreeNode

from clipmk.output.palette import colour_of
from clipmk.system.text import printable
from clipmk_tui.app import concept_rows
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.concept_rows import AskedRow, Columns, ConceptRow, GroupRow, PartRow
from clipmk_tui.app.legend import share_text
from clipmk_tui.app.messages import ChangeState, LightUp
from clipmk_tui.app.state import State, View
from clipmk_tui.app.theme import for_rich
from clipmk_tui.app.widgets.filtered_pane import FilteredPane
from clipmk_tui.show.signs import NEITHER, SIGN, WORD
from clipmk_tui.show.text import why_not

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk_tui.app.concept_rows import Answers

Row = GroupRow | ConceptRow | PartRow | str  # a text: a line about what was asked for
_HINT = {"mutual": "seen and tied", "vision": "seen, not tied", "language": "tied, not seen"}
_SIGNS = {"none": NEITHER, "awaited": "…"} | dict(SIGN)
_LEAST = 4  # lines below its heading that a group needs to be open from the start
_LEAD = 2  # cells of the sign before a concept's name
_WHOLE_WARNINGS = 40  # cells from which warnings are whole; narrower panes have a line of their first clause
_SHORT = 16  # lines of a pane that has no room for the parts that speak for a class, and for the share explained


class ConceptTree(Tree[Row]):
    """Groups, concepts, parts. Labels are laid out to the pane's width; parts are added when a concept is opened."""

    BINDINGS = KEY_BINDINGS["ConceptTree"]

    def __init__(self) -> None:
        super().__init__("concepts")
        self.show_root = self.show_guides = False
        self.guide_depth = 2
        self._explanation: Explanation | None = None
        self._columns: Columns | None = None
        self._left_out: frozenset[str] = frozenset()
        self._drawn_width = 0
        self._marked_part: int | None = None
        """The part selected in the picture: the concepts that were seen on it are marked."""
        self._open: dict[str, bool] = {"mutual": True, "asked": True}
        """Groups and concepts (by text) that the user opened or folded: they stay so for the next image and model."""

    def show(self, explanation: Explanation, asked: Answers = (), *, wanted: str = "", room: int = 0) -> None:
        """Show another explanation; the cursor stays on the same concept where it is still there.

        Only what holds the text `wanted` is shown. Groups that the user has not touched are open while there is room
        for their rows in `room` lines.
        """
        before = self.row
        self._explanation = explanation
        self._columns = None
        self.clear()
        shown = concept_rows.groups(explanation, asked, wanted=wanted)
        left = room - len(shown)
        for group in shown:
            opened = bool(wanted) or self._open.get(group.kind, left >= min(_LEAST, len(group.rows)))
            left -= opened * len(group.rows)
            node = self.root.add("", data=group, expand=opened)
            for row in group.rows:
                inside = row.answer is not None if isinstance(row, AskedRow) else bool(row.parts)
                child = node.add("", data=row, allow_expand=inside)
                if inside and self._open.get(row.text, False):
                    self._fill(child, row)
                    child.expand()
        asked_before = isinstance(before, AskedRow)
        if not (isinstance(before, ConceptRow | PartRow) and self.select(before.text, asked=asked_before)):
            self._go_back(before)  # at once: the keys of a burst come next
            self.call_after_refresh(self._highlight)  # the cursor may be on the same line as before

    def leave_out(self, texts: frozenset[str]) -> None:
        """Show which concepts are left out."""
        changed = texts ^ self._left_out
        self._left_out = texts
        for group in self.root.children:
            nodes = [node for node in group.children if isinstance(node.data, ConceptRow) and node.data.text in changed]
            for node in (group, *nodes) if nodes else ():
                node.refresh()

    def select(self, text: str, *, asked: bool = True) -> bool:
        """Move the cursor to a concept, opening its group; whether it is there. It may be asked for as well."""
        found = [n for n in self._rows() if isinstance(n.data, ConceptRow) and n.data.text == text]
        for node in found[:1] if asked else found[-1:]:
            if node.parent is not None:
                node.parent.expand()
            if self.last_line >= 0:  # gives the node its line
                self.move_cursor(node)
            self.post_message(Tree.NodeHighlighted(node))  # at once: the picture is drawn together with the tree
        return bool(found)

    def _rows(self) -> Iterator[TreeNode[Row]]:
        """Those of concepts and of what was asked for."""
        return (node for group in self.root.children for node in group.children)

    def mark_part(self, part: int | None) -> None:
        """Mark the concepts that were seen on a part; None: no concept."""
        changed, self._marked_part = {part, self._marked_part} - {None} if part != self._marked_part else set(), part
        for node in self._rows():
            if isinstance(node.data, ConceptRow) and changed.intersection(node.data.parts):
                node.refresh()

    def select_part(self, part: int) -> None:
        """Mark the concepts that were seen on a part and go to the one that describes it best; the part stays lit."""
        self.mark_part(part)
        parts = () if self._explanation is None else self._explanation.parts
        texts = [one.text for described in parts if described.id == part for one in described.descriptors]
        rows = ((node.data, node) for node in self._rows())
        seen = {row.text: node for row, node in rows if isinstance(row, ConceptRow) and part in row.parts}
        node = next((seen[text] for text in (*texts, *seen) if text in seen), None)
        if node is not None and node.parent is not None:
            node.parent.expand()
            self.call_after_refresh(self._go_to, node)

    def _go_to(self, node: TreeNode[Row]) -> None:
        with self.prevent(Tree.NodeHighlighted):  # it would light all parts of the concept
            self.move_cursor(node)

    @property
    def row(self) -> Row | None:
        """What the cursor is on."""
        return None if self.cursor_node is None else self.cursor_node.data

    def get_label_width(self, node: TreeNode[Row]) -> int:
        """Every label fills its line: none has to be made to know its width."""
        depth = 0 if isinstance(node.data, GroupRow) else 1 if isinstance(node.data, ConceptRow) else 2
        return max(8, self.scrollable_content_region.width - depth * self.guide_depth)

    def render_label(self, node: TreeNode[Row], base_style: Style, style: Style) -> Text:
        """One line, as wide as the pane."""
        row = node.data
        if isinstance(row, GroupRow):
            text = self._group(row, node)
        elif isinstance(row, ConceptRow):
            text = self._concept(row)
        elif isinstance(row, PartRow):
            text = self._part(row)
        else:
            text = Text(row or "", "dim")
        text.truncate(self.get_label_width(node), overflow="ellipsis", pad=True)
        text.stylize(style)
        return text

    @property
    def columns(self) -> Columns | None:
        """The columns of a concept's line at the present width; None while there is no explanation."""
        if self._columns is None and self._explanation is not None:
            room = self.scrollable_content_region.width - self.guide_depth - _LEAD
            self._columns = concept_rows.columns(self._explanation, room)
        return self._columns

    def on_resize(self, event: events.Resize) -> None:
        """Draw the labels at the new width; where only the height is new, they stay as they are."""
        width, self._drawn_width = self._drawn_width, self.scrollable_content_region.width
        if width == self._drawn_width:
            event.prevent_default()  # the tree would draw all its lines again
            return
        self._columns = None
        self.notify_style_update()

    def _highlight(self) -> None:
        if self.cursor_node is not None:
            self.post_message(Tree.NodeHighlighted(self.cursor_node))

    @on(Tree.NodeHighlighted)
    def _light_up(self, event: Tree.NodeHighlighted[Row]) -> None:
        """Highlight the parts that the concept was seen on; of what was asked for, show the map."""
        node = event.node.parent if isinstance(event.node.data, str) else event.node
        row = None if node is None else node.data
        if isinstance(row, AskedRow) and row.answer is None:
            return  # its map is about to follow
        parts = row.parts if isinstance(row, ConceptRow) else (row.part.id,) if isinstance(row, PartRow) else ()
        self.post_message(LightUp(frozenset(parts), row.answer if isinstance(row, AskedRow) else None))

    @on(Tree.NodeExpanded)
    @on(Tree.NodeCollapsed)
    def _remember(self, event: Tree.NodeExpanded[Row] | Tree.NodeCollapsed[Row]) -> None:
        """Keep what is open for the next image; add the parts when a concept is first opened."""
        row, opened = event.node.data, isinstance(event, Tree.NodeExpanded)
        if isinstance(row, GroupRow):
            self._open[row.kind] = opened
        elif isinstance(row, ConceptRow):
            self._open[row.text] = opened
            if opened and not event.node.children:
                self._fill(event.node, row)

    def action_leave_out(self) -> None:
        """Leave the concept under the cursor out, or restore it; withdraw what was asked for."""
        row = self.row
        if isinstance(row, AskedRow):
            self.post_message(ChangeState(partial(State.withdraw, text=row.text)))
        elif isinstance(row, PartRow) or (isinstance(row, ConceptRow) and row.kind != "language"):
            self.post_message(ChangeState(partial(State.leave_out, text=row.text)))
        elif isinstance(row, ConceptRow):
            self.notify("only what the vision encoder sees can be left out: ∩ or ◐", markup=False, timeout=3)
        else:
            raise SkipAction  # the screen says what the key is for

    def key_delete(self) -> None:
        """Withdraw what was asked for; no binding: the key does not survive everywhere."""
        if isinstance(self.row, AskedRow):
            self.action_leave_out()

    key_backspace = key_delete

    def action_undo(self) -> None:
        """Undo the last change of what is left out, or withdrawal."""
        self.post_message(ChangeState(State.undo))

    def action_fold(self) -> None:
        """Fold the node, or go to its parent."""
        node = self.cursor_node
        if node is not None and node.is_expanded and node.children:
            node.collapse()
        elif node is not None and node.parent is not None and node.parent is not self.root:
            self.move_cursor(node.parent)

    def action_unfold(self) -> None:
        """Open the node, or go to its first child."""
        node = self.cursor_node
        if node is not None and node.is_expanded and node.children:
            self.move_cursor(node.children[0])
        elif node is not None and node.allow_expand:
            node.expand()

    def _fill(self, node: TreeNode[Row], row: ConceptRow) -> None:
        if isinstance(row, AskedRow) and row.answer is not None:
            for line in concept_rows.asked_words(row.answer):
                node.add_leaf("", data=line)
        elif self._explanation is not None:
            for part in concept_rows.part_rows(self._explanation, row):
                node.add_leaf("", data=part)

    def _go_back(self, before: Row | None) -> None:
        """To the group where the cursor was, else to the first row."""
        if self.last_line >= 0:
            groups = {getattr(node.data, "kind", None): node.line for node in self.root.children}
            kind = before.kind if isinstance(before, GroupRow) else None
            self.move_cursor_to_line(groups.get(kind, min(1, self.last_line)))

    def _group(self, row: GroupRow, node: TreeNode[Row]) -> Text:
        out = sum(concept.text in self._left_out for concept in row.rows)
        count = f"{len(row.rows)} of {row.of}" if len(row.rows) != row.of else f"{row.of}"
        mark = "▾" if node.is_expanded else "▸"
        if row.kind == "asked":
            return Text.assemble(f"{mark} ", ("? asked", "bold"), f" ({count})")
        return Text.assemble(
            f"{mark} ",
            (f"{SIGN[row.kind]} {WORD[row.kind]}", f"bold {self.app.theme_variables[row.kind]}"),
            f" ({count}{f', {out} left out' if out else ''})",
            (f"  {_HINT[row.kind]}", "dim"),
        )

    def _concept(self, row: ConceptRow) -> Text:
        left_out, widths = row.text in self._left_out and not isinstance(row, AskedRow), self.columns
        kind = "left-out" if left_out else row.kind
        sign, ink = _SIGNS[kind], self.app.theme_variables.get(kind, "dim")
        name = Text(printable(row.text))
        if widths is not None:
            name.truncate(widths.name, overflow="ellipsis")
        marked = self._marked_part if self._marked_part in row.parts else None
        part = " " if marked is None else ("▌", "#{:02x}{:02x}{:02x}".format(*colour_of(marked)))
        style = "strike" if left_out else "" if marked is None else "bold"
        text = Text.assemble((sign, ink), part, (name.plain, style))
        if widths is not None:
            text.append(" " * (widths.name - name.cell_len)).append_text(widths.cells(row, ink))
        if left_out:
            text.stylize("dim")
        return text

    def _part(self, row: PartRow) -> Text:
        ink = "#{:02x}{:02x}{:02x}".format(*colour_of(row.part.id))
        text = Text.assemble(("■", ink), f" part {row.part.id}")
        text.append(f" · {share_text(row.part.area)} of image", "dim")
        if row.influence is not None:
            text.append(f" · influence {row.influence:+z.3f}", "dim")
        if row.cosine is not None:
            text.append(f" · similarity {row.cosine:.3f}", "dim")
        return text


class ConceptsPane(FilteredPane):
    """The answer in a sentence, the tree as its evidence, and below it the numbers of the field."""

    BINDINGS = KEY_BINDINGS["ConceptsPane"]

    view: var[View] = var(View(), init=False)

    def __init__(self) -> None:
        self.concept_tree = ConceptTree()
        super().__init__(self.concept_tree, "filter concepts", id="concepts", classes="pane -empty")
        self.border_title = "why"
        self._held: tuple[tuple[str | None, str, int], int] | None = None  # lines of the answer on image, class, width

    def compose(self) -> ComposeResult:
        """Sentence, note, headings, tree, filter, numbers."""
        yield Static(id="answer")
        yield Static(id="note")
        yield Static(id="headings")
        yield from super().compose()
        yield Static(id="numbers")

    def watch_view(self, before: View, view: View) -> None:
        """Show the tree and what it says, or why there is none."""
        explanation = view.explanation
        self.set_class(explanation is None, "-empty")
        if explanation is None:
            self.border_title = "why"
            self.concept_tree.clear()
            self.query_one("#note", Static).update(self._note(view))
            return
        if before.explanation is not explanation or before.asked != view.asked:
            self.border_title = f'why "{printable(explanation.class_name)}"'.replace("[", r"\[")
            self._show_tree()
        self.concept_tree.leave_out(frozenset(view.left_out))
        shown, answer = self.query_one("#answer", Static), self._answer()
        if shown.content != answer:
            shown.update(answer)
        self._show_lines()

    def on_resize(self) -> None:
        """Lay the lines out at the new width, and open groups anew: an answer may come before the first layout."""
        self.query_one("#answer", Static).update(self._answer())
        self._show_tree()
        self.call_after_refresh(self._show_lines)

    def action_restore(self) -> None:
        """Restore all concepts."""
        self.post_message(ChangeState(State.restore))

    def _show_lines(self) -> None:
        """Headings above the tree, numbers below it."""
        explanation, widths = self.view.explanation, self.concept_tree.columns
        if explanation is not None and widths is not None:
            indent = " " * (self.concept_tree.guide_depth + _LEAD)
            self.query_one("#headings", Static).update(Text(indent) + widths.heading(), layout=False)
            words = f"{keys_of(self, 'app.help')} words"
            line = concept_rows.numbers(explanation.mutual, self.view.strength, self.size.width - 2, words)
            self.query_one("#numbers", Static).update(line, layout=False)

    def _answer(self) -> Text:
        """The sentence, and below it what there is to keep in mind."""
        view = self.view
        if view.explanation is None:
            return Text()
        text = concept_rows.answer(view.explanation, view.strength, view.left_out, self.size.width - 2)
        made, narrow = view.explanation, self.size.width < _WHOLE_WARNINGS
        share, other, tall = made.share_explained, made.runner_up, self.size.height > _SHORT
        if tall and other is not None and made.class_name != made.predictions[0].class_name:
            text.append(f"\n{why_not(made, other)}")
        if tall and share is not None and not view.left_out:  # of all of them
            text.append(f"\nall seen concepts recover {round(100 * share)} % of the similarity", "dim")
        for warning in made.warnings:
            line = Text(f"! {printable(re.split('[,;:] ', warning, maxsplit=1)[0] if narrow else warning)}")
            if narrow:
                line.truncate(self.size.width - 2, overflow="ellipsis")
            text.append(f"\n{line}", for_rich(self.app.theme_variables["warning"]))
        lines, about = self._wrapped(text), (view.image, made.class_name, self.size.width)
        held = self._held[1] if self._held is not None and self._held[0] == about else 0
        self._held = about, max(lines, held)  # the tree would move, and be drawn twice
        return text.append("\n " * (held - lines))

    def _wrapped(self, text: Text) -> int:
        """How many lines a text takes."""
        return len(text.wrap(self.app.console, max(1, self.size.width - 2)))

    def _note(self, view: View) -> Text:
        """Why there is no explanation, and what can be done."""
        if not view.failure:
            return Text("" if view.image is None else "explaining ...", "dim")
        note = Text(printable(view.failure), "bold")
        if view.image is not None:
            again, image = keys_of(self, "main.again"), keys_of(self, "image.next", "image.previous")
            model = keys_of(self, "models.previous", "models.next")
            note.append(f"\n\n{again} tries again  ·  {image} another image  ·  {model} another model", "dim not bold")
        return note

    @on(FilteredPane.Changed)
    def _show_tree(self) -> None:
        if self.view.explanation is not None:
            room = self.size.height - self._wrapped(self._answer()) - 2
            self.concept_tree.show(self.view.explanation, self.view.asked, wanted=self.filter_text, room=room)
