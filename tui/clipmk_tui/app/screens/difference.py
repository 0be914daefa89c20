"""The difference of two models: both pictures and answers, and between them the concepts that tell them apart."""

from collections.abc import Sequence

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from clipmk.comparison import ComparedConcept, ComparedModel, Comparison
from clipmk.explanation import Explanation
from clipmk.output.sentences import beaten
from clipmk.system.text import printable, quoted
from clipmk_tui.app.answers import Answers
from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.screens.comparing import ComparingScreen
from clipmk_tui.app.widgets.image_pane import ImagePane
from clipmk_tui.show.comparison import cell_words
from clipmk_tui.show.comparison_table import short_names
from clipmk_tui.show.signs import NEITHER, SIGN

_LEGEND = 120  # columns from which the pictures have legends
_NAMED = 2  # concepts that the sentence names of each model


class DifferenceScreen(ComparingScreen[None]):
    """Shows two of several models side by side: `pair` has the places of the left and the right one."""

    BINDINGS = KEY_BINDINGS["DifferenceScreen"]

    topic = "difference"

    def __init__(self, answers: Answers, models: tuple[str, ...], pair: tuple[int, int]) -> None:
        super().__init__(answers, models, id="difference")
        self._pair = pair
        self._rows: list[ComparedConcept | None] = []  # of the list's lines; None: the title of a group
        self._heads = (Static(classes="head", markup=False), Static(classes="head", markup=False))
        self._pictures = tuple(ImagePane(legend=self.app.size.width >= _LEGEND) for _ in range(2))
        self._list = OptionList(id="differences", markup=False)

    def compose_middle(self) -> ComposeResult:
        """Both models with the concepts between them."""
        with Horizontal():
            for place, (head, picture) in enumerate(zip(self._heads, self._pictures, strict=True)):
                picture.can_focus = False
                with Vertical(classes="side"):
                    yield head
                    yield picture
                if not place:
                    yield self._list

    def on_mount(self) -> None:
        """Show what is there and ask for the rest."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.watch_view())
        self._list.focus()
        self.begin()

    @property
    def shown(self) -> tuple[str, str]:
        """The ids of both models."""
        return self._models[self._pair[0]], self._models[self._pair[1]]

    def begin(self) -> None:
        """Draw, and ask for what is missing, the picture included."""
        super().begin()
        self._read_picture(self._answers.image)

    @work(group="picture", exclusive=True)
    async def _read_picture(self, path: str) -> None:
        picture = await self._answers.questions.picture(path)
        for pane in self._pictures:
            pane.picture = picture

    def watch_view(self) -> None:
        """Draw what has been answered so far."""
        left, right = names = short_names(self.shown)
        self.show_title()
        for place, name in enumerate(names):
            self._draw_side(place, name)
        self._draw_list((left, right))

    def _draw_side(self, place: int, name: str) -> None:
        result, column = self._answers.result(self.shown[place]), self.view.column(place)
        made = result if isinstance(result, Explanation) else None
        if column is None:
            lines = ["waiting for its answer"]
        elif made is None:
            lines = [f"failed: {column.error.message if column.error else ''}"]
        else:
            lines = answers(column, made, self._answers.state.label)
        self._heads[place].update(Text.assemble((printable(name), "bold"), *(f"\n{printable(line)}" for line in lines)))
        self._pictures[place].explanation = made

    def _draw_list(self, names: tuple[str, str]) -> None:
        """The concepts, with the cursor on the one it was on."""
        comparison, before, options = self.view.comparison, self._row, list[Option]()
        self._rows = []
        if comparison is not None and comparison.answered == 2:
            self._sentences.update(Text(printable(f"{what_separates(comparison, names)}."), overflow="ellipsis"))
            for title, rows in groups(comparison, names):
                heading = Text(printable(f"{len(rows)} {title}"), "bold", no_wrap=True, overflow="ellipsis")
                options.append(Option(heading, disabled=True))
                options += [Option(self._line(row)) for row in rows]
                self._rows += [None, *rows]
        else:
            self._sentences.update("")
        texts = [row.text if row else "" for row in self._rows]
        with self.prevent(OptionList.OptionHighlighted):
            self._list.set_options(options)
            self._list.highlighted = (
                texts.index(before.text) if before and before.text in texts else 1 if texts else None
            )
        self._show_row()

    def _line(self, row: ComparedConcept) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        for cell in row.cells:
            if cell is None or cell.status == "none":
                line.append(f"{NEITHER} ")
            else:
                line.append(f"{SIGN[cell.status]} ", self.app.theme_variables[cell.status])
        return line.append(f" {printable(row.text)}")

    @property
    def _row(self) -> ComparedConcept | None:
        """The concept under the cursor."""
        at = self._list.highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @on(OptionList.OptionHighlighted)
    def _show_row(self) -> None:
        """Light up the parts of the concept under the cursor in both pictures, and say its numbers."""
        row, lines = self._row, list[str]()
        for place, picture in enumerate(self._pictures):
            made, column = picture.explanation, self.view.column(place)
            concepts = made.vision_concepts if made is not None and row is not None else ()
            parts = next((one.parts for one in concepts if row is not None and one.text == row.text), ())
            picture.lit = frozenset(parts)
            cell = None if row is None else row.cells[place]
            if row is not None and cell is not None and column is not None:
                where = f", parts {' '.join(map(str, parts))}" if parts else ""
                lines.append(cell_words(row.text, cell, column) + where)
        self._detail.update(Content("\n".join(map(printable, lines))))

    def action_other(self, by: int) -> None:
        """Another model on the right."""
        left, right = self._pair
        others = [index for index in range(len(self._models)) if index != left]
        self._pair = left, others[(others.index(right) + by) % len(others)]
        self.begin()

    def action_swap(self) -> None:
        """Left becomes right."""
        self._pair = self._pair[::-1]
        self.begin()

    def action_overlay(self) -> None:
        """Parts, the concept under the cursor, plain."""
        for picture in self._pictures:
            picture.cycle_overlay()


# What tells the models apart, in words.


def groups(comparison: Comparison, names: tuple[str, str]) -> list[tuple[str, list[ComparedConcept]]]:
    """Title and concepts of each group that is not empty: each concept once, what separates the models most first."""
    left, right = names
    titles = (
        f"only {left} sees and ties",
        f"only {right} sees and ties",
        "seen by one, tied by the other",
        f"only {left} sees",
        f"only {right} sees",
        f"only {left} ties",
        f"only {right} ties",
        "the same in both",
    )
    members: list[list[ComparedConcept]] = [[] for _ in titles]
    for row in comparison.rows:
        members[_place(row)].append(row)
    return [(title, sorted(rows, key=_weight)) for title, rows in zip(titles, members, strict=True) if rows]


def _place(row: ComparedConcept) -> int:
    """Index of the group of a concept."""
    found = [cell.status if cell is not None else "none" for cell in row.cells]
    if found[0] == found[1]:
        return 7
    if "mutual" in found:
        return found.index("mutual")
    if "none" not in found:
        return 2
    return 3 + found.index("vision") if "vision" in found else 5 + found.index("language")


def _weight(row: ComparedConcept) -> tuple[float, float]:
    """The most important ones first, then the nearest ones."""
    cells = [cell for cell in row.cells if cell is not None]
    return -max(cell.importance or 0.0 for cell in cells), -max(cell.cosine or 0.0 for cell in cells)


def what_separates(comparison: Comparison, names: tuple[str, str]) -> str:
    """One sentence: what each model says, and what it alone sees and ties to that."""
    alone: list[list[str]] = [[], []]
    for row in sorted(comparison.rows, key=_weight):
        if (place := _place(row)) < 2:
            alone[place].append(row.text)
    return "; ".join(
        _clause(column, name, texts) for column, name, texts in zip(comparison.columns, names, alone, strict=True)
    )


def _clause(column: ComparedModel, name: str, alone: Sequence[str]) -> str:
    verdict = {None: "", True: " (right)", False: " (wrong)"}[column.right]
    says = f"{name} says {quoted(column.predictions[0].class_name)}{verdict}"
    if not alone:
        return f"{says} and sees and ties nothing that the other does not"
    more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
    return f"{says} and alone sees and ties {', '.join(map(quoted, alone[:_NAMED]))}{more}"


def answers(column: ComparedModel, explanation: Explanation, true_class: str | None) -> list[str]:
    """What a model says, also of the true class, and how strong its shared knowledge is: a few short lines."""
    first, mutual = column.predictions[0], explanation.mutual
    verdict = {None: "", True: ", right", False: ", wrong"}[column.right]
    lines = [f"says {first.class_name} {100 * first.probability:.0f} %{verdict}"]
    if true_class is not None and not column.right:
        lines.append(_rank_words(explanation, true_class))
    tied = "" if explanation.class_name == first.class_name else f" to {explanation.class_name}"
    strength = f"strength {mutual.mi_paper:.2f} AUC {mutual.auc:.2f} u {mutual.language_count}"
    seen = f"{mutual.count} of {mutual.vision_count} seen are tied{tied}"
    return [*lines, seen, f"beats {beaten(mutual)} other classes", strength]


def _rank_words(explanation: Explanation, class_name: str) -> str:
    found = next((one for one in explanation.predictions if one.class_name == class_name), None)
    if found is None:
        return f"{class_name}: not among its {len(explanation.predictions)} first"
    return f"{class_name}: rank {found.rank}, {100 * found.probability:.1f} %"
