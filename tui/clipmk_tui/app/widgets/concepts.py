"""The concept tree: what both encoders know of the class, what only one of them does, and where it was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import var
from textual.widgets import Static, Tree
from textual.widgets.tree import TreeNode

from clipmk.output.palette import colour_of
from clipmk.system.text import printable
from clipmk_tui.app.concept_rows import ConceptRow, GroupRow, PartRow, full_bar, groups, part_rows
from clipmk_tui.app.key_hints import keys_of
from clipmk_tui.app.messages import LeaveOut, LightUp, Restore
from clipmk_tui.app.state import View
from clipmk_tui.app.widgets.filtered_pane import FilteredPane
from clipmk_tui.show.bars import bar, sparkline
from clipmk_tui.show.signs import SIGN, WORD, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipmk.concepts.mutual import Strength
    from clipmk.explanation import Explanation

Row = GroupRow | ConceptRow | PartRow

_BAR = 5
"""Cells of a concept's bar at full length."""

_PART_CELLS = 5
"""Cells for the numbers of a concept's parts."""

_HINT = {
    "mutual": "seen, and tied to {}",
    "vision": "seen, but not tied to {}",
    "language": "tied to {}, but not seen",
}


class ConceptTree(Tree[Row]):
    """Groups, concepts, parts. Labels are laid out to the pane's width; parts are added when a concept is opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "leave_out", "leave out", id="concepts.leave_out"),
        Binding("r", "restore", "restore", id="concepts.restore"),
        Binding("left", "fold", "fold", id="concepts.fold", show=False),
        Binding("right", "unfold", "open", id="concepts.unfold", show=False),
        Binding("enter", "select_cursor", "open/fold", id="concepts.toggle"),
    ]

    def __init__(self) -> None:
        super().__init__("concepts")
        self.show_root = False
        self.guide_depth = 2
        self.auto_expand = True
        self._explanation: Explanation | None = None
        self._full = 1.0
        self._left_out: frozenset[str] = frozenset()
        self._marked_part: int | None = None
        """The part selected in the picture: the concepts that were seen on it are marked."""
        self._open: dict[str, bool] = {"mutual": True}
        """Groups and concepts (by text) that the user opened or folded: they stay so for the next image and model."""

    def show(self, explanation: Explanation, *, wanted: str = "", room: int = 0) -> None:
        """Show another explanation; the cursor stays on the same concept where it is still there.

        Args:
            explanation: what to show.
            wanted: show only concepts that hold this text.
            room: lines there are; groups never touched are open where all fit.
        """
        before = self.row.text if isinstance(self.row, ConceptRow | PartRow) else ""
        self._explanation = explanation
        self._full = full_bar(explanation)
        self.clear()
        shown = groups(explanation, wanted=wanted)
        roomy = sum(1 + len(group.rows) for group in shown) <= room
        for group in shown:
            opened = bool(wanted) or self._open.get(group.kind, roomy)
            node = self.root.add("", data=group, expand=opened)
            for row in group.rows:
                child = node.add("", data=row, allow_expand=bool(row.parts))
                if row.parts and self._open.get(row.text, False):
                    self._fill(child, row)
                    child.expand()
        if not (before and self.select(before)):
            self.call_after_refresh(self._go_to_the_first)

    def leave_out(self, texts: frozenset[str]) -> None:
        """Show which concepts are left out."""
        changed = texts ^ self._left_out
        self._left_out = texts
        for group in self.root.children:
            nodes = [node for node in group.children if isinstance(node.data, ConceptRow) and node.data.text in changed]
            for node in (group, *nodes) if nodes else ():
                node.refresh()

    def select(self, text: str) -> bool:
        """Move the cursor to a concept, opening its group; whether it is there."""
        for group in self.root.children:
            for node in group.children:
                if isinstance(node.data, ConceptRow) and node.data.text == text:
                    group.expand()
                    self.call_after_refresh(self.move_cursor, node)
                    return True
        return False

    def mark_part(self, part: int | None) -> None:
        """Mark the concepts that were seen on a part; None: no concept."""
        changed, self._marked_part = {part, self._marked_part} - {None} if part != self._marked_part else set(), part
        for node in (node for group in self.root.children for node in group.children):
            if isinstance(node.data, ConceptRow) and changed.intersection(node.data.parts):
                node.refresh()

    def select_part(self, part: int) -> None:
        """Mark the concepts that were seen on a part and go to the one that describes it best; the part stays lit."""
        self.mark_part(part)
        parts = () if self._explanation is None else self._explanation.parts
        texts = [one.text for described in parts if described.id == part for one in described.descriptors]
        nodes = [node for group in self.root.children for node in group.children]
        seen = {node.data.text: node for node in nodes if isinstance(node.data, ConceptRow) and part in node.data.parts}
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
        depth = 0
        while node.parent is not None and node.parent is not self.root:
            node = node.parent
            depth += 1
        return max(8, self.scrollable_content_region.width - depth * self.guide_depth)

    def render_label(self, node: TreeNode[Row], base_style: Style, style: Style) -> Text:
        """One line, as wide as the pane."""
        row = node.data
        if isinstance(row, GroupRow):
            text = self._group(row, node)
        elif isinstance(row, ConceptRow):
            text = self._concept(row, node)
        elif isinstance(row, PartRow):
            text = self._part(row)
        else:
            text = Text()
        text.truncate(self.get_label_width(node), overflow="ellipsis", pad=True)
        text.stylize(style)
        return text

    def on_resize(self) -> None:
        """Draw the labels at the new width."""
        self.notify_style_update()
        self.refresh()

    @on(Tree.NodeHighlighted)
    def _light_up(self, event: Tree.NodeHighlighted[Row]) -> None:
        """Highlight the parts that the concept was seen on."""
        row = event.node.data
        parts = row.parts if isinstance(row, ConceptRow) else (row.part.id,) if isinstance(row, PartRow) else ()
        self.post_message(LightUp(frozenset(parts)))

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
        """Leave the concept under the cursor out, or restore it."""
        row = self.row
        if isinstance(row, PartRow) or (isinstance(row, ConceptRow) and row.kind != "language"):
            self.post_message(LeaveOut(row.text))
        else:
            self.notify("only what the vision encoder sees can be left out: ∩ or ◐", markup=False, timeout=3)

    def action_restore(self) -> None:
        """Restore all concepts."""
        self.post_message(Restore())

    def action_fold(self) -> None:
        """Fold the node, or go to its parent."""
        node = self.cursor_node
        if node is None:
            return
        if node.is_expanded and node.allow_expand and node.children:
            node.collapse()
        elif node.parent is not None and node.parent is not self.root:
            self.move_cursor(node.parent)

    def action_unfold(self) -> None:
        """Open the node, or go to its first child."""
        node = self.cursor_node
        if node is None or not node.allow_expand:
            return
        if node.is_expanded and node.children:
            self.move_cursor(node.children[0])
        else:
            node.expand()

    def _fill(self, node: TreeNode[Row], row: ConceptRow) -> None:
        if self._explanation is not None:
            for part in part_rows(self._explanation, row):
                node.add_leaf("", data=part)

    def _go_to_the_first(self) -> None:
        if self.last_line >= 0:  # else the next image has taken the tree away already
            self.move_cursor_to_line(min(1, self.last_line))

    def _ink(self, kind: Kind) -> str:
        return self.app.theme_variables[kind]

    def _group(self, row: GroupRow, node: TreeNode[Row]) -> Text:
        out = sum(concept.text in self._left_out for concept in row.rows)
        count = f"{len(row.rows) - out}" + (f"+{out} left out" if out else "")
        if len(row.rows) != row.of:
            count = f"{len(row.rows)} of {row.of}"
        mark = "▾" if node.is_expanded else "▸"
        text = Text.assemble(
            f"{mark} ", (f"{SIGN[row.kind]} {WORD[row.kind]}", f"bold {self._ink(row.kind)}"), f" ({count})"
        )
        if self._explanation is not None:
            hint = _HINT[row.kind].format(f'"{printable(self._explanation.class_name)}"')
            text.append(f"  {hint}", "dim")
        return text

    def _concept(self, row: ConceptRow, node: TreeNode[Row]) -> Text:
        left_out = row.text in self._left_out
        kind: Kind = "left-out" if left_out else row.kind
        mark = ("▾" if node.is_expanded else "▸") if row.parts else " "
        part = (
            ("▌", "#{:02x}{:02x}{:02x}".format(*colour_of(self._marked_part)))
            if self._marked_part in row.parts
            else " "
        )
        room = self.get_label_width(node)
        tail = self._tail(row, room, left_out=left_out)
        name = Text(printable(row.text), "strike" if left_out else "bold" if self._marked_part in row.parts else "")
        lead = Text.assemble(mark, part, (f"{SIGN[kind]} ", self._ink(kind)))
        width = max(4, room - lead.cell_len - tail.cell_len - 1)
        name.truncate(width, overflow="ellipsis")
        return Text.assemble(lead, name, " " * (width - name.cell_len + 1), tail)

    def _tail(self, row: ConceptRow, room: int, *, left_out: bool) -> Text:
        """Bar, number, parts: as many of them as there is room for."""
        if left_out:
            return Text(f"left out ({keys_of(self, 'concepts.leave_out')})" if room >= 36 else "out", "dim")
        if row.importance is None:
            return Text(f"{row.cosine:.3f}" if row.cosine is not None else "")
        number = f"{row.importance:.3f}"
        if room < 34:
            return Text(number)
        cells = _BAR if room < 70 else 2 * _BAR
        tail = Text.assemble((bar(row.importance / self._full, cells), self._ink(row.kind)), f" {number}")
        if room >= 48:
            tail.append(f"  part {_listed(row.parts)}".ljust(12), "dim")
        return tail

    def _part(self, row: PartRow) -> Text:
        red, green, blue = colour_of(row.part.id)
        text = Text.assemble(("■", f"#{red:02x}{green:02x}{blue:02x}"), f" part {row.part.id}")
        text.append(f" · {row.part.area:.0%} of image", "dim")
        if row.cosine is not None:
            text.append(f" · similarity {row.cosine:.3f}", "dim")
        return text


def _listed(parts: Sequence[int]) -> str:
    """The numbers of some parts in five cells: whole numbers, `…` for those that do not fit."""
    numbers = list(map(str, parts))
    for count in range(len(numbers), 0, -1):
        text = ",".join(numbers[:count]) + ("…" if count < len(numbers) else "")
        if len(text) <= _PART_CELLS:
            return text
    return "…"


class ConceptsPane(FilteredPane):
    """The tree under two lines that say how strong the shared knowledge is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/", id="concepts.filter"),
    ]

    view: var[View] = var(View(), init=False)

    def __init__(self) -> None:
        self.concept_tree = ConceptTree()
        super().__init__(self.concept_tree, "filter concepts", id="concepts", classes="pane -empty")
        self.border_title = "why"

    def compose(self) -> ComposeResult:
        """Numbers, note, tree, filter."""
        yield Static(id="strength")
        yield Static(id="note")
        yield from super().compose()

    def watch_view(self, before: View, view: View) -> None:
        """Show the tree and the numbers, or why there are none."""
        explanation = view.explanation
        self.set_class(explanation is None, "-empty")
        if explanation is None:
            self.border_title = "why"
            self.concept_tree.clear()
            self.query_one("#note", Static).update(self._note(view))
            return
        if before.explanation is not explanation:
            self.border_title = f'why "{printable(explanation.class_name)}"'.replace("[", r"\[")
            self._show_tree()
        self.concept_tree.leave_out(frozenset(view.left_out))
        self.query_one("#strength", Static).update(strength_text(explanation, view.strength), layout=False)

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
            self.concept_tree.show(self.view.explanation, wanted=self.filter_text, room=self.size.height - 2)


def strength_text(explanation: Explanation, after: Strength | None) -> Text:
    """MI and AUC beside chance, p, and the dynamics as a sparkline; with concepts left out, the new values too."""
    mutual = explanation.mutual
    mi, auc, curve = f"{mutual.mi_paper:.2f}", f"{mutual.auc:.2f}", mutual.curve
    if after is not None:
        mi, auc, curve = f"{mi} → {after.mi_paper:.2f}", f"{auc} → {after.auc:.2f}", after.curve
    return Text.assemble(
        *("MI  ", (mi, "bold"), (f" (chance {mutual.chance.mi_paper:.2f})", "dim"), f"  p {mutual.p_value:.2g}\n"),
        *("AUC ", (auc, "bold"), (f" (chance {mutual.chance.auc:.2f})", "dim"), f"  {sparkline(curve)}"),
    )
