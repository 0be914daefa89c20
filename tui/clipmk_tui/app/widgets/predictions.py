"""The predicted classes: rank, name, bar, probability; the cursor asks "why not this one?"."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text
from textual.reactive import var
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from clipmk.records import Prediction
from clipmk.system.text import printable
from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.state import View
from clipmk_tui.show.signs import RIGHT, WRONG
from clipmk_tui.show.text import bar

_NAME = 9  # cells that a class name gets before the bar gets any
_BAR, _SHORTEST_BAR = 60, 4  # cells of a bar at most, and where the names are long


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One class as the pane shows it."""

    rank: int  # as ranked now; 0 where that is not known
    class_name: str
    before: float | None  # probability; None for a class that is only there because it is asked about or true
    after: float | None
    """Probability without what is left out; None while nothing is, or where it is not known (yet)."""
    below: float | None = None
    """Where the new ranking does not tell of the class: the lowest probability of those it ranks without a gap."""
    true: bool | None  # whether it is the image's label; None if it has none


def lines(
    predictions: Sequence[Prediction],
    *,
    after: Sequence[Prediction] | None = None,
    label: str | None = None,
    target: str | None = None,
    most: int = 10,
) -> tuple[Line, ...]:
    """The classes up to the rank `most`, the asked and the true one: ranked as in `after` where concepts are left out.

    A class that is missing in the new ranking has no rank, and an upper bound instead of a probability.
    """
    was, now = ({one.class_name: one.probability for one in ranked or ()} for ranked in (predictions, after))
    first, ranks = ({one.class_name: one.rank for one in ranked} for ranked in (predictions, after or predictions))
    lowest = min((p.probability for place, p in enumerate(after or (), 1) if p.rank == place), default=None)
    asked = [name for name in (label, target) if name is not None]
    return tuple(
        Line(
            rank=ranks.get(name, 0),
            class_name=name,
            before=was.get(name),
            after=now.get(name),
            below=lowest if name in was and name not in now else None,
            true=None if label is None else name == label,
        )
        for name in dict.fromkeys([*now, *was, *asked])
        if name in asked or min(place[name] for place in (ranks, first) if name in place) <= most
    )


class PredictionsPane(OptionList):
    """A line a class. `choose` is called with the class under the cursor as soon as it moves there."""

    BINDINGS = KEY_BINDINGS["PredictionsPane"]

    view: var[View] = var(View(), init=False)

    def __init__(self, choose: Callable[[str], None]) -> None:
        super().__init__(id="predictions", classes="pane", markup=False)
        self.border_title = "predictions"
        self._choose = choose
        self._shown: tuple[Line, ...] = ()

    def watch_view(self, before: View, view: View) -> None:
        """Show the classes; where only concepts were left out, in the next frame: the tree goes first."""
        ranked, ranked_before = (one.explanation and one.explanation.predictions for one in (view, before))
        if (ranked_before, before.target) != (ranked, view.target):
            self._draw()
        elif (before.reranked, before.label) != (view.reranked, view.label):
            self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        """Draw at the new width."""
        self._draw()

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Ask about the class under the cursor."""
        super().watch_highlighted(highlighted)
        if highlighted is not None and self.has_focus and self._shown:
            self._choose(self._shown[highlighted].class_name)

    def _draw(self) -> None:
        """Show the classes, the cursor on the one asked about; a wrong prediction is marked."""
        explanation, label, target = self.view.explanation, self.view.label, self.view.target
        found: tuple[Line, ...] = ()
        self.border_subtitle = ""
        width, rows = max(16, self.scrollable_content_region.width), self.scrollable_content_region.height
        if explanation is not None:
            count = explanation.provenance.settings["prediction_count"]
            found = lines(
                explanation.predictions, after=self.view.reranked, label=label, target=target, most=max(count, rows)
            )
            right = None if label is None else label == explanation.predictions[0].class_name
            truth = truth_text(label or self.view.named, right, width - 2)
            self.border_subtitle = Text(truth, {True: "$success", False: "$error", None: ""}[right])
        names = [line.class_name for line in found]
        longest = max((cell_len(printable(name)) for name in names), default=0)
        tail = max((len(numbers(line, room=width)) for line in found), default=0)
        self._shown = ()  # the cursor asks for nothing while it is moved here
        with self.prevent(OptionList.OptionHighlighted):
            self.set_options([Option(line_text(line, width, longest=longest, tail=tail)) for line in found])
            self.highlighted = names.index(target) if target in names else None
        self._shown = found


def truth_text(label: str | None, right: bool | None, width: int) -> str:
    """The true class, and whether it is the predicted one (None: not in the vocabulary), in words of `width` cells."""
    if label is None:
        return "true class not known"
    verdict = {True: "predicted right", False: "predicted wrong", None: "not among the classes"}[right]
    name, short = printable(label), verdict.removeprefix("predicted ").removesuffix(" the classes")
    tries = (f"true class: {name}, {verdict}", f"truth: {name}, {verdict}", f"truth: {name}, {short}")
    return next((text for text in tries if cell_len(text) <= width), tries[-1])


def line_text(line: Line, width: int, *, longest: int, tail: int = 0) -> Text:
    """One line of exactly `width` cells: as much of rank, name, bar and numbers as there is room for.

    All bars begin in one column, after the `longest` name, and all numbers, of `tail` cells at most, in another.
    """
    figures = numbers(line, room=width)
    figures.pad_right(tail - len(figures))
    wrong = line.true is False and line.rank == 1
    mark = "" if line.true is None else f"{RIGHT} " if line.true else f"{WRONG} " if wrong else "  "
    lead = f"{line.rank or '·':>2} "
    rest = width - len(lead) - len(mark) - len(figures) - 2
    cells = max(0, min(_BAR, rest - max(_NAME, min(longest, rest - _SHORTEST_BAR)) - 1))
    name = Text(printable(line.class_name), "bold" if line.true else "")
    name.truncate(max(4, rest - cells - bool(cells)), overflow="ellipsis", pad=True)
    share = line.before if line.after is None and line.below is None else line.after
    middle = f" {bar(share or 0.0, cells)}" if cells else ""
    text = Text.assemble(
        (lead, "dim"),
        (mark, "bold red" if wrong else "bold green"),
        name,
        middle,
        " ",
        figures,
        no_wrap=True,
        overflow="ellipsis",
    )
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


def numbers(line: Line, *, room: int) -> Text:
    """``71.2 %``; with something left out ``71.2 → 63.0 % ▾ 8.2`` or ``71.2 → < 3.0 %``, shorter in little room."""
    if line.before is None and line.after is None:
        return Text("    –", "dim")
    if line.below is not None:
        bound = f"< {100 * line.below:.1f} %"
        return Text(bound if room < 30 else f"{100 * (line.before or 0):5.1f} → {bound}")
    if line.after is None:
        return Text(f"{100 * (line.before or 0):5.1f} %")
    after = f"{100 * line.after:.1f}"
    if line.before is None:
        return Text(f"{after:>5} %" if room < 30 else f"{'':8}{after:>5} %")
    change = float(after) - float(f"{100 * line.before:.1f}")  # of what is shown
    same = abs(change) < 0.05
    moved = " ·" if same else f" {'▴' if change > 0 else '▾'}{abs(change):4.1f}"
    if room < 30 or same:
        return Text(f"{'' if room < 30 else ' ' * 8}{after:>5} %{moved}")
    return Text(f"{100 * line.before:5.1f} → {after:>5} %{moved}")
