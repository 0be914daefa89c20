"""A straightforward per-image pipeline, in the manner of the method's reference implementation: the baseline to beat.

One image at a time, every prompt encoded by itself, the descriptors of the candidates encoded anew for every image, a
full SVD, 1,000 Sinkhorn rounds. What it finds is what the `paper` preset finds (k-means, fitted per image):
`tests/test_reference_loop.py` holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.cluster import KMeans

from clipmk.backbones.backbone import Backbone
from clipmk.concepts.prompts import draw_prompts
from clipmk.vocabulary.embeddings import load_bank
from clipmk.vocabulary.vocabulary import Vocabulary

PARTS, TOP, PER_PART, ROUNDS, SCALE, OFFSET = 5, 500, 3, 1_000, 2.5, 0.02


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """What the loop says of one image."""

    predicted: str
    concepts: tuple[str, ...]
    """D_v, most important first."""
    forwards: int


class ReferenceLoop:
    """Explains images one by one.

    Args:
        backbone: the model.
        vocabulary: classes and descriptors; class heads and the templated bank are embedded once, as there.
        encode_texts: embeds the candidates, L2-normalised, each time.
    """

    def __init__(
        self, backbone: Backbone, vocabulary: Vocabulary, encode_texts: Callable[[list[str]], torch.Tensor]
    ) -> None:
        self.backbone, self.vocabulary, self._encode_texts = backbone, vocabulary, encode_texts
        bank = load_bank(backbone, vocabulary)
        self.heads, self.bank = bank.classes.to(backbone.device), bank.descriptors.to(backbone.device)

    def explain(self, path: Path) -> ReferenceResult:
        """Explain one image file."""
        side = self.backbone.info.input_size
        with Image.open(path) as opened:
            image = opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        pixels = self.backbone.normalise(torch.from_numpy(np.array(image))[None])
        encoded = self.backbone.encode_with_patches(pixels)
        masks = self._parts(encoded.patches[0].double().cpu().numpy(), encoded.grid)
        parts = torch.stack([self._part_embedding(image, mask) for mask in masks])
        concepts = self._concepts(parts, encoded.embeddings[0])
        predicted = int((self.heads @ encoded.embeddings[0]).argmax())
        return ReferenceResult(self.vocabulary.classes[predicted], concepts, forwards=1 + 3 * len(masks))

    def _parts(self, patches: NDArray[np.float64], grid: tuple[int, int]) -> list[NDArray[np.bool_]]:
        """Foreground by the second left singular vector of the unit rows, divided by k-means."""
        unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
        vector = np.linalg.svd(unit, full_matrices=False)[0][:, 1]
        vector *= np.sign(vector[np.abs(vector).argmax()])
        if 0.5 < (vector > 0).mean() < 1:
            vector = -vector
        labels, found = ndimage.label((vector > 0).reshape(grid), structure=np.ones((3, 3)))
        sizes = ndimage.sum_labels(np.ones(grid), labels, range(1, found + 1))
        order = np.argsort(-sizes, kind="stable")
        keep = [order[0] + 1] + [o + 1 for o in order[1:2] if sizes[o] >= 5]
        foreground = np.isin(labels, keep)
        inside = unit[foreground.ravel()]
        clusters = KMeans(min(PARTS, len(inside)), n_init=4, random_state=0).fit_predict(inside)
        side = self.backbone.info.input_size
        masks = []
        for cluster in range(clusters.max() + 1):
            part = np.zeros(grid, dtype=np.uint8)
            part[foreground] = clusters == cluster
            masks.append(cv2.resize(part, (side, side), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool))
        return masks

    def _part_embedding(self, image: Image.Image, mask: NDArray[np.bool_]) -> torch.Tensor:
        """Mean embedding of three prompted images, each encoded by itself."""
        embedded = []
        for prompt in draw_prompts(np.array(image), mask):
            pixels = self.backbone.normalise(torch.from_numpy(np.array(Image.fromarray(prompt)))[None])
            embedded.append(self.backbone.encode_images(pixels)[0])
        return torch.stack(embedded).mean(0)

    def _concepts(self, parts: torch.Tensor, image: torch.Tensor) -> tuple[str, ...]:
        scores = parts @ self.bank.T
        top = [set(row.argsort(descending=True)[:TOP].tolist()) for row in scores]
        common = sorted(set.intersection(*top) or set.union(*top))
        texts = [self.vocabulary.descriptors[i] for i in common]
        raw = self._encode_texts(texts)  # anew for every image
        relevance = raw @ image
        kept = [k for k in range(len(common)) if relevance[k] > relevance.mean() - OFFSET]
        plan = torch.exp(SCALE * scores[:, [common[k] for k in kept]].double())
        for _ in range(ROUNDS):
            plan = plan / plan.sum(1, keepdim=True)
            plan = plan / plan.sum(0, keepdim=True)
        chosen = {kept[j] for row in plan for j in row.argsort(descending=True)[:PER_PART].tolist()}
        ordered = sorted(chosen, key=lambda k: (-float(relevance[k]), k))
        return tuple(texts[k] for k in ordered[: 3 * PARTS])
