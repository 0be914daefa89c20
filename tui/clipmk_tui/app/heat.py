"""The map of what was asked for over the picture: light and colour, its highest point, and the lines of its legend.

Needs numpy: imported with the first picture.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from clipmk.images.masks import heat_grid
from clipmk.system.text import printable
from clipmk_tui.app.canvas import Canvas, Frame, framed, greyed
from clipmk_tui.app.legend import share_text

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.records import Asked, RelevanceMap
    from clipmk_tui.app.canvas import Depth, Pixels

_COLOURS: Final = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Of a map (sRGB) from 0 to its highest value, in equal steps: matplotlib's inferno."""
_SCALE: Final = "▁▂▃▄▅▆▇█"  # heights say what the colours say
_COLD: Final = 0.3  # brightness of the picture where the map is 0; where it is highest, the picture keeps its own
_OPACITY = 0.6  # of the colours where the map is highest
_PLACES: Final = ("upper left", "top", "upper right", "left", "centre", "right", "lower left", "bottom", "lower right")


class Heat:
    """A map at one size of the picture; of what is not seen in light and dark alone: it is nowhere hot."""

    def __init__(self, asked: Asked, relevance: RelevanceMap, canvas: Canvas) -> None:
        self.asked, self.relevance, self._canvas = asked, relevance, canvas

    @cached_property
    def share(self) -> Float[np.ndarray, "height width"]:
        """Of the highest value; 0 where the model does not look."""
        from PIL import Image  # noqa: PLC0415 - not until there is a map

        grid, (left, top, right, bottom) = heat_grid(self.relevance), self.relevance.bbox_xyxy
        info, (width, height) = self._canvas.picture.info, self._canvas.size
        across, down = grid.shape[1] / (right - left), grid.shape[0] / (bottom - top)
        cells = (across * info.width / width, 0, -left * across, 0, down * info.height / height, -top * down)
        image = Image.fromarray(grid / max(float(grid.max()), 1e-30))
        drawn = image.transform((width, height), Image.Transform.AFFINE, cells, Image.Resampling.BILINEAR)
        return np.asarray(drawn).clip(0, 1)

    @property
    def peak(self) -> tuple[int, int]:
        """(y, x) of the highest pixel."""
        y, x = divmod(int(self.share.argmax()), self.share.shape[1])
        return y, x

    def frame(self, depth: Depth) -> Frame:
        """The picture under the map as half-blocks, and a sign where it is highest."""
        y, x = self.peak
        return framed(self.pixels(), {(y // 2, x): ("+", (255, 255, 255))}, depth)

    def pixels(self) -> Pixels:
        """The picture, bright and in the colours of the scale where the map is high, dark and grey elsewhere."""
        share, steps = self.share[..., None], np.linspace(0, 1, len(_COLOURS))
        colours = np.stack([np.interp(self.share, steps, one) for one in zip(*_COLOURS, strict=True)], axis=-1)
        opacity = _OPACITY * np.sqrt(share) * self.asked.presence.seen
        cells = (1 - opacity) * greyed(self._canvas.plain) * (_COLD + (1 - _COLD) * share) + opacity * colours
        return np.asarray(cells.clip(0, 255), dtype=np.uint8)

    def legend(self, *, width: int, height: int) -> list[tuple[int | None, Text]]:
        """Of what it is, its scale, where it is highest, how much of the picture has half of that."""
        (y, x), (rows, columns) = self.peak, self.share.shape
        scale, seen = Text("0 "), self.asked.presence.seen
        for step, block in enumerate(_SCALE):
            colour = _COLOURS[max(1, step * (len(_COLOURS) - 1) // (len(_SCALE) - 1))]
            scale.append(block, "#{:02x}{:02x}{:02x}".format(*colour) if seen else "")
        lines = [
            Text(f'map of "{printable(self.asked.text)}"', "bold"),
            *([] if seen else [Text("not seen: the best fit only")]),
            scale.append(f" {self.relevance.scale:.1g}"),
            Text(f"+ highest: {_PLACES[3 * (3 * y // rows) + 3 * x // columns]}"),
            Text(f"half of that: {share_text(float((self.share >= 0.5).mean()))} of picture"),
        ]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return [(None, line) for line in lines[:height]]
