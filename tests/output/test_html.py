from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

import samples
from clipmk.output.html import fragment, page, section
from clipmk.output.sentences import UNSURE
from clipmk.records import Failure

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">&\x1b[31m\u202e'


class _Page(HTMLParser):
    """Tags, attributes and text of a page; unbalanced tags are an error."""

    VOID = frozenset({"meta", "img", "br", "path"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_self_contained_and_forbids_everything_else() -> None:
    html = page([section(samples.explanation(with_picture=True))])
    parsed = _Page(html)
    assert set(parsed.tags) & {"script", "link", "iframe", "object"} == set()
    assert "default-src 'none'; img-src data:" in html
    for name, value in parsed.attributes:
        assert not name.startswith("on")
        assert name not in {"src", "href"} or str(value).startswith("data:image/png;base64,")


def test_page_shows_prediction_concepts_parts_and_why() -> None:
    text = _Page(page([section(samples.explanation(with_picture=True, independent=0.4))])).text
    for expected in (
        *("fox_03.png", "embedded/vit-s8", "71.2 %", "cos 0.310", "alone 40.0 %", "pointed ears", "a bushy tail"),
        *("a white chest", "parts 1, 2", "3.69", "class swap p0.034", "by chance 0.90", "16.0 %"),
        *("only its first frame", "2 of 4 seen concepts are tied to 'fox'; more than to any of 28 other classes"),
        *(
            "preset default",
            "mutual (2)",
            "influence: + for “fox”, - for “cat”",
            "+0.031",
            "-0.012",
            "+0.003",
            "recover 62 %",
        ),
    ):
        assert expected in text
    hardly = dataclasses.replace(samples.explanation(), share_explained=-0.003)
    assert "recover 0 %" in _Page(page([section(hardly)])).text


def test_a_name_that_fits_another_part_better_is_marked_and_the_mark_explained() -> None:
    made = samples.explanation()
    assert UNSURE not in _Page(page([section(made)])).text
    unseen = dataclasses.replace(made, vision_concepts=())
    text = _Page(page([section(unseen)])).text
    assert UNSURE in text
    assert f"? {made.parts[0].descriptors[0].text}, {made.parts[0].descriptors[1].text}" in text


def test_text_from_outside_stays_text() -> None:
    explanation = samples.explanation(path=EVIL, class_name=EVIL, descriptor=EVIL, with_picture=True)
    failure = Failure(path=EVIL, model=EVIL, code="image", message=EVIL, exit_status=3)
    parsed = _Page(page([section(explanation), section(failure)], title=EVIL))
    assert parsed.text.count("<script>alert(1)</script>") >= 8
    assert parsed.tags.count("img") == 1
    assert not set(parsed.text) & set("\x1b\u202e")


def test_picture_is_embedded_with_its_parts() -> None:
    explanation = samples.explanation(with_picture=True)
    data = re.search(r'src="data:image/png;base64,([^"]+)"', fragment(explanation))
    assert data is not None
    shown = Image.open(io.BytesIO(base64.b64decode(data[1])))
    assert shown.size == (420, 280)
    assert shown.tobytes() == explanation.overlay(scale=7).tobytes()


def test_fragment_without_picture_says_why_and_shows_the_rest() -> None:
    html = samples.explanation(path=None)._repr_html_()
    assert "<img" not in html
    assert "carries no picture" in html
    assert "pointed ears" in html


def test_curve_falls_from_the_top_left_to_the_bottom_right() -> None:
    path = re.search(r'<path d="([^"]+)"', section(samples.explanation()))
    assert path is not None
    heights = [float(height) for height in re.findall(r"V([\d.]+)", path[1])]
    assert heights[0] == 0
    assert heights == sorted(heights)
    assert heights[3:] == [30.0, 30.0, 30.0]


def test_curve_is_left_out_where_nothing_is_mutual() -> None:
    explanation = samples.explanation()
    nothing = dataclasses.replace(explanation.mutual, curve=(0.0,) * len(explanation.mutual.curve))
    html = section(dataclasses.replace(explanation, mutual=nothing))
    assert "<svg" not in html
    assert "dynamics" not in html
    assert "dynamics" in section(explanation)


@pytest.mark.parametrize("share", [-1.0, 0.0, 2.0])
def test_bars_never_leave_their_cell(share: float) -> None:
    explanation = samples.explanation()
    concepts = tuple(dataclasses.replace(c, importance=share) for c in explanation.vision_concepts)
    html = section(dataclasses.replace(explanation, vision_concepts=concepts))
    assert all(0 <= float(width) <= 100 for width in re.findall(r"width: ([-\d.]+)%", html))
