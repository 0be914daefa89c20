"""One's own words about an encoded image: are they seen, where, and tied to which classes (docs/method.md, section 8).

`Questions` are embedded once for any number of images; `answer` runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from clipmk.concepts.mutual import p_value
from clipmk.concepts.relevance import SEEN_LEVEL, bank_shares, overlap_with, relevance_map, standing
from clipmk.errors import ModelError
from clipmk.images.heat import heat_encode
from clipmk.pipeline.grounding import coverage
from clipmk.records import Asked, Presence, RelevanceMap, Tie, status_of

if TYPE_CHECKING:
    import numpy as np
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
    "every patch of a ConvNeXt has seen most of the picture: maps of what was asked for do not point at its place"
)
MAP_SIDE = 64
"""Most cells of a map along a side."""
BACKGROUND = 4096
"""Most descriptors that patches are compared with, spread evenly over the bank."""
TEXTS = 256
"""Texts whose maps are held in memory at once."""


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


def embed_questions(backbone: Backbone, vocabulary: Vocabulary, texts: tuple[str, ...]) -> Questions:
    """Embed what `ask_texts` returns as the vocabulary's descriptors are embedded."""
    rows = {text: row for row, text in enumerate(vocabulary.descriptors)}
    prompts = [vocabulary.descriptor_template.replace("{}", text) for text in texts]
    embeddings = backbone.encode_texts(prompts).cpu()
    if not bool(embeddings.isfinite().all()):
        raise ModelError("the text encoder gives numbers that are not finite; try precision fp32")
    return Questions(texts, embeddings, tuple(rows.get(text) for text in texts))


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
    """What the model says of each text, in order.

    Args:
        questions: from `embed_questions` with the same model and vocabulary.
        encoded: the image.
        bank: the vocabulary.
        geometry: how the square input maps to the image's pixels.
        classes: row of the class explained, then of others -> D_y as rows of the bank, nearest first.
        names: of all classes.
        vision: D_v as rows of the bank, most important first.
        vision_limit: most concepts of D_v.
    """
    cosines = questions.embeddings @ encoded.embedding
    presence = standing(cosines, bank.descriptors @ encoded.embedding, questions.own)
    seen = (presence.p_value <= SEEN_LEVEL).tolist()
    ties = [
        _ties(questions, seen, bank, row, name=names[row], language=language, vision=vision, vision_limit=vision_limit)
        for row, language in classes.items()
    ]
    starts = range(0, len(questions.texts), TEXTS)
    maps = [one for start in starts for one in _maps(questions, encoded, bank, geometry, slice(start, start + TEXTS))]
    parts = _parts(questions, encoded, bank)
    columns = zip(*(field.tolist() for field in presence), strict=True)
    return tuple(
        Asked(
            text=text,
            in_vocabulary=own is not None,
            status=status_of(seen=is_seen, tied=tied[0].in_d_y),
            cosine=cosine,
            presence=Presence(rank=rank, percentile=percentile, score=score, p_value=p, seen=is_seen),
            ties=tied,
            parts=carriers if is_seen else (),
            map=heat,
        )
        for text, own, cosine, (rank, percentile, score, p), is_seen, tied, carriers, heat in zip(
            questions.texts,
            questions.own,
            cosines.tolist(),
            columns,
            seen,
            zip(*ties, strict=True),
            parts,
            maps,
            strict=True,
        )
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
    ranks = standing(cosines, bank.descriptors @ embedding, questions.own).rank.tolist()
    ties = []
    for own, is_seen, cosine, rank in zip(questions.own, seen, cosines.tolist(), ranks, strict=True):
        tied, new = rank <= len(language), own is None
        overlap, count = overlap_with(
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
    questions: Questions, encoded: EncodedImage, bank: TextBank, geometry: Square, some: slice
) -> list[RelevanceMap | None]:
    """The maps of some of the texts."""
    texts = questions.embeddings[some]
    if encoded.patch_embeddings is None or encoded.grid is None:
        return [None] * len(texts)
    values = text_maps(
        encoded.patch_embeddings,
        encoded.part_embeddings[0],
        encoded.segmentations[0].masks,
        texts,
        bank.descriptors,
        questions.known[some],
        grid=encoded.grid,
    )
    return [heat_encode(one, geometry) for one in values.numpy()]


def _shares(
    regions: Float[Tensor, "regions embed"],
    texts: Float[Tensor, "texts embed"],
    bank: Float[Tensor, "descriptors embed"],
    known: Bool[Tensor, " texts"],
) -> Float[Tensor, "regions texts"]:
    """`bank_shares` of embedded regions; a large bank is represented by some of its descriptors."""
    background = bank[:: -(-len(bank) // BACKGROUND)]
    unit = torch.nn.functional.normalize(regions, dim=1)  # a mean of prompts is shorter
    return bank_shares(unit @ texts.T, unit @ background.T, known & (len(background) == len(bank)))


def text_maps(
    patch_embeddings: Float[Tensor, "patches embed"],
    part_embeddings: Float[Tensor, "parts embed"],
    masks: NDArray[np.bool_],
    texts: Float[Tensor, "texts embed"],
    bank: Float[Tensor, "descriptors embed"],
    known: Bool[Tensor, " texts"],
    *,
    grid: tuple[int, int],
) -> Float[Tensor, "texts side side"]:
    """Where in the square input each text is seen, by single patches and by parts; see `concepts.relevance`.

    Args:
        patch_embeddings: of every single patch, row by row over the grid.
        part_embeddings: of the parts.
        masks: of the parts, bool (parts, S, S).
        texts: in the descriptor template, L2-normalised.
        bank: the vocabulary's descriptors.
        known: which texts are among them.
        grid: (rows, columns) of the patches.
    """
    patches, parts = (_shares(one, texts, bank, known) for one in (patch_embeddings, part_embeddings))
    side = min(MAP_SIDE, masks.shape[1])
    return relevance_map(patches, parts, coverage(masks, grid=(side, side)), grid=grid, side=side)
