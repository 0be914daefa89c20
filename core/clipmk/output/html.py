"""HTML pages: an explanation for notebooks, one self-contained page for a whole run, and the templates they share.

The templates are files in `assets/templates`. All text is escaped, control characters included, unless a template made
it; the content policy of a page forbids loading or running anything.
"""

import base64
import contextlib
import functools
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image

from clipmk.errors import ImageError
from clipmk.output.overlay import heat_overlay, overlay, readable_scale
from clipmk.output.palette import colour_of
from clipmk.output.sentences import mark_note, measures, overlap_sentence, part_names
from clipmk.records import ExplanationRecord, Failure
from clipmk.system.locations import assets_dir
from clipmk.system.text import counted, one_or_many, printable

LONGEST_SIDE: Final = 1024  # pixels: larger pictures are scaled down for the page
MAP_SIDE: Final = 256  # pixels: larger maps are scaled down for the page
LANGUAGE_SHOWN: Final = 10  # how many language concepts that were not seen are listed


def page(sections: Iterable[Markup], *, title: str = "clipmk") -> str:
    """One self-contained HTML file made of `section`s."""
    return render("page.html", sections=sections, title=title)


def fragment(explanation: ExplanationRecord) -> str:
    """One explanation for a notebook cell, its style included."""
    return render("fragment.html", section=section(explanation))


def section(result: ExplanationRecord | Failure) -> Markup:
    """One result: the explanation, or why there is none. A picture that cannot be read is replaced by the reason."""
    made = render("failure.html", failure=result) if isinstance(result, Failure) else _explanation(result)
    return Markup(made)  # noqa: S704 - the templates escaped it


def render(template: str, **context: Any) -> str:
    """Fill in a template of `assets/templates`; in HTML every text that is not `Markup` is escaped."""
    return _environment().get_template(template).render(**context)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(assets_dir() / "templates"),
        autoescape=select_autoescape(disabled_extensions=("txt",), default=True),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = lambda value, digits: f"{value:.{digits}f}"
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    environment.globals.update(colour_of=colour_of, counted=counted, one_or_many=one_or_many)
    environment.globals.update(measures=measures, overlap_sentence=overlap_sentence)
    return environment


def _explanation(explanation: ExplanationRecord) -> str:
    seen, tied = explanation.vision_concepts, explanation.language_concepts
    return render(
        "explanation.html",
        explanation=explanation,
        names=(names := part_names(explanation)),
        unsure=mark_note(names),
        **_picture(explanation),
        maps=_maps(explanation),
        staircase=_staircase(explanation.mutual.curve),
        strongest=max((concept.importance for concept in seen), default=0.0),
        shared=[concept for concept in seen if concept.mutual],
        vision_only=[concept for concept in seen if not concept.mutual],
        language_only=[concept for concept in tied if not concept.mutual],
        language_limit=LANGUAGE_SHOWN,
    )


def _picture(explanation: ExplanationRecord) -> dict[str, str | None]:
    try:
        drawn = overlay(explanation, scale=readable_scale(explanation))
    except ImageError as reason:
        return {"picture": None, "picture_error": str(reason)}
    return {"picture": _inlined(drawn, LONGEST_SIDE), "picture_error": None}


def _maps(explanation: ExplanationRecord) -> dict[str, str]:
    """Text that was asked for -> its map on the picture; only of those that are seen."""
    scale, drawn = readable_scale(explanation), {}
    for one in explanation.asked:
        if one.presence.seen and one.map is not None:
            with contextlib.suppress(ImageError):  # said where the picture would be
                drawn[one.text] = _inlined(heat_overlay(explanation, one.map, scale=scale), MAP_SIDE)
    return drawn


def _inlined(picture: Image.Image, longest: int) -> str:
    picture.thumbnail((longest, longest))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _staircase(curve: Sequence[float]) -> str:
    """SVG path of the dynamics: MI (height) after leaving out the most important concepts (left to right)."""
    top, step = max(curve), 100 / len(curve)
    if top <= 0:
        return ""
    return "".join(f"H{i * step:.2f}V{30 * (1 - value / top):.2f}" for i, value in enumerate(curve))
