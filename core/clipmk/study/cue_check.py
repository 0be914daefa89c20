"""Does a prediction change when the parts that carry a cue are blurred, more often than when other parts are?

Images are explained again, one by one, with the settings of the study. The control is as large: pixels of other
parts around one that is drawn at random, and of what surrounds these parts where they do not suffice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmk.concepts.prompts import blur_region
from clipmk.datasets.entries import evenly_spread
from clipmk.datasets.opening import reader_of
from clipmk.errors import ImageError, InputError
from clipmk.models.loading import load
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import Progress, no_progress
from clipmk.pipeline.segmentation import masks_at
from clipmk.settings import Settings
from clipmk.study.cues import cue_checks, cue_key, misleads
from clipmk.study.plan import PlannedImage, read_images
from clipmk.study.run import locked
from clipmk.study.schema import CUE_CHECKS, LANGUAGE, TableRow, check_concepts, images_schema
from clipmk.system.parquet import open_table, read_table, write_rows
from clipmk.system.serialization import from_plain
from clipmk.system.text import quoted
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from clipmk.study.results import Results

CHECKED: Final = 5  # cues that are checked per model: so many that mislead, and so many that support


def check_cues(
    results: Results,
    *,
    count: int,
    models: Collection[str] = (),
    device: str = "auto",
    progress: Progress = no_progress,
) -> None:
    """Blur the first found cues of each model in up to `count` of their images, and keep the flips in `CUE_CHECKS`.

    They are kept as soon as a model is done, so that little is lost where `progress` raises an exception.
    Raises `InputError` if the dataset or the vocabulary is no longer what the study saw, `ModelError` if a model is not
    on this machine, `ClipmkError` if another run uses the study's folder.
    """
    cues = results.cues()
    with locked(results.folder):
        for model in (one.id for one in results.manifest.models if not models or one.id in models):
            kinds = ([cue for cue in cues if cue["model"] == model and misleads(cue) is kind] for kind in (True, False))
            chosen = [cue for kind in kinds for cue in kind[:CHECKED]]
            if not chosen:
                continue
            progress(f"loading {model}", 0, 0)
            check = _ModelCheck(results, model, device)
            checked = list[TableRow]()
            for cue in chosen:
                progress(f"cues of {model}", len(checked), len(chosen))
                checked.append(cue | check.flips(cue, count))
            _keep(results, checked)


def elsewhere(
    region: NDArray[np.bool_], parts: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """As many pixels as the region has, bool (S, S), of other parts around one of them; None where there is no room."""
    free, size = ~region, int(region.sum())
    own = np.flatnonzero(parts & free)
    if not len(own) or free.sum() < size:
        return None
    y, x = divmod(int(rng.choice(own)), len(region))
    rows, columns = np.indices(region.shape)
    distance = np.hypot(rows - y, columns - x) + 2 * len(region) * ~parts + 4 * len(region) * region
    moved = np.zeros_like(region)
    moved.flat[np.argsort(distance, axis=None, kind="stable")[:size]] = True
    return moved


class _ModelCheck:
    """One model of a study, loaded again, and the concepts of its images."""

    def __init__(self, results: Results, model: str, device: str) -> None:
        manifest, self._plan = results.manifest, results.folder.plan
        backbone = load(model, device=device)
        if {one.id: one.weights_sha256 for one in manifest.models}[model] != backbone.info.weights_sha256:
            raise InputError(f"model {quoted(model)} is no longer the one that was studied: its weights differ")
        self._settings = replace(from_plain(Settings, manifest.settings), fit="image")
        self._explainer = Explainer(backbone, _vocabulary(results, model), self._settings)
        self._reader, self._asks = reader_of(manifest.dataset), manifest.asks
        with open_table(results.folder.table("images"), images_schema(manifest.asks)) as file:
            groups = map(file.read_row_group, range(file.num_row_groups))
            self._rows = pa.concat_tables([group.filter(pc.equal(group["model"], model)) for group in groups])
            check_concepts(self._rows)

    def flips(self, cue: TableRow, count: int) -> TableRow:
        """The columns of `CUE_CHECKS` that say what blurring it did."""
        from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

        images = evenly_spread(self._images(cue), count)
        explainer = self._explainer.with_settings(replace(self._settings, parts=cue["parts"]))
        pairs = [pair for one in read_images(self._plan, images) if (pair := self._flipped(explainer, one, cue))]
        flips, controls = (sum(pair[kind] for pair in pairs) for kind in (0, 1))
        different = sum(own != control for own, control in pairs)
        p = float(binomtest((different + flips - controls) // 2, different).pvalue) if different else 1.0
        return {"blurred": len(pairs), "flips": flips, "control_flips": controls, "check_p": p if pairs else None}

    def _images(self, cue: TableRow) -> list[int]:
        """Images predicted as the class in which the text is mutual."""
        rows = self._rows.filter(pc.field("parts") == cue["parts"]).filter(pc.field("predicted") == cue["class"])
        if cue["asked"]:
            place = self._asks.index(cue["text"])
            both = (pc.list_element(rows[f"asked_{name}"], place) for name in ("seen", "tied"))
            return list(rows.filter(pc.and_(*both))["image"].to_pylist())
        lists, mutual = (rows[name].combine_chunks() for name in ("vision_concepts", "mutual"))
        hits = pc.and_(pc.equal(lists.flatten(), cue["text"]), mutual.flatten())
        return list(rows["image"].take(pc.list_parent_indices(lists).filter(hits)).to_pylist())

    def _flipped(self, explainer: Explainer, image: PlannedImage, cue: TableRow) -> tuple[bool, bool] | None:
        """Whether the prediction changes without the parts that carry the cue, and without as much elsewhere.

        None where it cannot be said: the image cannot be read or encoded any more, alone it is predicted otherwise, no
        part carries the cue, or there is no room for the control.
        """
        try:
            picture = self._reader.read(image.entry)
        except ImageError:
            return None
        encoded = explainer.encode_picture(picture, maps=cue["asked"])
        explanation = explainer.answer(picture, encoded, asks=[cue["text"]] if cue["asked"] else [])
        carriers = explanation.asked[0].parts if cue["asked"] else explanation.parts_of({cue["text"]})
        if explanation.class_name != cue["class"] or not carriers:
            return None
        square = encoded.square
        masks = masks_at(encoded.segmentations[0].masks, len(square))
        region, parts = (np.asarray(one.any(axis=0)) for one in (masks[[part - 1 for part in carriers]], masks))
        control = elsewhere(region, parts, np.random.default_rng([self._settings.seed, image.image]))
        if control is None:
            return None
        blurred = explainer.embed(np.stack([blur_region(square, hidden) for hidden in (region, control)]))
        own, other = (explainer.builder.predict(one)[0].class_name != cue["class"] for one in blurred)
        return own, other


def _vocabulary(results: Results, model: str) -> Vocabulary:
    """The vocabulary of a study, with its own classes."""
    about = results.manifest.vocabulary
    found = load_vocabulary(about.name)
    if found.sha256 != about.sha256:
        language = read_table(results.folder.language(model), LANGUAGE, ["class"])
        found = found.with_classes(language["class"].unique().to_pylist())
    if found.sha256 != about.sha256:
        raise InputError(f"vocabulary {quoted(about.name)} is no longer the one that was studied")
    return found


def _keep(results: Results, found: Sequence[TableRow]) -> None:
    """Add rows to `CUE_CHECKS`, in place of older ones about the same cues."""
    rows = cue_checks(results.folder) | {cue_key(row): row for row in found}
    kept = [{name: row[name] for name in CUE_CHECKS.names} for row in rows.values()]
    write_rows(kept, results.folder.table("cue_checks"), CUE_CHECKS, results.manifest.made_of())
