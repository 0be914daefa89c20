"""The report on an explanation in the terminal: predictions, why, and the concepts behind them. Computes nothing.

Colour is never needed: parts have numbers and concepts have signs. In a narrow terminal, bars, lists of parts and
values by chance are dropped; names wrap, numbers and signs stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.output.palette import colour_of
from clipmk.system.text import quoted
from clipmk_tui.show.bars import bar, sparkline
from clipmk_tui.show.columns import DROPPED, Step, fit_columns
from clipmk_tui.show.signs import ANSI, SIGN, WORD, Kind
from clipmk_tui.show.text import shown

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.records import LanguageConcept, Part, Prediction, SoftPair, VisionConcept

LANGUAGE_SHOWN = 5
"""Language-only concepts listed without --verbose."""
VISION_SHOWN = 8
"""Vision-only concepts listed without --verbose."""

_DIM = "dim"
_BAR, _SHORT_BAR = 12, 4
_NAME, _SHORT_NAME, _SHORTEST_NAME = 24, 16, 6
"""Cells of a concept's or a class's name: with room, while other columns shrink, and when nothing else can."""
_BESIDE_PICTURE, _PICTURE_GAP = 42, 2
"""Fewest cells of the predictions beside the picture, and the blanks between them."""
_MORE = "…"
_CURVE_NOTES = ("  MI, the most important concepts left out", "  MI", "")


def report(
    explanation: Explanation, *, width: int, everything: bool = False, picture: Sequence[Text] = ()
) -> RenderableType:
    """Lay out an explanation.

    Args:
        explanation: of any preset.
        width: columns of the terminal.
        everything: list all concepts, and model, settings and versions.
        picture: lines of equal length to show beside the predictions.
    """
    beside_picture = width - picture[0].cell_len - _PICTURE_GAP if picture else 0
    room = beside_picture if beside_picture >= _BESIDE_PICTURE else width
    beside = Group(_predictions(explanation, room), Text(), _parts(explanation.parts, everything=everything))
    top: RenderableType = beside
    if room < width:
        top = _columns(Group(*picture), beside, width=picture[0].cell_len)
    elif picture:
        top = Group(*picture, Text(), beside)
    why, concepts = _why(explanation, width), _concepts(explanation, width, everything=everything)
    pieces = [_header(explanation, width), Text(), top, Text(), why, *concepts]
    if everything:
        pieces += [Text(), _provenance(explanation)]
    return Group(*pieces)


def _header(explanation: Explanation, width: int) -> RenderableType:
    image, model = explanation.image, explanation.model
    left = Text.assemble(
        shown(image.path or "an image in memory", "bold"), (f"  {image.width}x{image.height} px", _DIM)
    )
    right = Text.assemble(shown(model.id, "bold"), (f"  {model.family} {model.input_size}", _DIM))
    if left.cell_len + right.cell_len + 2 > width:
        return Group(left, right)
    return Text.assemble(left, " " * (width - left.cell_len - right.cell_len), right)


def _predictions(explanation: Explanation, width: int) -> RenderableType:
    rows = explanation.predictions
    names, cosines = [shown(one.class_name) for one in rows], [_cosine(one) for one in rows]
    wanted = {
        "rank": max((len(str(one.rank)) for one in rows), default=1),
        "name": _longest(names),
        "bar": _BAR,
        "share": max((len(_percent(one.probability)) for one in rows), default=1),
        "cosine": _longest(cosines),
    }
    alone = max((cosine.plain.count("  ") for cosine in cosines), default=0)
    lines = [Step("cosine", len("alone 100.0 %"))] if alone else []
    steps = [Step("bar", _SHORT_BAR), Step("name", _NAME), Step("bar"), *lines, Step("name", _SHORTEST_NAME)]
    widths = fit_columns(wanted, steps, width)
    table = _sized(widths, right=("rank", "share", "cosine"), folded=("name", "cosine"))
    for one, name, cosine in zip(rows, names, cosines, strict=True):
        chosen = one.class_name == explanation.class_name
        name.stylize("bold" if chosen else "")
        drawn = Text(bar(one.probability, widths["bar"]), ANSI["mutual" if chosen else "vision"])
        _add(table, widths, (str(one.rank), name, drawn, _percent(one.probability), cosine))
    return Group(_title("predictions"), table)


def _cosine(one: Prediction) -> Text:
    text = Text(f"cos {one.cosine:.3f}", _DIM)
    if one.independent is not None:
        text.append(f"  alone {100 * one.independent:.1f} %", _DIM)
    return text


def _parts(parts: Sequence[Part], *, everything: bool) -> RenderableType:
    table = _table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for part in parts:
        words = [one.text for one in part.descriptors][: None if everything else 1]
        swatch = "#{:02x}{:02x}{:02x}".format(*colour_of(part.id))
        table.add_row(Text.assemble(("■", swatch), f" {part.id}"), shown(", ".join(words)), _percent(part.area))
    if not parts:
        table.add_row("none", "", "")
    return Group(_title("parts", "share of the picture"), table)


def _why(explanation: Explanation, width: int) -> RenderableType:
    mutual = explanation.mutual
    rows = (
        ("mutual concepts", str(mutual.count), f"by chance {mutual.chance.count:.2f}, p = {mutual.p_value:.2g}"),
        ("MI", f"{mutual.mi_paper:.2f}", f"by chance {mutual.chance.mi_paper:.2f}"),
        ("AUC", f"{mutual.auc:.2f}", f"by chance {mutual.chance.auc:.2f}"),
    )
    wanted = {name: max(len(row[i]) for row in rows) for i, name in enumerate(("name", "value", "chance"))}
    piece = max(len(piece) for row in rows for piece in row[2].split(", ")) + 1
    widths = fit_columns(wanted, [Step("chance", piece), Step("chance")], width)
    table = _sized(widths, right=("value",), folded=("chance",))
    for name, value, chance in rows:
        lines = chance if widths["chance"] == wanted["chance"] else chance.replace(", ", ",\n")
        _add(table, widths, (name, value, Text(lines, _DIM)))
    return Group(_title(f"why {quoted(explanation.class_name)}"), table, _dynamics(mutual.curve, width))


def _dynamics(curve: Sequence[float], width: int) -> Text:
    """The curve, and what it means if there is room; a curve longer than a line wraps."""
    line = Text.assemble(" dynamics  ", (sparkline(curve), ANSI["mutual"]))
    note = next(note for note in _CURVE_NOTES if not note or line.cell_len + len(note) <= width)
    return line.append(note, _DIM)


def _concepts(explanation: Explanation, width: int, *, everything: bool) -> Iterable[RenderableType]:
    seen = explanation.vision_concepts
    mutual = [concept for concept in seen if concept.mutual]
    others = [concept for concept in seen if not concept.mutual]
    unseen = [concept for concept in explanation.language_concepts if not concept.mutual]
    most = None if everything else VISION_SHOWN
    layout = _Seen.of([*mutual, *others[:most]], width, strongest=max((one.importance for one in seen), default=0.0))
    name = quoted(explanation.class_name)
    yield Text()
    yield _kind_title("mutual", len(mutual), f"seen, and tied to {name}")
    yield layout.table(mutual, "mutual", most=None)
    yield Text()
    yield _kind_title("vision", len(others), f"seen, but not tied to {name}")
    yield layout.table(others, "vision", most=most)
    yield Text()
    yield _kind_title("language", len(unseen), f"tied to {name}, but not seen")
    yield _tied(unseen, width, most=None if everything else LANGUAGE_SHOWN)
    if explanation.mutual.soft:
        yield Text()
        yield _title(f"≈ nearly mutual ({len(explanation.mutual.soft)})", "seen and tied in different words")
        yield _nearly(explanation.mutual.soft, width)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The layout of vision concepts, mutual or not, in the same columns."""

    widths: Mapping[str, int]
    strongest: float
    """Importance of a full bar."""

    @classmethod
    def of(cls, concepts: Sequence[VisionConcept], width: int, *, strongest: float) -> _Seen:
        longest = _longest([shown(one.text) for one in concepts])
        wanted = {
            "sign": 1,
            "name": max(_NAME, longest),
            "bar": _BAR,
            "number": max((len(f"{one.importance:.3f}") for one in concepts), default=1),
            "parts": max((len(_part_numbers(one.parts)) for one in concepts), default=1),
        }
        fewest = len(f"parts {max((part for one in concepts for part in one.parts), default=0)} {_MORE}")
        steps = [
            *(Step("name", max(1, longest)), Step("bar", _SHORT_BAR), Step("name", _NAME), Step("bar")),
            *(Step("parts", fewest), Step("name", _SHORT_NAME), Step("parts"), Step("name", _SHORTEST_NAME)),
        ]
        return cls(fit_columns(wanted, steps, width), strongest)

    def table(self, concepts: Sequence[VisionConcept], kind: Kind, *, most: int | None) -> RenderableType:
        """The first `most` concepts, or all."""
        table = _sized(self.widths, right=("number",), folded=("name",))
        for concept in concepts[:most]:
            share = concept.importance / self.strongest if self.strongest > 0 else 0.0
            drawn = Text(bar(share, self.widths["bar"]), ANSI[kind])
            numbers = Text(_part_numbers(concept.parts, self.widths["parts"]), _DIM)
            cells = (_sign(kind), shown(concept.text), drawn, f"{concept.importance:.3f}", numbers)
            _add(table, self.widths, cells)
        return _listed(table, len(concepts), most)


def _part_numbers(parts: Sequence[int], width: int | None = None) -> str:
    """The numbers of parts in `width` cells: whole numbers, and `…` for those that do not fit."""
    word = f"part{'s' if len(parts) > 1 else ''}"
    for count in range(len(parts), -1, -1):
        text = " ".join([word, *map(str, parts[:count]), *([_MORE] if count < len(parts) else [])])
        if width is None or len(text) <= width:
            return text
    return _MORE


def _tied(concepts: Sequence[LanguageConcept], width: int, *, most: int | None) -> RenderableType:
    listed = concepts[:most]
    names, cosines = [shown(one.text) for one in listed], [f"cos {one.cosine:.3f}" for one in listed]
    longest = _longest(names)
    wanted = {"sign": 1, "name": max(_NAME, longest), "cosine": max(map(len, cosines), default=1)}
    widths = fit_columns(wanted, [Step("name", max(1, longest)), Step("name", _SHORTEST_NAME)], width)
    table = _sized(widths, right=("cosine",), folded=("name",))
    for name, cosine in zip(names, cosines, strict=True):
        _add(table, widths, (_sign("language"), name, Text(cosine, _DIM)))
    return _listed(table, len(concepts), most)


def _nearly(pairs: Sequence[SoftPair], width: int) -> RenderableType:
    """Pairs side by side, or one below the other if a pair does not fit in a line."""
    seen, tied = [shown(pair.vision) for pair in pairs], [shown(pair.language) for pair in pairs]
    cosines = [f"cos {pair.cosine:.3f}" for pair in pairs]
    wanted = {"sign": 1, "seen": _longest(seen), "tied": _longest(tied), "cosine": max(map(len, cosines))}
    widths = fit_columns(wanted, [Step("tied"), Step("seen", _SHORTEST_NAME)], width)
    if widths["tied"] == DROPPED:
        stacked = wanted | {"seen": max(wanted["seen"], wanted["tied"]), "tied": DROPPED}
        widths = fit_columns(stacked, [Step("seen", _SHORTEST_NAME)], width)
        seen = [Text("\n").join(both) for both in zip(seen, tied, strict=True)]
    table = _sized(widths, right=("cosine",), folded=("seen", "tied"))
    for one, other, cosine in zip(seen, tied, cosines, strict=True):
        _add(table, widths, ("≈", one, other, Text(cosine, _DIM)))
    return table


def _listed(table: Table, count: int, most: int | None) -> RenderableType:
    if not count:
        return Text(" none", _DIM)
    if most is not None and count > most:
        return Group(table, Text(f" and {count - most} more (--verbose)", _DIM))
    return table


def _provenance(explanation: Explanation) -> RenderableType:
    made, elapsed = explanation.provenance, explanation.elapsed_ms
    table = _table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "preset": f"{made.settings['preset']}, seed {made.settings['seed']}",
        "vocabulary": f"{made.vocabulary}, sha256 {made.vocabulary_sha256[:12]}",
        "weights": f"sha256 {explanation.model.weights_sha256[:12]}",
        "device": f"{made.device}, {made.dtype}",
        "versions": f"clipmk {made.clipmk}, torch {made.torch}, open_clip {made.open_clip}",
        "time": f"load {elapsed.load:.0f} ms, explain {elapsed.explain:.0f} ms",
    }
    for name, value in rows.items():
        table.add_row(name, shown(value))
    return Group(_title("how"), table)


def _title(text: str, note: str = "", style: str = "") -> Text:
    return Text.assemble((text, f"bold {style}".strip()), (f"  {note}" if note else "", _DIM))


def _kind_title(kind: Kind, count: int, note: str) -> Text:
    return _title(f"{SIGN[kind]} {WORD[kind]} ({count})", note, ANSI[kind])


def _sign(kind: Kind) -> Text:
    return Text(SIGN[kind], ANSI[kind])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _longest(texts: Sequence[Text]) -> int:
    return max((text.cell_len for text in texts), default=0)


def _sized(widths: Mapping[str, int], *, right: Sequence[str], folded: Sequence[str]) -> Table:
    """A table of the columns that are not dropped; the first one has no fixed width."""
    table = _table()
    for name, width in widths.items():
        if width != DROPPED:
            justify: Literal["left", "right"] = "right" if name in right else "left"
            cells = width if table.columns else None  # Rich omits the blank before a first column of fixed width
            table.add_column(justify=justify, overflow="fold", no_wrap=name not in folded, width=cells)
    return table


def _add(table: Table, widths: Mapping[str, int], cells: Sequence[RenderableType]) -> None:
    """Add a row of cells in the order of all columns; those of dropped columns are skipped."""
    table.add_row(*(cell for cell, width in zip(cells, widths.values(), strict=True) if width != DROPPED))


def _table() -> Table:
    return Table.grid(padding=(0, 1), pad_edge=True)


def _columns(left: RenderableType, right: RenderableType, *, width: int) -> Table:
    table = Table.grid(padding=(0, _PICTURE_GAP), expand=True)
    table.add_column(width=width, no_wrap=True)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table
