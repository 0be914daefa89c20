"""The colours of parts, in plain Python, so that pages, pictures and terminals share them.

`assets/palette.json` holds sRGB: the seven colours of Okabe and Ito (2008), then five, each as far as possible from all
before it. Any two are at least 16 apart (CIE Lab), with normal vision and any dichromacy (Machado et al. 2009).
"""

from clipmk.system.locations import json_asset


def colour_of(part_id: int) -> tuple[int, int, int]:
    """The colour (sRGB) of a part by its 1-based id; they repeat after twelve."""
    colours = json_asset("palette.json")
    red, green, blue = colours[(part_id - 1) % len(colours)]
    return red, green, blue
