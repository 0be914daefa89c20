"""Planning a scene: which parts it shows, with which looks, seen how. Nothing here knows about pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Final, TypeVar

from clipmk.world.combinations import atypical_looks, body_of, removals, replacements, reweighted, typical_anywhere
from clipmk.world.conditions import Conditions, Cue, conditions_of
from clipmk.world.tables import Box, Look, Part, class_names, classes, grammar

T = TypeVar("T")

RARE_LOOK: Final = 6.0
"""Weight in training of a look that no class usually shows, so that every descriptor is learnt."""
FEWEST_PARTS: Final = 2  # parts that must remain when parts are removed without a replacement
REPEATED_COLOUR: Final = 0.15
"""Weight of an unusual look whose colour the scene already has, relative to a new colour."""


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """A part that will be painted, in object coordinates."""

    part: Part
    look: Look
    boxes: tuple[Box, ...]

    @property
    def descriptor(self) -> str:
        """What the vocabulary calls the part."""
        return grammar()[self.part.noun].phrase(self.look)


@dataclass(frozen=True, slots=True)
class Camera:
    """How the object is seen: image = 0.5 + shift + scale * turn(flip(stretch(object))), in sides of the image."""

    scale: float
    stretch: float
    """Width times this, height divided by it."""
    degrees: float
    shift: tuple[float, float]
    flip: bool
    target: int | None
    """Index of the placed part in the middle of a close-up; None for the whole object."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a scene that a caption could say."""

    class_name: str
    kind: str
    placed: tuple[PlacedPart, ...]
    missing: tuple[str, ...]
    """Parts (nouns) that every typical scene of the class has and this one does not."""
    camera: Camera


def weighted_choice(rng: Random, items: Sequence[tuple[T, float]]) -> T:
    """One item, with probability proportional to its weight."""
    values, weights = zip(*items, strict=True)
    chosen: T = rng.choices(values, weights)[0]
    return chosen


@cache
def _round_of_classes(seed: int, split: str, number: int) -> tuple[str, ...]:
    """Every class once, in an order of its own for each round."""
    rng = Random(f"classes|{seed}|{split}|{number}")  # noqa: S311 -- pictures, not secrets
    return tuple(sorted(classes(), key=lambda _: rng.random()))


def class_at(split: str, index: int, seed: int) -> str:
    """Class of the scene: every run of as many scenes as there are classes shows each class once."""
    number, place = divmod(index, len(classes()))
    return _round_of_classes(seed, split, number)[place]


def plan_scene(split: str, index: int, *, seed: int) -> tuple[Plan, Random]:
    """Plan of the scene, and its generator, which then draws light and background."""
    name, conditions = class_at(split, index, seed), conditions_of(split)
    rng = Random(f"scene|{seed}|{split}|{index}|{name}")  # noqa: S311 -- pictures, not secrets
    scene = _typical(rng, name)
    if conditions.departs.draw(rng):
        depart = _departing_strongly if conditions.strong.draw(rng) else _departing
        scene = depart(rng, scene, conditions.partition)
    if conditions.cue is not None:
        scene = _with_cue(rng, scene, conditions.cue)
    close = conditions.close_ups.draw(rng)
    return replace(scene, camera=_camera(rng, scene, conditions, close=close)), rng


def _typical(rng: Random, name: str) -> Plan:
    """An ordinary scene: usual parts with usual looks."""
    body = body_of(name)
    body_look = weighted_choice(rng, body.looks)
    placed = []
    for part in classes()[name]:
        look = body_look if part is body else weighted_choice(rng, reweighted(part, body_look.colour))
        if rng.random() < part.chance:
            placed.append(PlacedPart(part, look, part.boxes))
    return Plan(name, "typical", tuple(placed), (), Camera(1.0, 1.0, 0.0, (0.0, 0.0), flip=False, target=None))


def _with_cue(rng: Random, scene: Plan, cue: Cue) -> Plan:
    """The scene with the cue in front, or without it, or, in its own class, with another look of the part."""
    part, look = next(one for one in classes()[cue.class_name] if one.noun == cue.noun), Look(*cue.look.split())
    if scene.class_name == cue.class_name:
        looks = [(other, weight) for other, weight in part.looks if other != look]
        placed = [replace(one, look=weighted_choice(rng, looks)) if one.part is part else one for one in scene.placed]
        return replace(scene, placed=tuple(placed))
    if not cue.others.draw(rng):
        return scene
    names = ("x", "y", "width", "height")
    boxes = [replace(box, **{name: cue.size * getattr(box, name) for name in names}) for box in part.boxes]
    return replace(scene, kind="planted", placed=(*scene.placed, PlacedPart(part, look, tuple(boxes))))


def _departing(rng: Random, scene: Plan, partition: str) -> Plan:
    """One to three departures from type, from the partition."""
    kind = weighted_choice(rng, (("recoloured", 0.4), ("missing", 0.12), ("swapped", 0.48)))
    changed = scene
    if kind != "recoloured":
        changed = _remove_parts(rng, changed, partition, most=2, kind=kind)
    if kind == "recoloured" or rng.random() < 0.5 or changed == scene:
        changed = _recolour(rng, changed, partition, count=1 + int(2.9 * rng.random()))
    return changed


def _departing_strongly(rng: Random, scene: Plan, partition: str) -> Plan:
    """Two strong departures from type or more, from the partition."""
    kind = weighted_choice(rng, (("recoloured", 0.3), ("missing", 0.15), ("swapped", 0.3), ("chimera", 0.25)))
    changed = scene
    if kind != "recoloured":
        most = (len(classes()[scene.class_name]) + 1) // 2 if kind == "chimera" else 2
        changed = _remove_parts(rng, changed, partition, most=most, kind=kind)
    own = sum(placed.part in classes()[scene.class_name] for placed in changed.placed)
    foreign = len(changed.placed) - own
    wanted = round((0.6 + 0.35 * rng.random()) * len(changed.placed)) - foreign
    return _recolour(rng, changed, partition, count=min(own, max(wanted, 1 if foreign else 2)))


def _recolour(rng: Random, scene: Plan, partition: str, *, count: int) -> Plan:
    """Give `count` of the class's own parts a look against type."""
    name = scene.class_name
    own = [
        k
        for k, placed in enumerate(scene.placed)
        if placed.part in classes()[name] and atypical_looks(name, placed.part.noun, partition)
    ]
    chosen = set(sorted(own, key=lambda _: rng.random())[:count])
    placed = list(scene.placed)
    for k in sorted(chosen):
        usual = {look.colour for look, _ in placed[k].part.looks}
        colours = {other.look.colour for other in placed}
        looks = _unusual(name, placed[k].part.noun, partition, colours)
        weights = [(look, weight * (0.3 if look.colour in usual else 1.0)) for look, weight in looks]
        placed[k] = replace(placed[k], look=weighted_choice(rng, weights))
    kind = "recoloured" if chosen and scene.kind == "typical" else scene.kind
    return replace(scene, kind=kind, placed=tuple(placed))


def _remove_parts(rng: Random, scene: Plan, partition: str, *, most: int, kind: str) -> Plan:
    """Remove parts; for swaps and chimeras, put parts of other classes in their places."""
    name = scene.class_name
    choices = removals(name, partition, most, only_missing=kind == "missing")
    size = most if kind == "chimera" else 1 + int(2 * rng.random())
    shown = {placed.part.noun for placed in scene.placed}
    choices = tuple(nouns for nouns in choices if kind != "missing" or len(shown.difference(nouns)) >= FEWEST_PARTS)
    if not choices:
        return scene
    fitting = [nouns for nouns in choices if len(nouns) == size] or choices
    nouns = rng.choices(fitting)[0]
    donor = _donor_class(rng, name, nouns) if kind == "chimera" else None
    placed: list[PlacedPart] = []
    for part in classes()[name]:
        kept = next((old for old in scene.placed if old.part is part), None)
        if part.noun not in nouns:
            new = kept
        else:
            new = None if kind == "missing" else _foreign(rng, name, part, partition, donor, placed)
        if new is not None:
            placed.append(new)
    missing = tuple(part.noun for part in classes()[name] if part.noun in nouns and part.chance == 1.0)
    return replace(scene, kind=kind, placed=tuple(placed), missing=missing)


def _donor_class(rng: Random, name: str, nouns: tuple[str, ...]) -> str:
    """Class that can fill the most of the places left, among six drawn at random."""
    roles = {part.role for part in classes()[name] if part.noun in nouns}
    some = rng.choices(class_names(), k=6)

    def fills(donor: str) -> int:
        pairs = (pair for role in roles for pairs in replacements(name, role).values() for pair in pairs)
        return len({part.noun for source, part in pairs if source == donor})

    return max(some, key=fills)


def _foreign(
    rng: Random, name: str, place: Part, partition: str, donor: str | None, placed: Sequence[PlacedPart]
) -> PlacedPart | None:
    """A part of another class in the place of a removed one; None if nothing fits."""
    taken = {other.part.noun for other in placed}
    able = {
        noun: pairs
        for noun, pairs in replacements(name, place.role).items()
        if noun not in taken and atypical_looks(name, noun, partition)
    }
    if not able:
        return None
    given = [part for pairs in able.values() for source, part in pairs if source == donor]
    part = rng.choices(given or [part for _, part in able[rng.choices(tuple(able))[0]]])[0]
    colours = {other.look.colour for other in placed}
    return PlacedPart(part, weighted_choice(rng, _unusual(name, part.noun, partition, colours)), _moved(part, place))


def _unusual(name: str, noun: str, partition: str, colours: set[str]) -> list[tuple[Look, float]]:
    """Looks against type with weights: fresh colours first, and in training what no class usually shows."""
    rare = RARE_LOOK if partition == "train" else 1.0
    kind, usual = grammar()[noun], typical_anywhere()
    return [
        (look, (REPEATED_COLOUR if look.colour in colours else 1.0) * (1.0 if kind.phrase(look) in usual else rare))
        for look in atypical_looks(name, noun, partition)
    ]


def _extent(boxes: Sequence[Box]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all boxes, ignoring their angles."""
    return (
        min(box.x - abs(box.width) / 2 for box in boxes),
        min(box.y - box.height / 2 for box in boxes),
        max(box.x + abs(box.width) / 2 for box in boxes),
        max(box.y + box.height / 2 for box in boxes),
    )


_ANCHORS: Final = {"top": (0.5, 1.0), "bottom": (0.5, 0.0), "front": (1.0, 0.5), "back": (0.0, 0.5)}
"""Where a part is attached, as a share of its extent; the middle for other roles."""


@cache
def _moved(part: Part, place: Part) -> tuple[Box, ...]:
    """The boxes of a part, moved and scaled to where another part was attached."""
    x0, y0, x1, y1 = _extent(part.boxes)
    u0, v0, u1, v1 = _extent(place.boxes)
    size = ((u1 - u0) * (v1 - v0) / ((x1 - x0) * (y1 - y0))) ** 0.5
    size = min(max(size, 0.5 if part.role == "body" else 0.75), 1.6)
    along, down = _ANCHORS.get(place.role, (0.5, 0.5))
    x, y = x0 + along * (x1 - x0), y0 + down * (y1 - y0)
    u, v = u0 + along * (u1 - u0), v0 + down * (v1 - v0)

    def moved(box: Box) -> Box:
        left, top = u + size * (box.x - x), v + size * (box.y - y)
        return replace(box, x=left, y=top, width=size * box.width, height=size * box.height)

    return tuple(map(moved, part.boxes))


def _camera(rng: Random, scene: Plan, conditions: Conditions, *, close: bool) -> Camera:
    """A view of the whole object, or a close-up of one of its parts."""
    scale = conditions.scale.draw(rng)
    stretch = conditions.stretch.draw(rng)
    degrees = conditions.degrees.draw(rng)
    room = max(0.03, 0.5 - 0.44 * scale)
    shift = (room * (2 * rng.random() - 1), room * (2 * rng.random() - 1))
    flip = rng.random() < 0.5
    zoom, target = conditions.zoom.draw(rng), int(rng.random() * len(scene.placed))
    if close:
        return Camera(zoom, stretch, degrees, (0.4 * shift[0], 0.4 * shift[1]), flip, target)
    return Camera(scale, stretch, degrees, shift, flip, None)
