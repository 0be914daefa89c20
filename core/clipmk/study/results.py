"""A study's tables, read for the report and the terminal."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from clipmk.concepts.statistics import POOLED, LineFit, fit_line
from clipmk.errors import InputError, UsageError, suggest
from clipmk.models.catalog import EMBEDDED
from clipmk.records import FAMILIES
from clipmk.study.concepts import ConceptTotals
from clipmk.study.cues import found_cues
from clipmk.study.manifest import Manifest, StudyFolder, read_manifest
from clipmk.study.schema import MEAN, TABLES, TableRow, images_schema
from clipmk.study.tables import Completeness, tables_of, write_tables
from clipmk.system.locations import json_asset
from clipmk.system.parquet import open_table, read_table
from clipmk.system.text import quoted

FAILURES_KEPT: Final = 200  # failures that are listed one by one


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be explained, and by how many models and part methods."""

    key: str
    error: str
    times: int


RIVALS: Final[dict[str, Callable[[TableRow], float]]] = {
    "m": lambda row: float(row["mutual_count"]),
    "AUC": lambda row: float(row["auc"]),
    "AUC / chance": lambda row: row["auc"] / row["chance_auc"] if row["chance_auc"] else 0.0,
    "AUC unpadded": lambda row: float(row["auc_unpadded"]),
    "mean confidence": lambda row: float(row["probability"]),
}
"""AUC, and what else follows accuracy without knowing a label, from a row of the table `models`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a study found, as far as it is done."""

    folder: StudyFolder
    manifest: Manifest
    completeness: Completeness
    shown_parts: str
    """The part method that is shown: `MEAN` if there are several (and an image that all of them explained)."""
    models: tuple[TableRow, ...]
    """Rows of the table `models` under `shown_parts`, by family, in the manifest's order within."""
    all_rows: tuple[TableRow, ...]
    """All rows of the table `models`."""
    lines: tuple[LineFit, ...]
    """Of every rival, per family of at least four models, and pooled; y in per cent."""

    @property
    def fits(self) -> tuple[LineFit, ...]:
        """The lines of AUC."""
        return tuple(one for one in self.lines if one.name == "AUC")

    @property
    def names(self) -> dict[str, str]:
        """`ViT-B-16 datacomp` for open_clip's pairs, the end of the path for others, the id where two are the same."""
        short = {row["model"]: _short_name(row) for row in self.models}
        times = Counter(short.values())
        return {model: name if times[name] == 1 else model for model, name in short.items()}

    def model(self, name: str) -> str:
        """The id of a model, named by it or as in `names`; UsageError if there are no results of it."""
        known = {shown: model for model, shown in self.names.items()} | {model: model for model in self.names}
        if name not in known:
            raise UsageError(f"the study has no results of model {quoted(name)}; {suggest(name, known)}")
        return known[name]

    @property
    def families(self) -> dict[str, list[TableRow]]:
        """Rows of `models` by family."""
        return {family: list(rows) for family, rows in groupby(self.models, key=lambda row: str(row["family"]))}

    def rows(self, name: str) -> list[TableRow]:
        """Rows of one of `schema.TABLES`, none where the study does not have it; InputError if the table is damaged."""
        wanted = name in tables_of(self.manifest)
        rows: list[TableRow] = read_table(self.folder.table(name), TABLES[name]).to_pylist() if wanted else []
        return rows

    def classes(self) -> list[TableRow]:
        """Rows of the table `classes` under `shown_parts`."""
        return [row for row in self.rows("classes") if row["parts"] == self.shown_parts]

    def wrong(self) -> list[TableRow]:
        """Rows of the table `wrong` under `shown_parts`, models in the order of `models`."""
        order = [row["model"] for row in self.models]
        rows = [row for row in self.rows("wrong") if row["parts"] == self.shown_parts and row["model"] in order]
        return sorted(rows, key=lambda row: order.index(row["model"]))

    def cues(self) -> list[TableRow]:
        """Rows of the table `cues` that are found, see `cues.found_cues`; the table itself may be large."""
        return found_cues(self.folder)

    @property
    def cues_tested(self) -> int:
        """Rows of the table `cues`."""
        with open_table(self.folder.table("cues"), TABLES["cues"]) as file:
            return int(file.metadata.num_rows)

    def concepts(self) -> ConceptTotals:
        """The table `concepts`, added up over models and part methods."""
        explanations = sum(row["images"] for row in self.all_rows if row["parts"] != MEAN)
        columns = TABLES["concepts"]
        counts = columns.names[columns.get_field_index("descriptor") + 1 :]
        table = read_table(self.folder.table("concepts"), columns).group_by("descriptor")
        sums = table.aggregate([(name, "sum") for name in counts]).select(["descriptor", *(f"{c}_sum" for c in counts)])
        return ConceptTotals(explanations, sums.rename_columns(["descriptor", *counts]).to_pylist())


def family_name(family: str) -> str:
    """How a family is written in tables and pictures."""
    return FAMILIES.get(family, family)


def failed_images(folder: StudyFolder) -> tuple[list[FailedImage], int]:
    """The first images that failed, in the dataset's order, and how many failed in all."""
    if not any(read_table(folder.table("models"), TABLES["models"], ["failed"])["failed"].to_pylist()):
        return [], 0  # the table of images is large
    times: Counter[tuple[int, str, str]] = Counter()
    with open_table(folder.table("images"), images_schema(read_manifest(folder.manifest).asks)) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=["image", "key", "error"])
            failed = group.filter(group.column("error").is_valid())
            times.update(zip(*(failed.column(name).to_pylist() for name in failed.column_names), strict=True))
    found = [FailedImage(key, error, count) for (_, key, error), count in sorted(times.items())[:FAILURES_KEPT]]
    return found, len({image for image, _, _ in times})


def read_results(folder: StudyFolder) -> Results:
    """Read a study's tables, which are written first if they are missing or older than its shards.

    InputError if it is not a study, is damaged, or nothing was explained yet; ClipmkError if it cannot be written.
    """
    manifest = read_manifest(folder.manifest)
    completeness = write_tables(folder, manifest, unless_current=True)
    rows: list[TableRow] = read_table(folder.table("models"), TABLES["models"]).to_pylist()
    explained = [row for row in rows if row["images"]]
    if not explained:
        why = "all images failed" if rows else "no shard is finished"
        raise InputError(f"study {quoted(folder.root)} has no results yet: {why}")
    available = {row["parts"] for row in explained}
    parts = next(name for name in (MEAN, *manifest.parts) if name in available)
    shown = [row for row in explained if row["parts"] == parts]
    order = [*FAMILIES, *sorted({row["family"] for row in shown} - FAMILIES.keys())]
    shown.sort(key=lambda row: order.index(row["family"]))
    return Results(
        folder=folder,
        manifest=manifest,
        completeness=completeness,
        shown_parts=parts,
        models=tuple(shown),
        all_rows=tuple(rows),
        lines=tuple(_lines(shown)),
    )


def _lines(rows: Sequence[TableRow]) -> Iterator[LineFit]:
    known = [row for row in rows if row["top1"] is not None]
    families = list(dict.fromkeys(row["family"] for row in known))
    for group in [*families, *([POOLED] if len(families) > 1 else [])]:
        members = [row for row in known if group in {POOLED, row["family"]}]
        top1, recipes = [100 * row["top1"] for row in members], [recipe(row) for row in members]
        for name, value in RIVALS.items():
            found = fit_line(group, [value(row) for row in members], top1, recipes=recipes, name=name)
            if found is not None:
                yield found


def recipe(row: TableRow) -> str:
    """What a model of the table `models` was trained on, and how long; the id of one of which that is not known."""
    if row["model"].startswith(EMBEDDED):
        with contextlib.suppress(FileNotFoundError):  # of another version
            card = json_asset(f"models/{row['model'].removeprefix(EMBEDDED)}/card.json")["recipe"]
            return " ".join(str(card.get(name)) for name in ("split", "scenes", "scene_px", "noise", "steps"))
    return str(row["pretrained"] or row["model"])


def _short_name(row: TableRow) -> str:
    """Of one model; OpenAI's weights have one name with and without `-quickgelu`."""
    if row["pretrained"] is None:
        return str(row["model"]).rstrip("/").rpartition("/")[2] or str(row["model"])
    pretrained = str(row["pretrained"]).split("_s", maxsplit=1)[0].removesuffix("_xl")
    return f"{str(row['architecture']).removesuffix('-quickgelu')} {pretrained}"
