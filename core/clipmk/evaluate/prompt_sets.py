"""Classes described by sets of descriptors: which descriptors, and the classifier that their prompts make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from clipmk.concepts.float64 import host64
from clipmk.concepts.selection import highest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.vocabulary.vocabulary import Vocabulary

PAPER_PROMPT = "how can you identify a {class}. Distinctive and physical features describing it is {d}"
"""The paper's, appendix K."""
SHORT_PROMPT = "a photo of a {class} with {d}"
"""For models whose context cuts the paper's prompt before its descriptor."""

Sets = Sequence[Sequence[str]]  # for each class the descriptors of its prompts


def fill_prompt(prompt: str, class_name: str, descriptor: str) -> str:
    """The prompt with its `{class}` and `{d}` filled in; braces inside either stay as they are."""
    before, _, rest = prompt.partition("{class}")
    between, _, after = rest.partition("{d}")
    return before + class_name + between + descriptor + after


def prompt_that_fits(encoder: Backbone, vocabulary: Vocabulary) -> str:
    """The paper's prompt where the model's context holds it, else a short one.

    It does not hold where the longest class name with different descriptors gives one and the same embedding.
    """
    name = max(vocabulary.classes, key=lambda text: (len(text), text))
    texts = [fill_prompt(PAPER_PROMPT, name, descriptor) for descriptor in vocabulary.descriptors[:50]]
    rows = encoder.encode_texts(texts)
    different = len(torch.unique(rows, dim=0))
    return PAPER_PROMPT if different == len(texts) else SHORT_PROMPT


def nearest_classes(classes: Float[Tensor, "classes embed"]) -> list[list[int]]:
    """For each class the two others of the highest cosine in the language embedding space, nearest first."""
    cosines = host64(classes) @ host64(classes).T
    cosines.fill_diagonal_(-torch.inf)
    return [row.tolist() for row in highest(cosines, min(2, len(classes) - 1))]


def neighbour_descriptors(
    found: Mapping[int, Sequence[Sequence[int]]], neighbours: Sequence[Sequence[int]]
) -> list[list[int]]:
    """For each class every descriptor found on any image of its neighbours, each once, rising."""
    return [
        sorted({descriptor for near in nearby for image in found.get(near, ()) for descriptor in image})
        for nearby in neighbours
    ]


def matched_random_descriptors(
    chosen: Sequence[int], *, lengths: Sequence[int], without: Sequence[int], rng: np.random.Generator
) -> list[int]:
    """As many random descriptors as are chosen, of the same lengths in words, none twice and none of `without`.

    Drawn from the whole vocabulary but `without`, so the chosen ones may be drawn too.
    """
    wanted, excluded = Counter(lengths[descriptor] for descriptor in chosen), set(without)
    drawn: list[int] = []
    for length in sorted(wanted):
        pool = [one for one, own in enumerate(lengths) if own == length and one not in excluded]
        drawn += rng.choice(pool, size=wanted[length], replace=False).tolist()
    return sorted(drawn)


def random_words(descriptors: Sequence[str], *, seed: int) -> list[str]:
    """For each descriptor as many words, drawn from all different words of the vocabulary."""
    words = sorted({word for text in descriptors for word in text.split()})
    rng = np.random.default_rng(seed)
    return [" ".join(words[i] for i in rng.integers(len(words), size=len(text.split()))) for text in descriptors]


def class_embeddings(
    encoder: Backbone,
    prompts: Callable[[int, str], str],
    variants: Mapping[str, Sets],
    *,
    fallback: Sequence[Sequence[str]],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Float[Tensor, "classes embed"]]:
    """One classifier per variant: w_y = normalise(mean over the prompts t of class y of normalise(text(t))), float64.

    Class by class, each different text of a class once; what stays in memory is one row per class and variant.
    `prompts` makes a text of class and descriptor; `fallback` has for each class the texts instead of an empty set.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in variants}
    for index, instead in enumerate(fallback):
        texts = {
            name: [prompts(index, descriptor) for descriptor in sets[index]] or list(instead)
            for name, sets in variants.items()
        }
        different = {text: row for row, text in enumerate(dict.fromkeys(t for each in texts.values() for t in each))}
        embedded = functional.normalize(host64(encoder.encode_texts(list(different))), dim=-1)
        for name, each in texts.items():
            rows[name].append(functional.normalize(embedded[[different[t] for t in each]].mean(dim=0), dim=0))
        if progress is not None:
            progress(index + 1, len(fallback))
    return {name: torch.stack(each) for name, each in rows.items()}
