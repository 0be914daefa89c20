"""Words of one's own against the truth of rendered scenes: do maps point at the part, and is what is seen there?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from clipmk.backbones.inspection import attention_gradients, stage_gradients
from clipmk.concepts.detection import placements
from clipmk.concepts.relevance import SEEN_LEVEL, SHARPNESS, grad_cam, hires_cam, legrad, rollout, standing
from clipmk.errors import ModelError
from clipmk.evaluate.metrics import average_precision_of_pixels, iou
from clipmk.images.decoder import read_picture
from clipmk.pipeline.asking import text_maps
from clipmk.world.combinations import typical_descriptors, typical_probabilities

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.evaluate.variants import Variant, VariantResult, VariantRunner
    from clipmk.pipeline.encoder import EncodedImage
    from clipmk.world.scene import Scene

PATCHES, ATTENTION, CENTRE, ANYWHERE = "single patches", "class attention", "centre of the picture", "random place"
"""Baselines of a map: without parts and regions; the same for every text; and blind to the picture."""
OCCLUSION, VALUES, LEGRAD, ROLLOUT = "occlusion of regions", "value path (MaskCLIP)", "LeGrad", "attention rollout"
GRAD_CAM, HIRES_CAM = "Grad-CAM, last stage", "HiResCAM, second stage"
"""Published methods; each has a row where the tower has what it needs."""
MAP_METRICS = ("pointing", "pixel_ap", "map_iou")
THRESHOLDS = np.arange(1, 20) / 20  # shares of a map's highest value that are tried as its border
Maps = NDArray[np.float32]  # (parts, height, width): of each true part's descriptor over the picture


def variant_maps(scene: Scene, result: VariantResult, image: EncodedImage) -> Maps | None:
    """The maps of a variant for the true descriptors; None where its patches cannot be pooled."""
    texts = result.explainer.bank.descriptors[descriptor_rows(scene, result)]
    return _maps_of(texts, scene, result, image, in_bank=True)


def class_map(scene: Scene, result: VariantResult) -> NDArray[np.float32] | None:
    """The map of the predicted class over the picture, (height, width); None where patches cannot be pooled."""
    image, text = result.explainer.with_maps(result.image), result.explainer.bank.classes[[result.predicted]]
    maps = _maps_of(text, scene, result, image, in_bank=False)
    return None if maps is None else maps[0]


def _maps_of(
    texts: Float[Tensor, "texts embed"], scene: Scene, result: VariantResult, image: EncodedImage, *, in_bank: bool
) -> Maps | None:
    if image.regions is None:
        return None
    known = torch.full((len(texts),), fill_value=in_bank)
    bank = result.explainer.bank.descriptors
    maps = text_maps(image, result.part_embeddings, result.segmentation.masks, texts, bank, known)
    return _on_picture(maps.numpy(), scene)


def baseline_maps(scene: Scene, result: VariantResult, image: EncodedImage) -> dict[str, Maps]:
    """What a map is compared with; of the published methods those that the tower has what they need for.

    Gradients are those of the log of a text's share among the descriptors: what is alike for all texts cancels.
    """
    backbone, bank = result.explainer.backbone, result.explainer.bank.descriptors
    texts, encoder = bank[descriptor_rows(scene, result)], backbone.images
    contrasted = (texts - (SHARPNESS * bank @ image.embedding).softmax(dim=0) @ bank).to(backbone.device)
    pixels = backbone.normalise(torch.from_numpy(image.square[None]))
    grid = image.grid or (0, 0)
    rows, columns = np.indices(scene.object_mask.shape)
    found = {CENTRE: -torch.from_numpy(np.hypot(rows - rows.mean(), columns - columns.mean()))[None]}
    if image.forward is not None and image.forward.attention is not None:
        found[ATTENTION] = image.forward.attention.reshape(-1, *grid)
    if image.patch_embeddings is not None:
        found[PATCHES] = (texts @ image.patch_embeddings.T).reshape(-1, *grid)
    if image.regions is not None and image.hidden_embeddings is not None:
        found[OCCLUSION] = ((image.embedding - image.hidden_embeddings) @ texts.T).T[:, image.regions.astype(np.int64)]
    features, gradients = stage_gradients(encoder, pixels, contrasted)
    if features:
        found |= {GRAD_CAM: grad_cam(features[-1], gradients[-1]), HIRES_CAM: hires_cam(features[1], gradients[1])}
    with suppress(ModelError), torch.no_grad():  # an attention that does more cannot be opened up
        if (values := encoder.values(pixels)) is not None:
            found[VALUES] = (texts @ normalize(values.float().cpu(), dim=1).T).reshape(-1, *grid)
        attention, gradients = attention_gradients(encoder, pixels, contrasted)
        if attention:
            found[LEGRAD] = legrad(gradients, math.prod(grid)).reshape(-1, *grid)
            found[ROLLOUT] = rollout(attention, math.prod(grid)).reshape(-1, *grid)
    shape = (len(texts), *scene.object_mask.shape)
    pictures = ((name, _on_picture(one.float().cpu().numpy(), scene)) for name, one in found.items())
    return {name: np.broadcast_to(maps, shape) for name, maps in pictures}


def map_scores(maps: Maps, scene: Scene, *, threshold: float) -> dict[str, float]:
    """Means over the true parts: is the highest point on the part, pixel AP, and IoU of what lies above a threshold.

    The threshold is a share of the way from a map's lowest to its highest value.
    """
    pairs = list(zip(maps, scene.part_masks, strict=True))
    return {
        "pointing": float(np.mean([mask.ravel()[one.argmax()] for one, mask in pairs])),
        "pixel_ap": float(np.mean([average_precision_of_pixels(one, mask) for one, mask in pairs])),
        "map_iou": _map_iou(maps, scene, threshold),
    }


def presence_scores(scene: Scene, result: VariantResult) -> tuple[dict[str, float], dict[str, float]]:
    """How well the cosine with the image tells descriptors that are there from others; and how well the class alone.

    `presence`: AUROC within the scene against all others. `presence_hard`: against the same parts in other looks, and
    what is typical of the predicted class but absent. `missed`, `false_hard`, `false_alarm`: how many of the true, of
    the hard and of all others are on the wrong side of `SEEN_LEVEL`.
    """
    explainer = result.explainer
    texts, cosines = explainer.vocabulary.descriptors, explainer.bank.descriptors @ result.image.embedding
    class_name = explainer.vocabulary.classes[result.predicted]
    true, nouns = set(scene.descriptors), {part.part for part in scene.parts}
    typical = set(typical_descriptors(class_name))
    present = np.array([text in true for text in texts])
    hard = np.array([text in typical or text.split()[-1] in nouns for text in texts]) & ~present
    seen = (standing(cosines, cosines, range(len(texts))).p_value <= SEEN_LEVEL).numpy()
    usual = typical_probabilities(class_name)
    blind = np.array([usual.get(text, 0.0) for text in texts])
    by_cosine, by_class = (
        {"presence": auroc(values, present, ~present), "presence_hard": auroc(values, present, hard)}
        for values in (cosines.numpy(), blind)
    )
    rates = {
        "missed": float(1 - seen[present].mean()),
        "false_hard": float(seen[hard].mean()) if hard.any() else float("nan"),
        "false_alarm": float(seen[~present].mean()),
    }
    return by_cosine | rates, by_class


def auroc(values: NDArray[np.floating], positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> float:
    """P(value of a positive > that of a negative) + P(equal) / 2; NaN where there are none of either."""
    if not positive.any() or not negative.any():
        return float("nan")
    chosen = positive | negative
    return float(placements(values[chosen].astype(np.float64), positive[chosen])[positive[chosen]].mean())


def fit_thresholds(runner: VariantRunner, variants: Collection[Variant], scenes: Iterable[Scene]) -> dict[str, float]:
    """The threshold of each variant and baseline with the highest mean IoU on scenes that no report covers."""
    sums: dict[str, NDArray[np.float64]] = {}
    for scene in scenes:
        results = runner.run(read_picture(scene.image), variants)
        for name, maps in scene_maps(scene, results).items():
            ious = [_map_iou(maps, scene, float(one)) for one in THRESHOLDS]
            sums[name] = sums.get(name, np.zeros(len(THRESHOLDS))) + ious
    return {name: float(THRESHOLDS[total.argmax()]) for name, total in sums.items()}


def scene_maps(scene: Scene, results: Mapping[Variant, VariantResult]) -> dict[str, Maps]:
    """The maps of baselines and variants, by name of the row; nothing without a variant."""
    if not results:
        return {}
    hidden: dict[int, EncodedImage] = {}  # variants share their image
    for result in results.values():
        hidden[id(result.image)] = hidden.get(id(result.image)) or result.explainer.with_maps(result.image)
    first = next(iter(results.values()))
    maps = baseline_maps(scene, first, hidden[id(first.image)])
    for variant, result in results.items():
        own = variant_maps(scene, result, hidden[id(result.image)])
        if own is not None:
            maps[variant.name] = own
    return maps


def descriptor_rows(scene: Scene, result: VariantResult) -> list[int]:
    """Row of each true part's descriptor in the bank."""
    return [result.explainer.vocabulary.descriptors.index(text) for text in scene.descriptors]


def _on_picture(maps: NDArray[np.floating], scene: Scene) -> Maps:
    """Maps over the squashed picture, bilinear on its pixels."""
    height, width = scene.object_mask.shape
    return np.stack([cv2.resize(one.astype(np.float32), (width, height)) for one in maps])


def _map_iou(maps: Maps, scene: Scene, threshold: float) -> float:
    return float(np.mean([iou(_above(one, threshold), mask) for one, mask in zip(maps, scene.part_masks, strict=True)]))


def _above(values: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    low, high = float(values.min()), float(values.max())
    return np.asarray(values >= low + threshold * (high - low))
