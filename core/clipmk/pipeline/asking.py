"""One's own words about an encoded image: are they seen, where, and tied to which classes (docs/method.md, section 8).

`Questions` are embedded once for any number of images. `hide_regions` encodes a picture again for its maps, whatever
is asked; `answer` runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipmk.concepts import relevance
from clipmk.concepts.mutual import p_value
from clipmk.concepts.superpixels import picture_regions
from clipmk.errors import ModelError
from clipmk.images.masks import heat_encode
from clipmk.pipeline.grounding import Progress, coverage, images_per_forward, no_progress
from clipmk.records import Asked, Presence, RelevanceMap, Tie, status_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from numpy.typing import NDArray
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.images.square import Square
    from clipmk.pipeline.encoder import EncodedImage
    from clipmk.vocabulary.embeddings import TextBank
    from clipmk.vocabulary.vocabulary import Vocabulary

NO_PATCHES = "the patches of this model cannot be pooled one by one: what was asked for has no map and no parts"
VAGUE_MAPS = (
    "every patch of a ConvNeXt has seen most of the picture: maps of what was asked for seldom point at its place"
)
REGIONS = 24  # most regions of a picture that are hidden, one after the other, to see what a text loses
MAP_SIDE = 64  # most cells of a map along a side
BACKGROUND = 4096  # most descriptors that patches are compared with, spread evenly over the bank
TEXTS = 256  # texts whose maps are held in memory at once


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Texts that are asked for, embedded."""

    texts: tuple[str, ...]
    embeddings: Float[Tensor, "texts embed"]
    """In the descriptor template, L2-normalised, on the CPU."""
    own: tuple[int | None, ...]
    """For each text its row in the vocabulary, if it is one of the descriptors."""

    @property
    def known(self) -> Bool[Tensor, " texts"]:
        """Whether each text is one of the descriptors."""
        return torch.tensor([row is not None for row in self.own], dtype=torch.bool)

    def standing(self, embedding: Float[Tensor, " embed"], bank: TextBank) -> relevance.Standing:
        """Where each stands among the vocabulary for an image or a class."""
        return relevance.standing(self.embeddings @ embedding, bank.descriptors @ embedding, self.own)


def embed_questions(backbone: Backbone, vocabulary: Vocabulary, texts: tuple[str, ...]) -> Questions:
    """Embed what `ask_texts` returns as the vocabulary's descriptors are embedded."""
    rows = {text: row for row, text in enumerate(vocabulary.descriptors)}
    prompts = [vocabulary.descriptor_template.replace("{}", text) for text in texts]
    embeddings = backbone.encode_texts(prompts).cpu()
    if not bool(embeddings.isfinite().all()):
        raise ModelError("the text encoder gives numbers that are not finite; try precision fp32")
    return Questions(texts, embeddings, tuple(rows.get(text) for text in texts))


def hide_regions(backbone: Backbone, image: EncodedImage, progress: Progress = no_progress) -> EncodedImage:
    """Embed the picture's patches, and it once more for each region, painted over with the mean colour; for any texts.

    The image is returned as it is where this is done already, or no map can be had.
    """
    if image.error is not None or image.pool is None:
        return image
    if (patches := image.pool()) is None:
        return replace(image, pool=None)
    square, regions = image.square, picture_regions(image.square, limit=REGIONS)
    mean, count = square.mean(axis=(0, 1)).round().astype(np.uint8), int(regions.max()) + 1
    size, embedded = images_per_forward(backbone, side=len(square)), []
    for start in range(0, count, size):
        numbers = np.arange(start, min(start + size, count))
        hidden = np.where((regions == numbers[:, None, None])[..., None], mean, square)
        embedded.append(backbone.encode_images(backbone.normalise(torch.from_numpy(hidden))))
        progress("regions", int(numbers[-1]) + 1, count)
    embeddings = torch.cat(embedded).cpu()
    try:
        backbone.check_finite(embeddings)
    except ModelError as error:
        return replace(image, error=error)
    return replace(image, patch_embeddings=patches, pool=None, regions=regions, hidden_embeddings=embeddings)


def answer(
    questions: Questions,
    encoded: EncodedImage,
    *,
    bank: TextBank,
    geometry: Square,
    classes: Mapping[int, Sequence[int]],
    names: Sequence[str],
    vision: Sequence[int],
    vision_limit: int,
) -> tuple[Asked, ...]:
    """What the model says of each text, in order; `encoded` comes from `hide_regions`.

    `classes` maps the row of the class explained, then of others, to D_y; D_y and `vision` (D_v) are rows of the bank,
    best first. `vision_limit` is the most concepts of D_v.
    """
    cosines = (questions.embeddings @ encoded.embedding).tolist()
    rank, percentile, score, p = (field.tolist() for field in questions.standing(encoded.embedding, bank))
    seen = [value <= relevance.SEEN_LEVEL for value in p]
    of_classes = [
        _ties(questions, seen, bank, row, name=names[row], language=language, vision=vision, vision_limit=vision_limit)
        for row, language in classes.items()
    ]
    ties = list(zip(*of_classes, strict=True))
    parts, maps = _parts(questions, encoded, bank), _maps(questions, encoded, bank, geometry)
    return tuple(
        Asked(
            text=text,
            in_vocabulary=questions.own[i] is not None,
            status=status_of(seen=seen[i], tied=ties[i][0].in_d_y),
            cosine=cosines[i],
            presence=Presence(rank=rank[i], percentile=percentile[i], score=score[i], p_value=p[i], seen=seen[i]),
            ties=ties[i],
            parts=parts[i] if seen[i] else (),
            map=maps[i],
        )
        for i, text in enumerate(questions.texts)
    )


def _ties(
    questions: Questions,
    seen: Sequence[bool],
    bank: TextBank,
    row: int,
    *,
    name: str,
    language: Sequence[int],
    vision: Sequence[int],
    vision_limit: int,
) -> list[Tie]:
    """How near each text is to a class."""
    embedding, size = bank.classes[row], len(bank.descriptors)
    cosines = questions.embeddings @ embedding
    ranks = questions.standing(embedding, bank).rank.tolist()
    ties = []
    for own, is_seen, cosine, rank in zip(questions.own, seen, cosines.tolist(), ranks, strict=True):
        tied, new = rank <= len(language), own is None
        overlap, count = relevance.overlap_with(
            seen=is_seen and new, tied=tied and new, vision=vision, language=language, vision_limit=vision_limit
        )
        chance = p_value(count, len(language), size + new, overlap)
        ties.append(
            Tie(class_name=name, cosine=cosine, rank=rank, in_d_y=tied, overlap=overlap, overlap_p_value=chance)
        )
    return ties


def _parts(questions: Questions, encoded: EncodedImage, bank: TextBank) -> list[tuple[int, ...]]:
    """For each text the 1-based parts that carry it: at least half as much its own as the best one, best first."""
    shares = _shares(encoded.part_embeddings[0], questions.embeddings, bank.descriptors, questions.known)
    order = shares.argsort(dim=0, descending=True, stable=True).T.tolist()
    carries = (shares >= shares.max(dim=0).values / 2).T.tolist()
    return [tuple(part + 1 for part in parts if kept[part]) for parts, kept in zip(order, carries, strict=True)]


def _maps(
    questions: Questions, encoded: EncodedImage, bank: TextBank, geometry: Square
) -> Sequence[RelevanceMap | None]:
    """For each text its map, if there is one."""
    if encoded.regions is None:
        return [None] * len(questions.texts)
    parts, masks, maps = encoded.part_embeddings[0], encoded.segmentations[0].masks, []
    some = (torch.split(every, TEXTS) for every in (questions.embeddings, questions.known))
    for texts, known in zip(*some, strict=True):
        values = text_maps(encoded, parts, masks, texts, bank.descriptors, known)
        maps += [heat_encode(one, geometry) for one in values.numpy()]
    return maps


def _shares(
    regions: Float[Tensor, "regions embed"],
    texts: Float[Tensor, "texts embed"],
    bank: Float[Tensor, "descriptors embed"],
    known: Bool[Tensor, " texts"],
) -> Float[Tensor, "regions texts"]:
    """`bank_shares` of embedded regions; a large bank is represented by some of its descriptors."""
    background = bank[:: -(-len(bank) // BACKGROUND)]
    unit = torch.nn.functional.normalize(regions, dim=1)  # a mean of prompts is shorter
    return relevance.bank_shares(unit @ texts.T, unit @ background.T, known & (len(background) == len(bank)))


def text_maps(
    image: EncodedImage,
    part_embeddings: Float[Tensor, "parts embed"],
    masks: NDArray[np.bool_],
    texts: Float[Tensor, "texts embed"],
    bank: Float[Tensor, "descriptors embed"],
    known: Bool[Tensor, " texts"],
) -> Float[Tensor, "texts side side"]:
    """Where in the square input each text is seen (`concepts.relevance`); masks of the parts, bool (parts, S, S).

    ValueError if the image did not come from `hide_regions`, or has no map.
    """
    if image.patch_embeddings is None or image.hidden_embeddings is None or image.regions is None or image.grid is None:
        raise ValueError("a map needs embedded patches and hidden regions")
    embeddings = (image.patch_embeddings, part_embeddings, image.embedding[None], image.hidden_embeddings)
    patches, parts, whole, hidden = (_shares(one, texts, bank, known) for one in embeddings)
    side = min(MAP_SIDE, masks.shape[1])
    numbers = np.arange(len(hidden))[:, None, None]
    return relevance.relevance_map(
        patches,
        parts,
        coverage(masks, grid=(side, side)),
        losses=relevance.hidden_losses(whole[0], hidden),
        regions=coverage(image.regions == numbers, grid=(side, side)),
        grid=image.grid,
        side=side,
    )
