"""Other spellings of open_clip's names: `ViT-B/32:openai`, `vit-b-32:openai`, `openai/clip-vit-base-patch32`."""

from __future__ import annotations

import re
from collections.abc import Collection

from clipmk.models.inventory import Inventory, Pair, inventory

TRANSFORMERS_TWINS = {
    "openai/clip-vit-base-patch32": "ViT-B-32-quickgelu:openai",
    "openai/clip-vit-base-patch16": "ViT-B-16-quickgelu:openai",
    "openai/clip-vit-large-patch14": "ViT-L-14-quickgelu:openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336-quickgelu:openai",
    "google/siglip-base-patch16-224": "ViT-B-16-SigLIP:webli",
    "google/siglip-base-patch16-256": "ViT-B-16-SigLIP-256:webli",
    "google/siglip-base-patch16-384": "ViT-B-16-SigLIP-384:webli",
    "google/siglip-base-patch16-512": "ViT-B-16-SigLIP-512:webli",
    "google/siglip-large-patch16-256": "ViT-L-16-SigLIP-256:webli",
    "google/siglip-large-patch16-384": "ViT-L-16-SigLIP-384:webli",
    "google/siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384:webli",
}
"""Repositories made for `transformers`, and the pair with the same weights."""


def canonical(name: str) -> str:
    """The NAME:TAG that a spelling stands for, with the activation that its weights need; other names unchanged.

    A repository on the hub stands for the pair whose weights it has. Case and punctuation do not matter, a size may end
    in "px". `clip-` before an architecture means OpenAI's weights. A pair whose architecture has the wrong activation
    stands for its `-quickgelu` twin.

    Args:
        name: as the user wrote it; not a folder, a checkpoint or a registered name.
    """
    known = inventory()
    wanted = TRANSFORMERS_TWINS.get(name.lower().removeprefix("hf-hub:"), name)
    head, _, tag = wanted.partition(":")
    pair = known.pairs.get((head, tag)) or _in_repository(wanted, known) or _spelt(head, tag, known)
    if pair is None:
        return name
    return (known.twin(pair) or pair).id


def architecture_spelt(name: str) -> str | None:
    """The architecture that a spelling without a tag stands for; None for other names."""
    return _unique(name, inventory().architectures)


def _in_repository(name: str, known: Inventory) -> Pair | None:
    """The pair with weights in a repository; of several, the one with the right activation."""
    found = [pair for pair in known.pairs.values() if pair.repository.lower() == name.lower()]
    right = [pair for pair in found if known.twin(pair) is None]
    return right[0] if len(right) == 1 else None


def _spelt(head: str, tag: str, known: Inventory) -> Pair | None:
    if not tag and squashed(head).startswith("clip"):
        head, tag = re.sub(r"(?i)^clip[^a-z0-9]*", "", head), "openai"
    architecture = _unique(head, known.architectures)
    chosen = _unique(tag, [other for owner, other in known.pairs if owner == architecture])
    return known.pairs[architecture, chosen] if architecture and chosen else None


def _unique(name: str, names: Collection[str]) -> str | None:
    """The name itself, or the only one that is spelt alike."""
    if name in names:
        return name
    wanted = squashed(name)
    found = [other for other in names if wanted and squashed(other) == wanted]
    return found[0] if len(found) == 1 else None


def squashed(name: str) -> str:
    """A name's letters and digits in lower case, without the "px" of a size."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"(?<=\d)px\b", "", name.lower()))
