"""Do the descriptors found on images help to classify them? The paper's zero-shot gain, with controls.

For each class y the two nearest classes in the language embedding space are taken. The first descriptor of each part
of each image of those two classes is added to the descriptors of y, every descriptor is put into the prompt, and the
images are classified again by the mean prompt embedding of each class (`prompt_sets.class_embeddings`).

**As published this is transductive**: descriptors come from the very images, and by the very labels, on which accuracy
is then measured. The paper moreover leaves "overly discriminative" classes as they are without a rule for finding them,
which can only be judged by that accuracy; here every class takes its neighbours' descriptors. Beside it stands an
honest split: the images of each class are halved, and each half is classified with the descriptors found on the other.

Controls for every number: as many random descriptors of the vocabulary, of the same lengths in words, and as many
strings of random words, both over several seeds; and other sources of descriptors that look at no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64
from clipmk.concepts.selection import highest
from clipmk.evaluate import prompt_sets
from clipmk.evaluate.baselines import PENALTIES, centred, decompose, ranked
from clipmk.evaluate.metrics import intervals
from clipmk.evaluate.report import Row
from clipmk.evaluate.variants import Measure, Variant, VariantResult, with_found_parts

if TYPE_CHECKING:
    from clipmk.evaluate.samples import Sample
    from clipmk.pipeline.explainer import Explainer
    from clipmk.pipeline.grounding import Progress

RANDOM_DRAWS = 5
WORD_DRAWS = 3
NEAREST, SPARSE = "nearest to the image", "sparse decomposition"
"""Sources of descriptors that look at no part."""
DECOMPOSED_TOGETHER = 64  # images whose weights, under all penalties, are in memory at once
IMAGE_DESCRIPTORS = 5  # descriptors that such a source takes from each image: as many as the paper has parts


@dataclass(frozen=True, slots=True)
class _Half:
    """Which images give descriptors, and which are classified with them."""

    mode: str
    given: frozenset[int]
    """Halves (0, 1) that descriptors come from."""
    judged: frozenset[int]


_BOTH = frozenset({0, 1})
_HALVES = (
    _Half("transductive", _BOTH, _BOTH),
    _Half("held out", frozenset({0}), frozenset({1})),
    _Half("held out", frozenset({1}), frozenset({0})),
)


class ZeroShot(Measure):
    """Gathers labels, embeddings and first descriptors; one embedding and a few numbers per image stay in memory."""

    def __init__(
        self, explainer: Explainer, variants: Iterable[Variant], *, seed: int, progress: Progress | None = None
    ) -> None:
        super().__init__("zero_shot", with_found_parts(variants), seed=seed)
        self._explainer, self._progress = explainer, progress
        self.prompt = prompt_sets.prompt_that_fits(explainer.backbone, explainer.vocabulary)
        """The prompt that the model's context holds."""
        self.notes = (f"prompt: {self.prompt}", *self.notes)
        self._labels: list[int] = []
        self._images_of: Counter[int] = Counter()
        self._halves: list[int] = []
        self._embeddings: list[torch.Tensor] = []
        self._found: dict[str, list[list[int]]] = defaultdict(list)

    def takes(self, sample: Sample) -> bool:
        """Labelled images; the harness refuses datasets without labels."""
        return sample.label is not None

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Keep what one labelled image shows."""
        if sample.label is None:
            raise ValueError("the zero-shot gain needs labelled images")
        label = self._explainer.vocabulary.classes.index(sample.label)
        self._halves.append(self._images_of[label] % 2)
        self._images_of[label] += 1
        self._labels.append(label)
        embedding = results[self.variants[0]].image.embedding
        self._embeddings.append(embedding)
        for variant in self.variants:
            self._found[variant.name].append([first for first, *_ in results[variant].vision.top_descriptors])
        nearest = highest(self._explainer.bank.descriptors @ embedding, IMAGE_DESCRIPTORS)
        self._found[NEAREST].append(nearest.tolist())

    def finish(self, data: str) -> list[Row]:
        """Rows of the dataset: every source of descriptors, transductive and held out."""
        if not self._labels:
            return []
        plans = {(name, half): self._plan(found, half) for name, found in self._found.items() for half in _HALVES}
        plans |= {(SPARSE, half): self._plan(self._decomposed(half.given), half) for half in _HALVES}
        sets: dict[str, prompt_sets.Sets] = {"before": self._texts([[] for _ in self._own])}
        for (name, half), plan in plans.items():
            prefix = f"{name}|{_HALVES.index(half)}"
            sets |= {f"{prefix}|{kind}": texts for kind, texts in self._with_controls(plan).items()}
        right = self._classify(sets, stage=f"{data}: class prompts")
        judged: dict[str, list[dict[str, NDArray[np.float64]]]] = defaultdict(list)
        for (name, half), plan in plans.items():
            values = self._values(right, f"{name}|{_HALVES.index(half)}", half, plan)
            judged[f"{name}: {half.mode}"].append(values)  # the two held-out halves land in the same row
        return [self._row(data, name, halves) for name, halves in judged.items()]

    def _row(self, data: str, name: str, halves: Sequence[Mapping[str, NDArray[np.float64]]]) -> Row:
        """Means over the images of all halves; their intervals are over classes, and draws of the controls."""
        joined = {metric: np.concatenate([half[metric] for half in halves], axis=1) for metric in halves[0]}
        classes = joined.pop("class")[0].astype(np.int64)
        return Row(data, name, intervals(joined, classes, seed=self.seed), images=joined, clusters=classes)

    @cached_property
    def _own(self) -> list[list[int]]:
        """For each class the vocabulary's own descriptors of it."""
        vocabulary = self._explainer.vocabulary
        ids = {text: index for index, text in enumerate(vocabulary.descriptors)}
        return [[ids[text] for text in vocabulary.by_class.get(name, ())] for name in vocabulary.classes]

    def _decomposed(self, given: frozenset[int]) -> list[list[int]]:
        """Descriptors of the sparse decomposition for the images that give some, of which alone it knows; else none."""
        giving = [index for index, side in enumerate(self._halves) if side in given]
        if not giving:
            return [[] for _ in self._halves]
        images = host64(torch.stack([self._embeddings[index] for index in giving])).numpy()
        bank = host64(self._explainer.bank.descriptors).numpy()
        found = dict(zip(giving, sparse_descriptors(images, bank, count=IMAGE_DESCRIPTORS), strict=True))
        return [found.get(index, []) for index in range(len(self._halves))]

    def _plan(self, found: Sequence[list[int]], half: _Half) -> list[list[int]]:
        """What a source adds to each class, of what it found in each image."""
        by_label: dict[int, list[list[int]]] = defaultdict(list)
        for label, side, descriptors in zip(self._labels, self._halves, found, strict=True):
            if side in half.given:
                by_label[label].append(descriptors)
        added = prompt_sets.neighbour_descriptors(by_label, prompt_sets.nearest_classes(self._explainer.bank.classes))
        return [sorted(set(new) - set(own)) for new, own in zip(added, self._own, strict=True)]

    def _with_controls(self, plan: Sequence[Sequence[int]]) -> dict[str, prompt_sets.Sets]:
        """The plan and its controls, as texts."""
        vocabulary = self._explainer.vocabulary
        lengths = [len(text.split()) for text in vocabulary.descriptors]
        made: dict[str, prompt_sets.Sets] = {"after": self._texts(plan)}
        for draw in range(RANDOM_DRAWS):
            rng = np.random.default_rng([self.seed, draw])
            pairs = zip(plan, self._own, strict=True)
            drawn = [
                prompt_sets.matched_random_descriptors(new, lengths=lengths, without=own, rng=rng) for new, own in pairs
            ]
            made[f"random{draw}"] = self._texts(drawn)
        for draw in range(WORD_DRAWS):
            words = prompt_sets.random_words(vocabulary.descriptors, seed=self.seed + draw)
            made[f"words{draw}"] = self._texts(plan, instead=words)
        return made

    def _texts(self, added: Sequence[Sequence[int]], *, instead: Sequence[str] | None = None) -> prompt_sets.Sets:
        """Own and added descriptors of each class; `instead` gives the texts of the added ones."""
        texts = self._explainer.vocabulary.descriptors
        new = texts if instead is None else instead
        pairs = zip(self._own, added, strict=True)
        return [[*(texts[i] for i in own), *(new[i] for i in more)] for own, more in pairs]

    def _classify(self, sets: Mapping[str, prompt_sets.Sets], *, stage: str) -> dict[str, NDArray[np.float64]]:
        """Name of the sets -> for each image whether they classify it rightly."""
        vocabulary = self._explainer.vocabulary
        rows = prompt_sets.class_embeddings(
            self._explainer.backbone,
            lambda index, descriptor: prompt_sets.fill_prompt(self.prompt, vocabulary.classes[index], descriptor),
            sets,
            fallback=vocabulary.class_prompts,
            progress=None if self._progress is None else partial(self._progress, stage),
        )
        rows["templates"] = host64(self._explainer.bank.classes)
        images, labels = host64(torch.stack(self._embeddings)), torch.tensor(self._labels)
        return {name: host64((images @ classes.T).argmax(dim=1) == labels).numpy() for name, classes in rows.items()}

    def _values(
        self, right: Mapping[str, NDArray[np.float64]], prefix: str, half: _Half, plan: list[list[int]]
    ) -> dict[str, NDArray[np.float64]]:
        """Values of one source on the images that a half classifies, (draws, images); and the class of each."""
        judged = np.asarray([side in half.judged for side in self._halves])
        random = np.stack([right[f"{prefix}|random{draw}"] for draw in range(RANDOM_DRAWS)])
        words = np.stack([right[f"{prefix}|words{draw}"] for draw in range(WORD_DRAWS)])
        before, after = right["before"], right[f"{prefix}|after"]
        columns = {
            "templates": right["templates"],
            "before": before,
            "after": after,
            "random": random,
            "words": words,
            "gain": after - before,
            "random_gain": random - before,
            "words_gain": words - before,
            "over_random": after - random,
            "over_words": after - words,
            "added": np.asarray([float(len(plan[label])) for label in self._labels]),
            "class": np.asarray(self._labels, dtype=np.float64),
        }
        return {metric: np.atleast_2d(column)[:, judged] for metric, column in columns.items()}


def sparse_descriptors(images: NDArray[np.float64], descriptors: NDArray[np.float64], *, count: int) -> list[list[int]]:
    """For each image the `count` descriptors that weigh most in its sparse decomposition over the vocabulary.

    All embeddings are L2-normalised, those of the images centred over all of them. Of `PENALTIES` the strongest is
    taken under which `count` descriptors take part, else the weakest; nothing is tuned on labels.
    """
    atoms = centred(descriptors, descriptors.mean(axis=0))
    targets = centred(images, images.mean(axis=0))
    chosen = []
    for start in range(0, len(targets), DECOMPOSED_TOGETHER):
        every = decompose(targets[start : start + DECOMPOSED_TOGETHER], atoms, penalties=PENALTIES)
        for weights in every.swapaxes(0, 1):  # of one image, (penalties, descriptors)
            enough = np.flatnonzero((weights > 0).sum(axis=1) >= count)
            row = weights[enough[0] if len(enough) else -1]
            chosen.append(list(ranked(row, most=count)))
    return chosen
