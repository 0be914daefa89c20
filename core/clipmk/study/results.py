"""A study's tables, read for whoever shows them: its report, and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc

from clipmk.concepts.statistics import POOLED, Fit, fit
from clipmk.errors import InputError
from clipmk.study.layout import StudyFolder
from clipmk.study.manifest import Manifest, read_manifest
from clipmk.study.paper import against_paper
from clipmk.study.schema import CLASSES, CONCEPTS, IMAGE, MEAN, MODELS
from clipmk.study.summary import Row
from clipmk.study.tables import Completeness, ensure_tables
from clipmk.system.parquet import read_groups, read_table
from clipmk.system.serialization import plain
from clipmk.system.text import quoted

FAMILIES: Final = {
    "vit": "ViT",
    "resnet": "ResNet",
    "convnext": "ConvNeXt",
    "siglip": "SigLIP",
    "eva": "EVA",
    "timm": "timm",
}
"""Names of families, in the order in which they are shown."""

FAILURES_KEPT: Final = 200
"""Failures that are told one by one."""


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be explained, and by how many models and ways."""

    key: str
    error: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a study found, as far as it is done."""

    folder: StudyFolder
    manifest: Manifest
    completeness: Completeness
    way: str
    """The way of finding parts that is shown: `MEAN` where there are several (and any image that all explained)."""
    models: tuple[Row, ...]
    """Rows of the table `models` under `way`, family by family, in the manifest's order within."""
    every_way: tuple[Row, ...]
    """All rows of the table `models`."""
    fits: tuple[Fit, ...]
    """Per family of at least four models, and pooled; y in per cent."""

    @property
    def names(self) -> dict[str, str]:
        """A short name of every model, by id."""
        return _short_names(self.models)

    @property
    def families(self) -> dict[str, list[Row]]:
        """Rows of `models` by family."""
        found: dict[str, list[Row]] = {}
        for row in self.models:
            found.setdefault(row["family"], []).append(row)
        return found

    def classes(self) -> list[Row]:
        """Rows of the table `classes` under `way`.

        Raises:
            InputError: the table is damaged.
        """
        table = read_table(self.folder.table("classes"), CLASSES)
        rows: list[Row] = table.filter(pc.equal(table.column("parts"), self.way)).to_pylist()
        return rows

    def concepts(self) -> list[Row]:
        """Rows of the table `concepts`, of every way.

        Raises:
            InputError: the table is damaged.
        """
        rows: list[Row] = read_table(self.folder.table("concepts"), CONCEPTS).to_pylist()
        return rows

    def failures(self) -> tuple[list[FailedImage], int]:
        """The first images that failed, in the order of the data set, and how many there are in all.

        Raises:
            InputError: the table `images` is damaged.
        """
        return failed_images(self.folder)


def failed_images(folder: StudyFolder) -> tuple[list[FailedImage], int]:
    """The first images that failed, in the order of the data set, and how many there are in all.

    Raises:
        InputError: the table `images` is missing or damaged.
    """
    times: Counter[tuple[int, str, str]] = Counter()
    for group in read_groups(folder.table("images"), IMAGE, ("image", "key", "error")):
        failed = group.filter(group.column("error").is_valid())
        times.update(zip(*(failed.column(name).to_pylist() for name in failed.column_names), strict=True))
    found = [FailedImage(key, error, count) for (_, key, error), count in sorted(times.items())[:FAILURES_KEPT]]
    return found, len({image for image, _, _ in times})


def read_results(root: StudyFolder) -> Results:
    """Read a study's tables; they are written first where they are missing or older than its shards.

    Raises:
        InputError: it is no study, nothing was explained yet, or a file is damaged; the message names it.
        ClipmkError: a table cannot be written.
    """
    manifest = read_manifest(root.manifest)
    completeness = ensure_tables(root, manifest)
    rows: list[Row] = read_table(root.table("models"), MODELS).to_pylist()
    if not any(row["images"] for row in rows):
        why = "all images failed" if rows else "no shard is finished"
        raise InputError(f"study {quoted(root.root)} has no results yet: {why}")
    way = next(way for way in (MEAN, *manifest.parts) if any(row["parts"] == way and row["images"] for row in rows))
    shown = [row for row in rows if row["parts"] == way and row["images"]]
    order = [*FAMILIES, *sorted({row["family"] for row in shown} - FAMILIES.keys())]
    shown.sort(key=lambda row: order.index(row["family"]))
    return Results(
        folder=root,
        manifest=manifest,
        completeness=completeness,
        way=way,
        models=tuple(shown),
        every_way=tuple(rows),
        fits=tuple(_fits(shown)),
    )


def family_name(family: str) -> str:
    """How a family is written."""
    return FAMILIES.get(family, family)


def results_document(results: Results, *, against: str | None = None) -> dict[str, Any]:
    """What `--json` prints under "study": rows of the table `models`, fits, and the paper's numbers if asked."""
    fits = [_fit_document(one) for one in results.fits]
    found: dict[str, Any] = {
        "folder": str(results.folder.root),
        "done_shards": results.completeness.done,
        "total_shards": results.completeness.total,
        "shown_parts": results.way,
        "models": list(results.every_way),
        "fits": fits,
        "paper": None,
    }
    if against == "paper":
        found["paper"] = [
            {
                "model": row.model,
                **{
                    name: {**plain(one), "difference": one.difference}
                    for name, one in (
                        ("top1_percent", row.top1),
                        ("mi_pca", row.mi[0]),
                        ("mi_kmeans", row.mi[1]),
                        ("auc_pca", row.auc[0]),
                        ("auc_kmeans", row.auc[1]),
                    )
                },
            }
            for row in against_paper(results.every_way)
        ]
    return found


def _fit_document(one: Fit) -> dict[str, Any]:
    return {
        "group": one.group,
        "models": one.count,
        "slope": one.slope,
        "intercept": one.intercept,
        "pearson": plain(one.pearson),
        "spearman": plain(one.spearman),
    }


def _fits(rows: Sequence[Row]) -> Iterator[Fit]:
    known = [row for row in rows if row["top1"] is not None]
    families = list(dict.fromkeys(row["family"] for row in known))
    for group in [*families, *([POOLED] if len(families) > 1 else [])]:
        members = [row for row in known if group in {POOLED, row["family"]}]
        found = fit(group, [row["auc"] for row in members], [100 * row["top1"] for row in members])
        if found is not None:
            yield found


def _short_names(rows: Sequence[Row]) -> dict[str, str]:
    """`ViT-B-16 datacomp` for open_clip's pairs, what stands behind the last slash for others; ids where they collide.

    OpenAI's weights are one thing under the names with and without `-quickgelu`.
    """
    short = {row["model"]: _short_name(row) for row in rows}
    times = Counter(short.values())
    return {model: name if times[name] == 1 else model for model, name in short.items()}


def _short_name(row: Row) -> str:
    if row["pretrained"] is None:
        return str(row["model"]).rstrip("/").rpartition("/")[2] or str(row["model"])
    pretrained = str(row["pretrained"])
    brief = pretrained.split("_s", maxsplit=1)[0].removesuffix("_xl")
    return f"{str(row['architecture']).removesuffix('-quickgelu')} {brief}"
