"""One's own words against an image: is a text seen, where, and to which classes is it tied (docs/method.md, section 8)?

Everything is measured against the vocabulary: a bare cosine means little, its place among those of other texts does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float, Int
    from torch import Tensor

SHARPNESS = 50.0  # s of `bank_shares`, chosen on the `val` scenes of the rendered world
SEEN_LEVEL = 0.015  # largest p-value at which a text counts as seen, chosen on the same scenes


class Standing(NamedTuple):
    """Where texts stand among a bank; a text of the bank is not compared with itself."""

    rank: Int[Tensor, " texts"]
    """1 + how many of the bank have a higher cosine."""
    percentile: Float[Tensor, " texts"]
    """Share of the bank with a lower cosine, in [0, 1]."""
    score: Float[Tensor, " texts"]
    """(cosine - mean over the bank) / standard deviation over the bank."""
    p_value: Float[Tensor, " texts"]
    """(1 + how many of the bank have at least this cosine) / (1 + how many there are)."""


def standing(
    cosines: Float[Tensor, " texts"], bank: Float[Tensor, " descriptors"], own: Sequence[int | None]
) -> Standing:
    """Rank, percentile, z-score and p-value of texts among the descriptors of a bank, in float64.

    p is the chance of a descriptor of the bank to be at least as near. Some of them are in the image, so p is too high
    rather than too low. `own` has for each text its row in the bank, or None.
    """
    values, others = host64(cosines), host64(bank)
    known = torch.tensor([row is not None for row in own], dtype=torch.bool)
    values = values.where(~known, others[[row or 0 for row in own]])  # bit for bit the bank's own
    order = others.sort().values
    below = host64(torch.searchsorted(order, values, side="left"))
    above = len(order) - torch.searchsorted(order, values, side="right")
    count = len(order) - host64(known)
    deviation = others.std(correction=0).clamp_min(torch.finfo(others.dtype).tiny)
    return Standing(
        rank=1 + above,
        percentile=below / count.clamp_min(1),
        score=(values - others.mean()) / deviation,
        p_value=(1 + count - below) / (1 + count),
    )


def bank_shares(
    cosines: Float[Tensor, "regions texts"],
    bank: Float[Tensor, "regions descriptors"],
    known: Bool[Tensor, " texts"],
    *,
    sharpness: float = SHARPNESS,
) -> Float[Tensor, "regions texts"]:
    """a_nt = exp(s h_nt) / (exp(s h_nt) + sum over d != t of exp(s h_nd)): the text's share of a region, in [0, 1].

    h are the cosines of regions (patches or parts) with texts and with the bank; `known` says whether a text is one of
    the descriptors, whose term the sum holds already. What a region has in common with every text cancels out.
    """
    logits = sharpness * cosines - (sharpness * bank).logsumexp(dim=1, keepdim=True)
    return torch.where(known, logits.exp().clamp_max(1.0), logits.sigmoid())


def hidden_losses(
    whole: Float[Tensor, " texts"], hidden: Float[Tensor, "regions texts"]
) -> Float[Tensor, "regions texts"]:
    """o_rt = max(0, 1 - a_rt / a_t): what is lost of a text's share a_t (`bank_shares`) when region r is hidden."""
    return (1 - hidden / whole.clamp_min(torch.finfo(whole.dtype).tiny)).clamp_min(0)


def relevance_map(
    patch_shares: Float[Tensor, "patches texts"],
    part_shares: Float[Tensor, "parts texts"],
    parts: Float[Tensor, "parts pixels"],
    *,
    losses: Float[Tensor, "regions texts"],
    regions: Float[Tensor, "regions pixels"],
    grid: tuple[int, int],
    side: int,
) -> Float[Tensor, "texts side side"]:
    """r_t(x) = (o_t(x) + (m_t(x) + m'_t(x)) / 2) / 2, in [0, 1] where the parts do not overlap.

    m_t(x) = (a_t(x) + sum over parts k of w_k(x) b_kt) / 2: a and b are the `bank_shares` of every single patch,
    bilinear between them, and of every part, whose border follows the picture; w is how much of each pixel lies in the
    part. m' is the mean of m over the region of the picture, and o what is lost if that region is hidden
    (`hidden_losses`): o_t(x) = sum over regions r of v_r(x) o_rt, with v as w, of regions that divide the picture.
    """
    texts = patch_shares.shape[1]
    patches = functional.interpolate(
        patch_shares.T.reshape(1, texts, *grid), size=(side, side), mode="bilinear", align_corners=False
    )
    pooled = (patches[0].flatten(1) + part_shares.T @ parts) / 2
    means = pooled @ regions.T / regions.sum(dim=1).clamp_min(torch.finfo(regions.dtype).tiny)
    return ((losses.T @ regions + (pooled + means @ regions) / 2) / 2).reshape(texts, side, side)


def legrad(
    gradients: Sequence[Float[Tensor, "texts heads tokens tokens"]], patches: int
) -> Float[Tensor, "texts patches"]:
    """LeGrad: e_n = mean over blocks, heads and tokens i of max(0, ds / dA_hin), s = cos(what the block tells, t)."""
    return torch.stack([one.clamp_min(0).mean(dim=(1, 2)) for one in gradients]).mean(dim=0)[:, -patches:]


def rollout(attention: Sequence[Float[Tensor, "heads tokens tokens"]], patches: int) -> Float[Tensor, " patches"]:
    """Attention rollout: R = product over blocks, last first, of (mean over heads of A + I) / 2; alike for all texts.

    Read at the class token; where there is none, the mean over all tokens.
    """
    steps = [(one.mean(dim=0) + torch.eye(one.shape[-1]).to(one)) / 2 for one in attention]
    product = steps[0]
    for step in steps[1:]:
        product = step @ product
    return (product[0] if len(product) > patches else product.mean(dim=0))[-patches:]


def grad_cam(
    features: Float[Tensor, "channels rows columns"], gradients: Float[Tensor, "texts channels rows columns"]
) -> Float[Tensor, "texts rows columns"]:
    """Grad-CAM: max(0, sum over channels c of f_cn · mean over cells of ds / df_c), s = cos(image, t)."""
    return (gradients.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).clamp_min(0)


def hires_cam(
    features: Float[Tensor, "channels rows columns"], gradients: Float[Tensor, "texts channels rows columns"]
) -> Float[Tensor, "texts rows columns"]:
    """HiResCAM: max(0, sum over channels c of f_cn · ds / df_cn), s = cos(image, t): cell by cell."""
    return (gradients * features).sum(dim=1).clamp_min(0)


def overlap_with(
    *, seen: bool, tied: bool, vision: Sequence[int], language: Sequence[int], vision_limit: int
) -> tuple[int, int]:
    """|D_v ∩ D_y| and |D_v| if one more text were in the vocabulary; both are rows of the bank, best first.

    A seen text joins D_v, where it takes the place of the least important concept if there are `vision_limit`; a tied
    one takes the place of the farthest concept of D_y.
    """
    new = -1
    seen_ids = [*vision[: vision_limit - 1], new] if seen else vision
    tied_ids = [*language[:-1], new] if tied else language
    return len(set(seen_ids) & set(tied_ids)), len(seen_ids)
