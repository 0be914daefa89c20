"""An explanation as HTML: a fragment for notebooks, and one self-contained page for a whole run.

Everything from outside is escaped, and the page forbids itself to load or run anything.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from clipmk.errors import ImageError
from clipmk.output.overlay import overlay, readable_scale
from clipmk.output.palette import colour_of
from clipmk.records import Failure
from clipmk.system.text import printable

if TYPE_CHECKING:
    from clipmk.records import ExplanationRecord, LanguageConcept, Mutual, Part, Prediction, VisionConcept

LONGEST_SIDE = 1024
"""Pixels: larger pictures are scaled down for the page."""

LANGUAGE_SHOWN = 10
"""How many of the language concepts that were not seen are listed."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
.clipmk { font: 14px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto 2rem; }
.clipmk h2, .clipmk h3 { margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
.clipmk h2 { font-size: 1.2rem; } .clipmk h3 { font-size: 1rem; }
.clipmk small { font-weight: normal; opacity: .7; }
.clipmk .sides { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.clipmk .sides > * { flex: 1 1 20rem; min-width: 0; }
.clipmk img { width: 100%; max-width: 32rem; image-rendering: auto; border-radius: 4px; }
.clipmk table { border-collapse: collapse; width: 100%; }
.clipmk td, .clipmk th { padding: .1rem .5rem .1rem 0; text-align: left; overflow-wrap: anywhere; }
.clipmk td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.clipmk td.bar { width: 25%; min-width: 3rem; }
.clipmk td.id { white-space: nowrap; }
.clipmk td.text { min-width: 9rem; }
.clipmk td.parts { text-align: right; }
.clipmk .bar div { height: .7em; background: #0072b2; border-radius: 2px; }
.clipmk .swatch { display: inline-block; width: .8em; height: .8em; border: 1px solid #888; }
.clipmk svg { height: 2.2em; width: 100%; max-width: 20rem; }
.clipmk svg path { fill: #0072b2; opacity: .6; }
.clipmk .error { border-left: 4px solid #d55e00; padding-left: .6rem; }
""".strip()


def page(sections: Sequence[str], *, title: str = "clipmk", style: str = "") -> str:
    """One self-contained HTML file made of `section`s, with more CSS where they need it."""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n"
        f"<style>\n:root {{ color-scheme: light dark; }}\nbody {{ margin: 1rem; }}\n{_STYLE}\n{style}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(result: ExplanationRecord | Failure) -> str:
    """One result: what was found, or why nothing was; a picture that is not at hand is told about, not shown."""
    return _failure(result) if isinstance(result, Failure) else _explanation(result)


def fragment(explanation: ExplanationRecord) -> str:
    """One explanation for a notebook cell, its style included."""
    return f"<style>\n{_STYLE}\n</style>\n{_explanation(explanation)}"


def safe(text: str) -> str:
    """Text from outside for a page: no markup, no control characters."""
    return html.escape(printable(text))


def _failure(failure: Failure) -> str:
    return (
        f'<section class="clipmk"><h2>{safe(failure.path)} <small>{safe(failure.model)}</small></h2>\n'
        f'<p class="error">{safe(failure.message)}</p></section>'
    )


def _explanation(explanation: ExplanationRecord) -> str:
    name, model = explanation.image.path or "an image in memory", explanation.model
    about = safe(f"{model.id} · {model.family} · preset {explanation.provenance.settings['preset']}")
    warnings = "".join(f"<li>{safe(warning)}</li>" for warning in explanation.warnings)
    return "\n".join(
        (
            f'<section class="clipmk"><h2>{safe(name)} <small>{about}</small></h2>',
            f'<div class="sides"><div>{_image(explanation)}{_legend(explanation.parts)}</div>',
            f"<div>{_predictions(explanation.predictions)}{_why(explanation.class_name, explanation.mutual)}",
            f"{_concepts(explanation)}</div></div>",
            f"<h3>warnings</h3><ul>{warnings}</ul>" if warnings else "",
            "</section>",
        )
    )


def _image(explanation: ExplanationRecord) -> str:
    try:
        drawn = overlay(explanation, scale=readable_scale(explanation))
    except ImageError as reason:
        return f'<p class="error">{safe(str(reason))}</p>'
    drawn.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    drawn.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="the picture with its parts" src="data:image/png;base64,{data}">'


def _legend(parts: Iterable[Part]) -> str:
    return _table(
        "parts",
        (
            f'<td class="id"><span class="swatch" style="background: rgb{colour_of(part.id)}"></span> {part.id}</td>'
            f"<td>{safe(', '.join(one.text for one in part.descriptors))}</td>"
            f'<td class="number">{100 * part.area:.1f} %</td>'
            for part in parts
        ),
    )


def _predictions(predictions: Iterable[Prediction]) -> str:
    return _table(
        "predictions",
        (
            f'<td class="number">{one.rank}</td><td>{safe(one.class_name)}</td>{_bar(one.probability)}'
            f'<td class="number">{100 * one.probability:.1f} %</td><td class="number">cos {one.cosine:.3f}</td>'
            + ("" if one.independent is None else f'<td class="number">alone {100 * one.independent:.1f} %</td>')
            for one in predictions
        ),
    )


def _why(class_name: str, mutual: Mutual) -> str:
    rows = (
        ("mutual concepts", f"{mutual.count}", f"{mutual.chance.count:.2f}"),
        ("MI", f"{mutual.mi_paper:.2f}", f"{mutual.chance.mi_paper:.2f}"),
        ("AUC", f"{mutual.auc:.2f}", f"{mutual.chance.auc:.2f}"),
    )
    cells = (
        f'<td>{name}</td><td class="number">{value}</td><td class="number">by chance {chance}</td>'
        for name, value, chance in rows
    )
    return (
        _table(f"why “{safe(class_name)}”", cells)
        + f"<p>p = {mutual.p_value:.2g} <small>for this many mutual concepts by chance</small></p>"
        + _curve(mutual.curve)
    )


def _curve(curve: Sequence[float]) -> str:
    """The dynamics as a staircase: MI (height) after leaving out the most important concepts (left to right)."""
    top, step = max(curve), 100 / len(curve)
    if top <= 0:
        return ""
    corners = "".join(f"H{i * step:.2f}V{30 * (1 - value / top):.2f}" for i, value in enumerate(curve))
    return (
        '<svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img">'
        "<title>MI as the most important concepts are left out</title>"
        f'<path d="M0 30{corners}H100V30Z"/></svg>'
        "<p><small>dynamics: MI as the most important concepts are left out, from left to right</small></p>"
    )


def _concepts(explanation: ExplanationRecord) -> str:
    seen, tied = explanation.vision_concepts, explanation.language_concepts
    unseen = [concept for concept in tied if not concept.mutual]
    strongest = max((concept.importance for concept in seen), default=0.0)
    mutual = [concept for concept in seen if concept.mutual]
    only = [concept for concept in seen if not concept.mutual]
    more = f" <small>the nearest {LANGUAGE_SHOWN}</small>" if len(unseen) > LANGUAGE_SHOWN else ""
    return (
        _table(f"∩ mutual ({len(mutual)}) <small>seen, and tied to the class</small>", _seen(mutual, strongest))
        + _table(f"◐ vision only ({len(only)}) <small>seen, but not tied to the class</small>", _seen(only, strongest))
        + _table(f"◑ language only ({len(unseen)}) <small>tied to the class, but not seen</small>{more}", _tied(unseen))
    )


def _seen(concepts: Iterable[VisionConcept], strongest: float) -> Iterable[str]:
    for concept in concepts:
        parts = ", ".join(str(part) for part in concept.parts)
        noun = "part" if len(concept.parts) == 1 else "parts"
        share = concept.importance / strongest if strongest > 0 else 0.0
        yield (
            f'<td class="text">{safe(concept.text)}</td>{_bar(share)}'
            f'<td class="number">{concept.importance:.3f}</td><td class="parts">{noun} {parts}</td>'
        )


def _tied(concepts: Sequence[LanguageConcept]) -> Iterable[str]:
    for concept in concepts[:LANGUAGE_SHOWN]:
        yield f'<td>{safe(concept.text)}</td><td class="number">cos {concept.cosine:.3f}</td>'


def _bar(share: float) -> str:
    return f'<td class="bar"><div style="width: {100 * min(1.0, max(0.0, share)):.1f}%"></div></td>'


def _table(title: str, rows: Iterable[str]) -> str:
    body = "".join(f"<tr>{row}</tr>" for row in rows) or "<tr><td>none</td></tr>"
    return f"<h3>{title}</h3><table>{body}</table>"
