"""The rendered world: scenes of objects made of named parts, whose true concepts are known."""

from clipmk.world.combinations import typical_descriptors, typical_probabilities
from clipmk.world.export import export
from clipmk.world.sampling import SPLITS
from clipmk.world.scene import Scene, ScenePart, class_names, scene, scenes
from clipmk.world.vocabulary import descriptors

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
