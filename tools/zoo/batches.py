"""Batches: pictures with captions, and which caption is true of which picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from zoo import captions
from zoo.captions import Caption
from zoo.data import SIZE, Scenes, crop, draw_prompt, jitter, resized, soften
from zoo.recipes import Recipe

Names = tuple[tuple[str, ...], tuple[str, ...]]
"""Classes and descriptors."""


@dataclass(frozen=True, slots=True)
class Block:
    """Captions of one kind, and what is known of them."""

    texts: list[str]
    """T different captions."""
    rows: npt.NDArray[np.int64]
    """(R,) images of the batch that take part."""
    true: npt.NDArray[np.bool_]
    """(R, T) which caption is true of which of these images; every column or row may be empty."""
    known: npt.NDArray[np.bool_]
    """(R, T) where that is known at all."""
    weight: float
    """Share in the loss."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's images and captions."""

    images: npt.NDArray[np.uint8]
    """(B, S, S, 3), S pixels wide."""
    blocks: tuple[Block, ...]


def draw_batch(rng: np.random.Generator, scenes: Scenes, names: Names, recipe: Recipe, side: int) -> Batch:
    """Draw one step's images, `side` pixels wide, and their captions, as the recipe says."""
    draw = _every_caption if recipe.every_descriptor else _few_captions
    return draw(rng, scenes, names, recipe, side)


def _few_captions(rng: np.random.Generator, scenes: Scenes, names: Names, recipe: Recipe, side: int) -> Batch:
    """Draw images, mark a few with prompts, caption each at least once, fill up with second captions."""
    rows = np.sort(rng.choice(len(scenes.class_ids), size=recipe.batch, replace=False))
    images = jitter(rng, np.asarray(scenes.images[rows]))
    class_ids, shows = np.array(scenes.class_ids[rows]), scenes.shows(rows, len(names[1]))
    if images.shape[1] > SIZE:
        images = soften(rng, images)
    prompted = rng.random(recipe.batch) < recipe.prompted
    drawn: dict[str, Caption] = {}
    for i, row in enumerate(rows):
        parts = np.flatnonzero(scenes.part_ids[row] >= 0)
        if prompted[i] and len(parts):
            part = rng.choice(parts)
            images[i] = draw_prompt(rng, images[i], scenes.boxes[row, part])
            class_ids[i], shows[i] = -1, False
            shows[i, scenes.part_ids[row, part]] = True
            one = captions.describe(rng, names[1], int(scenes.part_ids[row, part]))
        else:
            one = captions.caption(rng, names, int(class_ids[i]), scenes.part_ids[row][parts])
        drawn[one.text] = one
    for i in rng.permutation(recipe.batch):
        if len(drawn) >= recipe.texts:
            break
        if class_ids[i] >= 0:
            one = captions.caption(rng, names, int(class_ids[i]), np.flatnonzero(shows[i]))
            drawn[one.text] = one
    chosen = list(drawn.values())
    true = captions.truth(chosen, class_ids, shows)
    return Batch(resized(images, side), (Block(list(drawn), np.arange(recipe.batch), true, np.ones_like(true), 1.0),))


def _every_caption(rng: np.random.Generator, scenes: Scenes, names: Names, recipe: Recipe, side: int) -> Batch:
    """Draw images, mark a few with prompts, show a few in grey; every class and descriptor is true or false of each.

    This teaches parts far faster than a few captions per image: every wrong noun, colour and texture is a negative. Of
    the descriptors that no image shows, half are drawn. Images without colours take part in the class captions only,
    so that the class is not read off the colours; marked images, close-ups and collages in the descriptors only.
    """
    classes, descriptors = names
    rows = np.sort(rng.integers(len(scenes.class_ids), size=recipe.batch))
    images = jitter(rng, scenes.images[rows])
    class_ids, shows = np.array(scenes.class_ids[rows]), scenes.shows(rows, len(descriptors))
    known = np.ones_like(shows)
    fate = rng.random(len(rows))
    visible = scenes.part_ids[rows] >= 0
    bounds = np.cumsum([0.0, recipe.prompted, recipe.close_ups, recipe.collages])
    prompted, close, collage = ((low <= fate) & (fate < high) & visible.any(1) for low, high in pairwise(bounds))
    grey = fate >= 1 - recipe.grey
    for i in np.flatnonzero(prompted):
        part = rng.choice(np.flatnonzero(visible[i]))
        images[i] = draw_prompt(rng, images[i], scenes.boxes[rows[i], part])
        shows[i] = False
        shows[i, scenes.part_ids[rows[i], part]] = True
    for i in np.flatnonzero(grey):
        images[i] = cv2.cvtColor(images[i], cv2.COLOR_RGB2GRAY)[..., None]
    _show_parts_alone(rng, scenes, rows, images, shows, known, close, collage)
    if side > SIZE:
        images = soften(rng, images)
    named = np.flatnonzero(~grey)
    said = np.flatnonzero(shows[named].any(0) | (rng.random(len(descriptors)) < 0.5))
    each = [captions.describe(rng, descriptors, int(d)).text for d in said]
    table = np.ix_(named, said)
    described = Block(each, named, shows[table], known[table], 1 - recipe.class_weight)
    whole = ~(prompted | close | collage)
    classed = np.flatnonzero(whole)
    told = {one.text: one for one in (captions.name_class(rng, classes, c) for c in range(len(classes)))}
    for i in rng.permutation(np.flatnonzero(whole & ~grey & shows.any(1)))[: recipe.pairs]:
        one = captions.describe_pair(rng, names, int(class_ids[i]), np.flatnonzero(shows[i]))
        told[one.text] = one
    block = _class_block(list(told.values()), classed, class_ids, shows, grey, recipe.class_weight)
    return Batch(resized(images, side), (described, block))


def _show_parts_alone(
    rng: np.random.Generator,
    scenes: Scenes,
    rows: npt.NDArray[np.int64],
    images: npt.NDArray[np.uint8],
    shows: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
    close: npt.NDArray[np.bool_],
    collage: npt.NDArray[np.bool_],
) -> None:
    """Turn images into close-ups of one part, or collages of four from four scenes; changes the arrays in place.

    No class is seen there that a part could be guessed from, so a part is learnt by its own looks: the unusual parts
    of a class, half of which no training scene combines with it, are otherwise learnt as impossible. What else of the
    cropped scenes can be seen is not known.
    """
    size, facts = images.shape[1], shows.copy()
    visible = scenes.part_ids[rows] >= 0
    sources = np.flatnonzero(visible.any(1))
    pictures = images.copy()
    for i in np.flatnonzero(close | collage):
        used = [i, *rng.choice(sources, 3)] if collage[i] else [i]
        tile = size // 2 if collage[i] else size
        shows[i], known[i] = False, ~facts[used].any(0)
        for place, source in enumerate(used):
            part = rng.choice(np.flatnonzero(visible[source]))
            y, x = tile * (place // 2), tile * (place % 2)
            images[i, y : y + tile, x : x + tile] = crop(rng, pictures[source], scenes.boxes[rows[source], part], tile)
            shows[i, scenes.part_ids[rows[source], part]] = True
        known[i] |= shows[i]


def _class_block(
    told: list[Caption],
    rows: npt.NDArray[np.int64],
    class_ids: npt.NDArray[np.int64],
    shows: npt.NDArray[np.bool_],
    grey: npt.NDArray[np.bool_],
    weight: float,
) -> Block:
    """What a grey image shows is not known, so captions with descriptors are false of it only by their class."""
    true = captions.truth(told, class_ids[rows], shows[rows])
    same = np.array([[one.class_id == c for one in told] for c in class_ids[rows]])
    detailed = np.array([bool(one.descriptor_ids) for one in told])
    unknown = grey[rows, None] & detailed & same
    return Block([one.text for one in told], rows, true & ~unknown, ~unknown, weight)
