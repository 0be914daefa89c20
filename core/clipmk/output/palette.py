"""The colours of parts, in plain Python, so that pages, pictures and terminals share them."""

from __future__ import annotations

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (135, 0, 240),
    (195, 240, 195),
    (120, 60, 30),
    (75, 75, 90),
    (105, 255, 135),
)
"""sRGB: the seven colours of Okabe and Ito (2008), then five, each as far as possible from all before it.

Any two are at least 16 apart (CIE Lab), with normal vision and with each kind of dichromacy (Machado et al. 2009).
"""


def colour_of(part_id: int) -> tuple[int, int, int]:
    """The colour (sRGB) of a part by its 1-based id; they repeat after twelve."""
    return PALETTE[(part_id - 1) % len(PALETTE)]
