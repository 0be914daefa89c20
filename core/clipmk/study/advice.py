"""What a study says to do, in sentences with the numbers behind them, for the page, the terminal, JSON and the app.

The functions here find the numbers, `assets/templates/advice.txt` has the words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from clipmk.concepts.statistics import POOLED, Floats, LineFit, mean_interval
from clipmk.output.html import render
from clipmk.study.cues import SIGNIFICANT, misleads
from clipmk.study.results import Results
from clipmk.study.schema import TableRow, images_schema
from clipmk.system.parquet import read_table

FEW: Final = 30  # fewer images than this hardly tell anything
CLASSES_NAMED: Final = 5  # most classes whose misleading cues have a sentence of their own
Finding = tuple[str, dict[str, Any]]  # the kind of an advice, and its numbers


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do or to know."""

    kind: str
    """"accuracy", "probability", "measure", "cue", "ranking" or "limit"."""
    text: str
    numbers: dict[str, Any]
    """What the sentence says, unrounded."""


def advice(results: Results) -> list[Advice]:
    """What to do, the most important first."""
    models, tests = results.models, results.cues_tested
    order = [row["model"] for row in _by_accuracy(models)]
    told = [row for row in results.wrong() if row["model"] in order and row["auroc"] is not None]
    wrong = sorted(told, key=lambda row: order.index(row["model"]))
    found = [
        *(most_accurate(models, correct_by_model(results)) if order else ()),
        *distrust([row for row in wrong if row["wrong_below"] is not None and row["wrong_above"] is not None]),
        *best_measure(wrong),
        *misleading(results.cues(), tests),
        *ranking(models, results.lines),
        *limits(results, tests),
    ]
    return [Advice(kind, sentence(kind, numbers, results.names), numbers) for kind, numbers in found]


def sentence(kind: str, numbers: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """An advice in words; `names` has how models are written."""
    return " ".join(render("advice.txt", **numbers, kind=kind, names=names).split())


def correct_by_model(results: Results) -> dict[str, Floats]:
    """Per model 1 for each image of the dataset that it predicts right, 0 for wrong, NaN for unknown."""
    manifest = results.manifest
    columns = ["image", "model", "parts", "correct"]
    table = read_table(results.folder.table("images"), images_schema(manifest.asks), columns)
    table = table.filter(pc.equal(table["parts"], manifest.parts[0]))
    found = {}
    for row in results.models:
        rows = table.filter(pc.equal(table["model"], row["model"]))
        found[row["model"]] = correct = np.full(manifest.dataset.images, np.nan)
        correct[rows["image"].to_numpy()] = rows["correct"].cast("float64").to_numpy()
    return found


def most_accurate(models: Sequence[TableRow], correct: Mapping[str, Floats]) -> Iterator[Finding]:
    """Which model is right most often, and the paired difference to the next; or which cannot be told apart."""
    best, *others = _by_accuracy(models)
    numbers = _some(best, "model", "top1", "top1_low", "top1_high", "labelled") | {"next": None, "tied": []}
    if others:
        paired = {row["model"]: _ahead(correct[best["model"]], correct[row["model"]]) for row in others}
        tied = [model for model, one in paired.items() if one["p"] >= SIGNIFICANT or one["ahead"] <= 0]
        numbers |= {"next": others[0]["model"], "tied": tied, **paired[others[0]["model"]]}
    yield "accuracy", numbers


def distrust(rows: Sequence[TableRow]) -> Iterator[Finding]:
    """Below which probability the most accurate model, of the first row with a threshold, is wrong more often."""
    if rows:
        differ = [row["wrong_below_low"] > row["wrong_above_high"] for row in rows]
        ends = [f"wrong_{side}{end}" for side in ("below", "above") for end in ("", "_low", "_high")]
        times = rows[0]["wrong_below"] / rows[0]["wrong_above"] if rows[0]["wrong_above"] else None
        counts = {"others": len(rows) - 1, "others_differ": sum(differ[1:])}
        yield (
            "probability",
            _some(rows[0], "model", "threshold", *ends) | counts | {"differs": differ[0], "times": times},
        )


def best_measure(rows: Sequence[TableRow]) -> Iterator[Finding]:
    """What tells wrong predictions from right ones: the probability, or a measure that does better for most models."""
    if rows:
        better = [row for row in rows if (row["less_probability_low"] or 0) > 0]
        measures, models = [row["measure"] for row in better], len({row["model"] for row in rows})
        measure = next((one for one in measures if 2 * measures.count(one) > models), "probability")
        row = next(row for row in rows if row["measure"] == measure)
        does_better = {one["model"] for one in better if measure in {"probability", one["measure"]}}
        counts = {"better": len(does_better), "models": models}
        yield "measure", _some(row, "model", "measure", "auroc", "auroc_low", "auroc_high", "less_probability") | counts


def misleading(rows: Sequence[TableRow], tests: int) -> Iterator[Finding]:
    """The clearest cue that misleads to each class, for all models that it misleads; or that none is found."""
    found = sorted(filter(misleads, rows), key=lambda row: (row["class"], row["q"], row["text"], row["model"]))
    classes = sorted((list(group) for _, group in groupby(found, key=itemgetter("class"))), key=lambda one: one[0]["q"])
    for row, *others in classes[:CLASSES_NAMED]:
        also = sorted({one["model"] for one in others if one["text"] == row["text"]} - {row["model"]})
        related = dict.fromkeys(one["text"] for one in others if one["text"] != row["text"])
        yield "cue", row | {"also": also, "related": list(related)}
    further = max(0, len(classes) - CLASSES_NAMED)
    if further or (tests and not classes):
        yield "cue", {"classes": further, "tests": tests}


def ranking(models: Sequence[TableRow], lines: Sequence[LineFit]) -> Iterator[Finding]:
    """What ranks models without labels: what follows accuracy here or, without labels, mean confidence."""
    if len(models) > 1 and not _by_accuracy(models):
        ordered = sorted(models, key=lambda row: -row["probability"])
        yield "ranking", {"confidence": {row["model"]: row["probability"] for row in ordered}}
    groups = [line.group for line in lines]
    group = POOLED if POOLED in groups else next(iter(groups), None)
    compared = [line for line in lines if line.group == group and line.spearman.value is not None]
    if compared:
        best = max(compared, key=lambda line: line.spearman.value or 0)
        low, p = best.spearman.low, best.spearman.p  # neither: ten models or more, in exactly this order
        told = low > 0 if low is not None else p is None or p < SIGNIFICANT
        rho = {line.name: line.spearman.value for line in compared}
        yield "ranking", {"models": best.count, "best": best.name, "told": told, "rho": rho}


def limits(results: Results, tests: int) -> Iterator[Finding]:
    """What cannot be said, and why."""
    done, images = results.completeness, max(row["images"] for row in results.models)
    if not _by_accuracy(results.models):
        yield "limit", {"labelled": 0}
    elif not tests:
        yield "limit", {"tests": 0}
    if results.manifest.dataset.classes == 1:
        yield "limit", {"classes": 1}
    if len(results.models) == 1:
        yield "limit", {"models": 1}
    if images < FEW:
        yield "limit", {"images": images}
    if not done.complete:
        yield "limit", {"done": done.done, "total": done.total}


def _by_accuracy(models: Sequence[TableRow]) -> list[TableRow]:
    """Models of known accuracy, the most accurate first; equal ones stay in their order."""
    return sorted((row for row in models if row["top1"] is not None), key=lambda row: -row["top1"])


def _some(row: TableRow, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _ahead(ours: Floats, theirs: Floats) -> dict[str, Any]:
    """Ours less theirs over the images known of both, with its interval, and McNemar's exact p."""
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

    differences = (ours - theirs)[~np.isnan(ours - theirs)]
    estimate, differ = mean_interval(differences), int(np.count_nonzero(differences))
    p = float(binomtest(int((differences > 0).sum()), differ).pvalue) if differ else 1.0
    return {"ahead": estimate.value, "ahead_low": estimate.low, "ahead_high": estimate.high, "p": p}
