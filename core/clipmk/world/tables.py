"""The classes: for each, a table of its parts. Adding a class is adding ten lines to a table.

Coordinates are object coordinates: x to the right and y down, the object about 0.9 wide around (0, 0), its front to
the left. Parts are painted in table order, so what lies behind comes first. Exactly one part of a class has the role
"body": it carries the others and is never taken away.
"""

from __future__ import annotations

from typing import Final

from clipmk.world.living import ANIMALS, PLANTS
from clipmk.world.made import BUILDINGS, VEHICLES
from clipmk.world.records import Part
from clipmk.world.things import FOOD, THINGS

CLASSES: Final[dict[str, tuple[Part, ...]]] = {**ANIMALS, **VEHICLES, **PLANTS, **BUILDINGS, **FOOD, **THINGS}
"""Every class with its parts in painting order. The order of classes is part of what a seed means."""
