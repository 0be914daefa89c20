"""What a study says to do, in sentences with the numbers behind them, for the page, the terminal, JSON and the app."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from clipmk.concepts.statistics import POOLED, Floats, LineFit, mean_interval
from clipmk.study.cues import SIGNIFICANT, misleads
from clipmk.study.results import Results
from clipmk.study.schema import TableRow, images_schema
from clipmk.system.parquet import read_table
from clipmk.system.text import counted, one_or_many, printable

FEW: Final = 30
"""Fewer images than this hardly tell anything."""
NAMED: Final = 5
"""Most cues with a sentence of their own, and most models named in one."""

_ENDS: Final = ("", "_low", "_high")
"""Of the three columns of an interval."""

Names = Mapping[str, str]
"""Model -> how it is written."""


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
    models, names, tests = results.models, results.names, results.cues_tested
    order = {row["model"]: place for place, row in enumerate(_by_accuracy(models))}
    wrong = [row for row in results.rows("wrong") if row["parts"] == results.shown_parts and row["model"] in order]
    wrong.sort(key=lambda row: order[row["model"]])
    return [
        *(most_accurate(models, names, correct_by_model(results)) if order else ()),
        *distrust([row for row in wrong if row["wrong_below"] is not None and row["wrong_above"] is not None], names),
        *best_measure([row for row in wrong if row["auroc"] is not None], names),
        *misleading(results.cues(), tests, names),
        *ranking(models, results.lines, names),
        *limits(results, tests),
    ]


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


def most_accurate(models: Sequence[TableRow], names: Names, correct: Mapping[str, Floats]) -> Iterator[Advice]:
    """Which model is right most often, and the paired difference to the next; or which cannot be told apart."""
    best, *others = _by_accuracy(models)
    name, share = names[best["model"]], f"{_percent(best['top1'])} of {counted(best['labelled'], 'image')}"
    numbers = {column: best[column] for column in ("model", "top1", "top1_low", "top1_high", "labelled")}
    if not others:
        yield Advice("accuracy", f"{name} is right for {share}.", numbers)
        return
    paired = [_ahead(correct[best["model"]], correct[row["model"]]) for row in others]
    told = [one["p"] < SIGNIFICANT and one["ahead"] > 0 for one in paired]
    tied = [names[row["model"]] for row, known in zip(others, told, strict=True) if not known]
    numbers |= {"next": others[0]["model"], **paired[0], "tied": len(tied)}
    ahead, low, high = (f"{100 * (paired[0][f'ahead{end}'] or 0):.1f}" for end in _ENDS)
    points = f"{ahead} points [{low}, {high}]"
    if tied:
        text = (
            f"No difference can be told between {name}, right for {share}, and {_some(tied)}: "
            f"{names[others[0]['model']]} is behind by {points} on the same images (p {paired[0]['p']:.2g})."
        )
    else:
        text = f"{name} is right most often: for {share}, {points} more than {names[others[0]['model']]}, the next."
    yield Advice("accuracy", text, numbers)


def distrust(rows: Sequence[TableRow], names: Names) -> Iterator[Advice]:
    """Below which probability a model is wrong how many times as often; rows with a threshold, the best model first."""
    if not rows:
        return
    first, clear = rows[0], [row["model"] for row in rows if row["wrong_below_low"] > row["wrong_above_high"]]
    name, limit, below, above = names[first["model"]], first["threshold"], first["wrong_below"], first["wrong_above"]
    times = below / above if above else None
    shares = f"{_percent(below)} of the images, above it for {_percent(above)}"
    if first["model"] not in clear:
        text = f"The probability of {name} hardly tells when it is wrong: below {100 * limit:.4g} % for {shares}."
    else:
        often = f": {times:.1f} times as often" if times else ""
        text = f"Distrust {name} below a probability of {100 * limit:.4g} %: there it is wrong for {shares}{often}."
    if others := [row for row in rows if row is not first]:
        count = len({*clear} - {first["model"]})
        text += f" The least certain fifth is wrong more often for {count} of {counted(len(others), 'other model')}."
    columns = ("model", "threshold", *(f"wrong_{side}{end}" for side in ("below", "above") for end in _ENDS))
    yield Advice("probability", text, {column: first[column] for column in columns} | {"times": times})


def best_measure(rows: Sequence[TableRow], names: Names) -> Iterator[Advice]:
    """What tells wrong predictions from right ones: the probability, or a measure that does better for most models."""
    if not rows:
        return
    better = [row for row in rows if (row["less_probability_low"] or 0) > 0]
    measures = [row["measure"] for row in better]
    most = max(measures, key=measures.count, default=None)
    total = len({row["model"] for row in rows})
    if most is not None and 2 * measures.count(most) > total:
        row = next(row for row in better if row["measure"] == most)
        text = (
            f"{most} tells wrong predictions better than the probability does, for {measures.count(most)} of "
            f"{counted(total, 'model')}: AUROC {row['auroc']:.2f} against {row['auroc'] - row['less_probability']:.2f} "
            f"for {names[row['model']]}."
        )
    else:
        row = next(row for row in rows if row["measure"] == "probability")
        auroc = f"AUROC {row['auroc']:.2f} for {names[row['model']]}"
        text = f"To find wrong predictions use the probability ({auroc}): no other measure here does better."
    columns = ("model", "measure", "auroc", "auroc_low", "auroc_high", "less_probability")
    yield Advice("measure", text, {column: row[column] for column in columns})


def misleading(rows: Sequence[TableRow], tests: int, names: Names) -> Iterator[Advice]:
    """Which cue misleads to which class, the clearest first, one sentence for all models that it misleads."""
    found = sorted(filter(misleads, rows), key=lambda row: (row["text"], row["class"], row["q"]))
    cues = [list(group) for _, group in groupby(found, key=lambda row: (row["text"], row["class"]))]
    cues.sort(key=lambda group: (group[0]["q"], group[0]["text"]))
    for row, *others in cues[:NAMED]:
        errors = [row["mutual_wrong"], row["other_wrong"]]
        images = [errors[0] + row["mutual_right"], errors[1] + row["other_right"]]
        shares = [_percent(wrong / max(1, count), 0) for wrong, count in zip(errors, images, strict=True)]
        text = (
            f"“{printable(row['text'])}” misleads {names[row['model']]} to “{printable(row['class'])}”: of the "
            f"{counted(images[0], 'image')} predicted so with it {shares[0]} are wrong, of the {images[1]:,} without "
            f"it {shares[1]} (q {row['q']:.2g})."
        )
        if row["blurred"]:
            text += (
                f" With it blurred {row['flips']} of {counted(row['blurred'], 'prediction')} change, "
                f"with as much blurred elsewhere {row['control_flips']} (p {row['check_p']:.2g})."
            )
        if models := sorted({one["model"] for one in others} - {row["model"]}):
            text += f" So it does {_some([names[model] for model in models])}."
        yield Advice("cue", text, row | {"models": [row["model"], *models]})
    if len(cues) > NAMED:
        text = f"{counted(len(cues) - NAMED, 'further cue')} {one_or_many(len(cues) - NAMED, 'misleads', 'mislead')}."
        yield Advice("cue", text, {"cues": len(cues)})
    if tests and not cues:
        text = (
            f"No concept is found to mislead: of {counted(tests, 'test')} none with more errors has q < {SIGNIFICANT}."
        )
        yield Advice("cue", text, {"tests": tests, "cues": 0})


def ranking(models: Sequence[TableRow], lines: Sequence[LineFit], names: Names) -> Iterator[Advice]:
    """What ranks models without labels: what follows accuracy here or, without labels, did elsewhere."""
    if len(models) < 2:
        return
    if not _by_accuracy(models):
        ordered = sorted(models, key=lambda row: -row["probability"])
        listed = _some([f"{names[row['model']]} {_percent(row['probability'])}" for row in ordered])
        text = f"Without labels, mean confidence is the best guess at which model is right most often: {listed}."
        yield Advice("ranking", text, {row["model"]: row["probability"] for row in ordered})
        return
    groups = [line.group for line in lines]
    group = POOLED if POOLED in groups else next(iter(groups), None)
    compared = [line for line in lines if line.group == group and line.spearman.value is not None]
    if not compared:
        return
    best = max(compared, key=lambda line: line.spearman.value or 0)
    rho = {line.name: line.spearman.value for line in compared}
    others = ", ".join(f"{name} {value:.2f}" for name, value in rho.items() if name != best.name)
    low, p = best.spearman.low, best.spearman.p  # neither: ten models or more, in exactly this order
    known = low > 0 if low is not None else p is None or p < SIGNIFICANT
    if known:
        text = f"Without labels, {best.name} ranks these {best.count} models best (rho with accuracy "
    else:
        text = f"What ranks models without labels cannot be told from {best.count} of them (rho of {best.name} "
    text += f"{best.spearman.value:.2f}; {others})."
    yield Advice("ranking", text, {"models": best.count, "best": best.name, "told": known, "rho": rho})


def limits(results: Results, tests: int) -> Iterator[Advice]:
    """What cannot be said, and why."""
    rows, manifest, done = results.models, results.manifest, results.completeness
    images, labelled = (max(row[name] for row in rows) for name in ("images", "labelled"))
    if not labelled:
        text = "No image has a known label: accuracy, errors and misleading cues are unknown."
        yield Advice("limit", text, {"labelled": 0})
    elif not tests:
        text = "Which concept misleads cannot be tested: no model predicts a class often enough."
        yield Advice("limit", text, {"labelled": labelled})
    if labelled and manifest.dataset.classes < 2:
        yield Advice("limit", "All labels are one class: what is confused with what cannot be said.", {"classes": 1})
    if len(rows) < 2:
        yield Advice("limit", "With one model there is nothing to compare; --extend adds others.", {"models": 1})
    if images < FEW:
        text = f"{counted(images, 'image')} {one_or_many(images, 'is', 'are')} too few to tell models apart."
        yield Advice("limit", text, {"images": images})
    if not done.complete:
        text = f"The study is not finished ({done.done:,} of {counted(done.total, 'shard')}): numbers will change."
        yield Advice("limit", text, {"done": done.done, "total": done.total})


def _by_accuracy(models: Sequence[TableRow]) -> list[TableRow]:
    """Models of known accuracy, the most accurate first; equal ones stay in their order."""
    return sorted((row for row in models if row["top1"] is not None), key=lambda row: -row["top1"])


def _ahead(ours: Floats, theirs: Floats) -> dict[str, Any]:
    """Ours less theirs over the images known of both, with its interval, and McNemar's exact p."""
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

    differences = (ours - theirs)[~np.isnan(ours - theirs)]
    estimate, differ = mean_interval(differences), int(np.count_nonzero(differences))
    p = float(binomtest(int((differences > 0).sum()), differ).pvalue) if differ else 1.0
    return {"ahead": estimate.value, "ahead_low": estimate.low, "ahead_high": estimate.high, "p": p}


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
