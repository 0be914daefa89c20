"""What `y` copies: plain text, one line where it can be, without control characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipmk.system.text import printable
from clipmk_tui.app.concept_rows import ConceptRow, PartRow
from clipmk_tui.show.signs import SIGN, WORD

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.records import Prediction
    from clipmk_tui.app.screens.main import MainScreen


def concept_text(text: str) -> str:
    """A concept or descriptor, ready to be searched for."""
    return printable(text)


def prediction_text(prediction: Prediction) -> str:
    """``fox 71.2 %``."""
    return f"{printable(prediction.class_name)} {100 * prediction.probability:.1f} %"


def model_text(model: str) -> str:
    """A model's id, ready for `-m`."""
    return printable(model)


def image_text(path: str) -> str:
    """An image's path; bytes that are no text, and control characters, are escaped."""
    return printable(path)


def summary(explanation: Explanation) -> str:
    """A few lines about an explanation: image, model, class, probability, MI, AUC, p, the mutual concepts."""
    mutual = explanation.mutual
    asked = next((p for p in explanation.predictions if p.class_name == explanation.class_name), None)
    chance = f"{100 * asked.probability:.1f} %, rank {asked.rank}" if asked is not None else "not among the first"
    concepts = [printable(text) for text in explanation.mutual_concepts]
    preset, name = explanation.provenance.settings["preset"], explanation.image.path or "an image in memory"
    return "\n".join(
        (
            f"{printable(name)} · {printable(explanation.model.id)} · preset {preset}",
            f"{printable(explanation.class_name)}: {chance}",
            (
                f"MI {mutual.mi_paper:.2f} (chance {mutual.chance.mi_paper:.2f})  "
                f"AUC {mutual.auc:.2f} (chance {mutual.chance.auc:.2f})  p {mutual.p_value:.2g}"
            ),
            f"{SIGN['mutual']} {WORD['mutual']} ({mutual.count}): {', '.join(concepts) or 'none'}",
        )
    )


def text_of(screen: MainScreen) -> str | None:
    """What the cursor of the focused pane stands on; the whole explanation where it stands on no single thing."""
    desk, focused = screen.desk, screen.focused
    explanation = desk.explanation
    pane = next((node.id for node in focused.ancestors_with_self if node.id in _PANES), None) if focused else None
    if pane == "image" and desk.item is not None:
        return image_text(desk.item.path)
    if pane == "models" and screen.models.list.entry is not None:
        return model_text(screen.models.list.entry.id)
    if pane == "predictions" and explanation is not None:
        chosen = [one for one in desk.reranked or explanation.predictions if one.class_name == explanation.class_name]
        return prediction_text(chosen[0]) if chosen else printable(explanation.class_name)
    row = screen.concepts.concept_tree.row if pane == "concepts" else None
    if isinstance(row, ConceptRow):
        return concept_text(row.text)
    if isinstance(row, PartRow):
        return concept_text(row.concept)
    return None if explanation is None else summary(explanation)


_PANES = frozenset({"image", "models", "predictions", "concepts"})
