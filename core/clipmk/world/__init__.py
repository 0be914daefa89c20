"""The rendered world: scenes of objects made of named parts, whose true concepts are known."""

from .combinations import typical_descriptors, typical_probabilities
from .export import export
from .sampling import SPLITS
from .scene import Scene, ScenePart, class_names, scene, scenes
from .vocabulary import descriptors

__all__ = [
    "SPLITS",
    "Scene",
    "ScenePart",
    "class_names",
    "descriptors",
    "export",
    "scene",
    "scenes",
    "typical_descriptors",
    "typical_probabilities",
]
