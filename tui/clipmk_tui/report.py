"""An explanation for people to read: predictions, why, and the concepts behind it. Reads the record, computes nothing.

Colour is never the only carrier: parts have numbers, concepts have signs, and without colour everything still reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.palette import colour_of
from clipmk.text import quoted
from clipmk_tui.bars import bar, sparkline
from clipmk_tui.texts import shown

if TYPE_CHECKING:
    from clipmk.records import Explanation, LanguageConcept, Part, Prediction, SoftPair, VisionConcept

LANGUAGE_SHOWN = 5
"""How many language concepts that were not seen are listed, unless everything is asked for."""
VISION_SHOWN = 8
"""The same for vision concepts that are not mutual."""

MUTUAL, VISION, LANGUAGE = "green", "cyan", "magenta"
_DIM = "dim"
_BAR = 12


def report(
    explanation: Explanation, *, width: int, everything: bool = False, picture: Sequence[Text] = ()
) -> RenderableType:
    """Lay an explanation out.

    Args:
        explanation: what to show.
        width: columns at hand.
        everything: list all concepts and how the result was made.
        picture: lines of equal length to show beside the predictions.
    """
    beside = Group(_predictions(explanation), Text(), _parts(explanation.parts, everything=everything))
    top: RenderableType = beside
    if picture and width - picture[0].cell_len >= 44:
        top = _columns(Group(*picture), beside, width=picture[0].cell_len)
    elif picture:
        top = Group(*picture, Text(), beside)
    pieces = [_header(explanation, width), Text(), top, Text(), _why(explanation), *_concepts(explanation, everything)]
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


def _predictions(explanation: Explanation) -> RenderableType:
    table = _table()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for one in explanation.predictions:
        chosen = one.class_name == explanation.class_name
        table.add_row(
            str(one.rank),
            shown(one.class_name, "bold" if chosen else ""),
            Text(bar(one.probability, _BAR), MUTUAL if chosen else VISION),
            f"{100 * one.probability:.1f} %",
            _cosine(one),
        )
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
        table.add_row(Text.assemble(("■", swatch), f" {part.id}"), shown(", ".join(words)), f"{100 * part.area:.1f} %")
    if not parts:
        table.add_row("none", "", "")
    return Group(_title("parts", "share of the picture"), table)


def _why(explanation: Explanation) -> RenderableType:
    mutual = explanation.mutual
    table = _table()
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    count = f"by chance {mutual.chance.count:.2f}, p = {mutual.p_value:.2g}"
    table.add_row("mutual concepts", str(mutual.count), Text(count, _DIM))
    table.add_row("MI", f"{mutual.mi_paper:.2f}", Text(f"by chance {mutual.chance.mi_paper:.2f}", _DIM))
    table.add_row("AUC", f"{mutual.auc:.2f}", Text(f"by chance {mutual.chance.auc:.2f}", _DIM))
    curve = Text.assemble(
        " dynamics  ", (sparkline(mutual.curve), MUTUAL), ("  MI, the most important concepts left out", _DIM)
    )
    return Group(_title(f"why {quoted(explanation.class_name)}"), table, curve)


def _concepts(explanation: Explanation, everything: bool) -> Iterable[RenderableType]:
    seen = explanation.vision_concepts
    strongest = max((concept.importance for concept in seen), default=0.0)
    mutual = [concept for concept in seen if concept.mutual]
    others = [concept for concept in seen if not concept.mutual]
    unseen = [concept for concept in explanation.language_concepts if not concept.mutual]
    name = quoted(explanation.class_name)
    yield Text()
    yield _title(f"∩ mutual ({len(mutual)})", f"seen, and tied to {name}", MUTUAL)
    yield _seen(mutual, "●", MUTUAL, strongest, most=None)
    yield Text()
    yield _title(f"◐ vision only ({len(others)})", f"seen, but not tied to {name}", VISION)
    yield _seen(others, "◐", VISION, strongest, most=None if everything else VISION_SHOWN)
    yield Text()
    yield _title(f"◑ language only ({len(unseen)})", f"tied to {name}, but not seen", LANGUAGE)
    yield _tied(unseen, most=None if everything else LANGUAGE_SHOWN)
    if explanation.mutual.soft:
        yield Text()
        yield _title(f"≈ nearly mutual ({len(explanation.mutual.soft)})", "seen and tied in different words")
        yield _nearly(explanation.mutual.soft)


def _seen(
    concepts: Sequence[VisionConcept], sign: str, style: str, strongest: float, *, most: int | None
) -> RenderableType:
    table = _table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", min_width=24)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for concept in concepts[:most]:
        share = concept.importance / strongest if strongest > 0 else 0.0
        numbers = " ".join(str(part) for part in concept.parts)
        table.add_row(
            Text(sign, style),
            shown(concept.text),
            Text(bar(share, _BAR), style),
            f"{concept.importance:.3f}",
            Text(f"part{'s' if len(concept.parts) > 1 else ''} {numbers}", _DIM),
        )
    return _listed(table, len(concepts), most)


def _tied(concepts: Sequence[LanguageConcept], *, most: int | None) -> RenderableType:
    table = _table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", min_width=24)
    table.add_column(justify="right", no_wrap=True)
    for concept in concepts[:most]:
        table.add_row(Text("◑", LANGUAGE), shown(concept.text), Text(f"cos {concept.cosine:.3f}", _DIM))
    return _listed(table, len(concepts), most)


def _nearly(pairs: Sequence[SoftPair]) -> RenderableType:
    table = _table()
    for pair in pairs:
        table.add_row("≈", shown(pair.vision), shown(pair.language), Text(f"cos {pair.cosine:.3f}", _DIM))
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


def _table() -> Table:
    return Table.grid(padding=(0, 1), pad_edge=True)


def _columns(left: RenderableType, right: RenderableType, *, width: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=width, no_wrap=True)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table
