"""The report on an explanation in the terminal: predictions, why, and the concepts behind them. Computes nothing.

Colour is never needed: parts have numbers and concepts have signs. Rich wraps names and lists of parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clipmk.output.palette import colour_of
from clipmk.output.sentences import mark_note, measures, overlap_sentence, part_names
from clipmk.system.text import one_or_many, quoted
from clipmk_tui.show.signs import ANSI, NEITHER, SIGN, WORD, Kind
from clipmk_tui.show.text import bar, shown, sparkline, why_not

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.records import VisionConcept

LANGUAGE_SHOWN = 5  # language-only concepts listed without --verbose
VISION_SHOWN = 8  # vision-only concepts listed without --verbose

_DIM = "dim"
_BAR, _SHORT_BAR = 12, 4
_NAME = 24  # fewest cells of a concept's name
_BESIDE_PICTURE, _PICTURE_GAP = 42, 2
"""Fewest cells of the predictions beside the picture, and the blanks between them."""


def report(
    explanation: Explanation, *, width: int, everything: bool = False, picture: Sequence[Text] = ()
) -> RenderableType:
    """Lay out an explanation in `width` columns; `picture`, lines of equal length, is beside the predictions.

    With `everything` all concepts are listed, and model, settings and versions.
    """
    beside_picture = width - picture[0].cell_len - _PICTURE_GAP if picture else 0
    room = beside_picture if beside_picture >= _BESIDE_PICTURE else width
    beside = Group(_predictions(explanation, room), Text(), _parts(explanation, everything=everything))
    top: RenderableType = beside
    if room < width:
        top = Table.grid(padding=(0, _PICTURE_GAP), expand=True)
        top.add_column(width=picture[0].cell_len, no_wrap=True)
        top.add_column(ratio=1)
        top.add_row(Group(*picture), beside)
    elif picture:
        top = Group(*picture, Text(), beside)
    concepts = _concepts(explanation, width, everything=everything)
    answers = [Text(), _asked(explanation)] if explanation.asked else []
    why = _why(explanation, everything=everything)
    pieces = [_header(explanation, width), Text(), top, *answers, Text(), why, *concepts]
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
    longest = max((shown(one.class_name).cell_len for one in explanation.predictions), default=0)
    alone = any(one.independent is not None for one in explanation.predictions)
    beside = len(" 10   100.0 % cos 0.000 ") + len("  alone 100.0 %") * alone
    cells = max(_SHORT_BAR, min(_BAR, width - longest - beside))
    table = _table("right", "fold", "left", "right", "fold")
    for one in explanation.predictions:
        chosen = one.class_name == explanation.class_name
        drawn = Text(bar(one.probability, cells), ANSI["mutual" if chosen else "vision"])
        cosine = Text(f"cos {one.cosine:.3f}", _DIM)
        if one.independent is not None:
            cosine.append(f"  alone {100 * one.independent:.1f} %")
        name = shown(one.class_name, "bold" if chosen else "")
        table.add_row(str(one.rank), name, drawn, _percent(one.probability), cosine)
    return Group(_title("predictions"), table)


def _parts(explanation: Explanation, *, everything: bool) -> RenderableType:
    table, parts, other = _table("left", "fold", "right", "right"), explanation.parts, explanation.runner_up
    names = part_names(explanation)
    margins: Sequence[float | None] = [None] * len(parts)
    influence = "no other class"
    if other is not None:
        margins = other.part_margins
        influence = f"influence: + for {quoted(explanation.class_name)}, - for {quoted(other.class_name)}"
    for part, margin in zip(parts, margins, strict=True):
        words = [names[part.id], *(one.text for one in part.descriptors[1:] if everything)]
        swatch = Text.assemble(("■", "#{:02x}{:02x}{:02x}".format(*colour_of(part.id))), f" {part.id}")
        table.add_row(swatch, shown(", ".join(words)), _percent(part.area), _signed(margin))
    if not parts:
        table.add_row("none", "", "", "")
    notes = [Text(f" {note}", _DIM) for note in filter(None, [mark_note(names)])]
    return Group(_title("parts", f"share of the picture, {influence}"), table, *notes)


def _asked(explanation: Explanation) -> RenderableType:
    """What was asked for: seen, tied to the class, and on which parts."""
    table = _table("left", "fold", "fold", "fold", "fold")
    for one in explanation.asked:
        tie, seen = one.ties[0], "seen" if one.presence.seen else "not seen"
        table.add_row(
            Text(NEITHER) if one.status == "none" else _sign(one.status),
            shown(one.text),
            Text(f"{seen}, p = {one.presence.p_value:.2g}"),
            Text(f"{'tied' if tie.in_d_y else 'not tied'}, cos {tie.cosine:.2f}, rank {tie.rank}"),
            Text(_part_numbers(one.parts) if one.parts else "", _DIM),
        )
    return Group(_title(f"? asked ({len(explanation.asked)})", f"against {quoted(explanation.class_name)}"), table)


def _why(explanation: Explanation, *, everything: bool) -> RenderableType:
    mutual, share, name = explanation.mutual, explanation.share_explained, quoted(explanation.class_name)
    table = _table("left", "right", "fold")
    for one in measures(mutual, everything=everything):
        table.add_row(one.name, one.value, Text(one.note, _DIM))
    curve = (sparkline(mutual.curve), ANSI["mutual"])
    dynamics = Text.assemble(" dynamics  ", curve, ("  strength without the 0, 1, 2, ... most important", _DIM))
    named = "" if share is None else f"all seen concepts recover {round(100 * share)} % of the similarity to {name}"
    others = explanation.alternatives if everything else filter(None, [explanation.runner_up])
    answers = [f"why not {quoted(one.class_name)}: {why_not(explanation, one)}" for one in others]
    limits = "this says why, not whether it is right; seen: near to a part, maybe not there"
    first, *more = (
        Padding(line, (0, 0, 0, 1))
        for line in (
            Text(overlap_sentence(mutual, explanation.class_name)),
            *map(Text, [named, *answers]),
            Text(limits, _DIM),
        )
        if line
    )
    return Group(_title(f"why {name}"), first, table, dynamics, *more)


def _concepts(explanation: Explanation, width: int, *, everything: bool) -> Iterator[RenderableType]:
    seen = explanation.vision_concepts
    mutual = [concept for concept in seen if concept.mutual]
    others = [concept for concept in seen if not concept.mutual]
    unseen = [concept for concept in explanation.language_concepts if not concept.mutual]
    listed = others if everything else others[:VISION_SHOWN]
    strongest = max((one.importance for one in seen), default=0.0)
    cells = _name_cells([*mutual, *listed], width)
    tied = _table("left", "fold", "right")
    tied.columns[1].min_width = _NAME
    for one in unseen if everything else unseen[:LANGUAGE_SHOWN]:
        tied.add_row(_sign("language"), shown(one.text), Text(f"cos {one.cosine:.3f}", _DIM))
    name, note = quoted(explanation.class_name), "; importance, influence of its parts"
    yield from _kind(
        "mutual", f"seen, and tied to {name}{note}", _seen(mutual, "mutual", cells, strongest), len(mutual)
    )
    yield from _kind(
        "vision", f"seen, but not tied to {name}{note}", _seen(listed, "vision", cells, strongest), len(others)
    )
    yield from _kind("language", f"tied to {name}, but not seen", tied, len(unseen))
    if explanation.mutual.soft:
        yield Text()
        yield _title(f"≈ nearly mutual ({len(explanation.mutual.soft)})", "seen and tied in different words")
        table = _table("left", "fold", "fold", "right")
        for pair in explanation.mutual.soft:
            table.add_row("≈", shown(pair.vision), shown(pair.language), Text(f"cos {pair.cosine:.3f}", _DIM))
        yield table


def _kind(kind: Kind, note: str, table: Table, count: int) -> Iterator[RenderableType]:
    """The concepts of one kind: title, table, and how many of `count` are not in it."""
    yield Text()
    yield _title(f"{SIGN[kind]} {WORD[kind]} ({count})", note, ANSI[kind])
    yield table if count else Text(" none", _DIM)
    if count > table.row_count:
        yield Text(f" and {count - table.row_count} more (--verbose)", _DIM)


def _name_cells(concepts: Sequence[VisionConcept], width: int) -> int:
    """Cells of the names of vision concepts, the same whether they are mutual or not."""
    beside = len(" ∩   0.000 +0.000  ") + _BAR + max((len(_part_numbers(one.parts)) for one in concepts), default=0)
    longest = max((shown(one.text).cell_len for one in concepts), default=0)
    return max(_NAME, min(longest, width - beside))


def _seen(concepts: Sequence[VisionConcept], kind: Kind, cells: int, strongest: float) -> Table:
    table = _table("left", "fold", "left", "right", "right", "fold")
    table.columns[1].width = cells
    for one in concepts:
        drawn = Text(bar(one.importance / strongest if strongest > 0 else 0.0, _BAR), ANSI[kind])
        numbers = Text(_part_numbers(one.parts), _DIM)
        table.add_row(_sign(kind), shown(one.text), drawn, f"{one.importance:.3f}", _signed(one.influence), numbers)
    return table


def _part_numbers(parts: Sequence[int]) -> str:
    return " ".join([one_or_many(len(parts), "part", "parts"), *map(str, parts)])


def _provenance(explanation: Explanation) -> RenderableType:
    made, elapsed = explanation.provenance, explanation.elapsed_ms
    table = _table("left", "fold")
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


def _sign(kind: Kind) -> Text:
    return Text(SIGN[kind], ANSI[kind])


def _signed(influence: float | None) -> str:
    return "" if influence is None else f"{influence:+z.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(*columns: Literal["left", "right", "fold"]) -> Table:
    """A table without lines; what does not fit wraps in the columns that fold."""
    table = Table.grid(padding=(0, 1), pad_edge=True)
    for one in columns:
        table.add_column(justify="right" if one == "right" else "left", overflow="fold", no_wrap=one != "fold")
    return table
