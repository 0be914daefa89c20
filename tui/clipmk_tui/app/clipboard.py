"""What `y` copies: plain text, on one line where possible, without control characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipmk.output.sentences import measures, overlap_sentence
from clipmk.system.text import printable
from clipmk_tui.app.concept_rows import AskedRow, ConceptRow, PartRow, asked_words
from clipmk_tui.show.signs import SIGN, WORD

if TYPE_CHECKING:
    from textual.widget import Widget

    from clipmk.explanation import Explanation
    from clipmk.records import Prediction
    from clipmk_tui.app.panes import Panes


def prediction_text(prediction: Prediction) -> str:
    """``fox 71.2 %``."""
    return f"{printable(prediction.class_name)} {100 * prediction.probability:.1f} %"


def summary(explanation: Explanation) -> str:
    """A few lines about an explanation: image, model, class, probability, every number, the mutual concepts."""
    mutual = explanation.mutual
    asked = next((p for p in explanation.predictions if p.class_name == explanation.class_name), None)
    chance = f"{100 * asked.probability:.1f} %, rank {asked.rank}" if asked is not None else "not among the first"
    concepts = [printable(text) for text in explanation.mutual_concepts]
    preset, name = explanation.provenance.settings["preset"], explanation.image.path or "an image in memory"
    return "\n".join(
        (
            f"{printable(name)} · {printable(explanation.model.id)} · preset {preset}",
            f"{printable(explanation.class_name)}: {chance}",
            overlap_sentence(mutual, explanation.class_name),
            *(f"{one.name} {one.value}  {one.note}" for one in measures(mutual, everything=True)),
            f"{SIGN['mutual']} {WORD['mutual']} ({mutual.count}): {', '.join(concepts) or 'none'}",
        )
    )


def text_of(panes: Panes, focused: Widget | None) -> str | None:
    """What the cursor of the focused pane is on; elsewhere a summary of the explanation."""
    state, explanation = panes.state, panes.state.explanation
    if focused is panes.image and state.item is not None:
        return printable(state.item.path)
    if focused is panes.models.list and panes.models.list.entry is not None:
        return printable(panes.models.list.entry.id)
    if focused is panes.predictions and explanation is not None:
        chosen = [one for one in state.reranked or explanation.predictions if one.class_name == explanation.class_name]
        return prediction_text(chosen[0]) if chosen else printable(explanation.class_name)
    row = panes.concepts.concept_tree.row if focused is panes.concepts.concept_tree else None
    if isinstance(row, AskedRow) and row.answer is not None:
        return f"{printable(row.text)}: {'; '.join(asked_words(row.answer))}"
    if isinstance(row, ConceptRow | PartRow | AskedRow):
        return printable(row.text)
    return None if explanation is None else summary(explanation)
