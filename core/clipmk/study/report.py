"""A study as one self-contained HTML file, its pictures beside it as PNG files.

Everything from outside is escaped; the page loads and runs nothing (see `clipmk.output.html`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from clipmk.output.html import page, safe
from clipmk.study import headline
from clipmk.study.concept_totals import SHOWN, concept_totals
from clipmk.study.headline import NONE, TextTable, number, percent
from clipmk.study.paper import departures
from clipmk.study.results import Results
from clipmk.study.summary import Row
from clipmk.system.files import atomic_write, make_folder
from clipmk.system.text import counted, one_or_many

if TYPE_CHECKING:
    from clipmk.study.figures import Plot

PAGE: Final = "index.html"
CLASSES_SHOWN: Final = 40
"""Classes listed per model; of more, half as many from either end."""
DPI: Final = 150

FAMILY_NOTE: Final = (
    "Models are grouped by family and never ranked across families: a ResNet of the same accuracy as a ViT has another "
    "AUC. Within a family a higher AUC means stronger mutual knowledge. Each step of a curve is worth about "
    "log(L_v · L_T), so AUC follows the rank of the last mutual concept."
)

_STYLE: Final = """
.study { font: 15px/1.55 system-ui, sans-serif; max-width: 76rem; margin: 0 auto 2rem; }
.study h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
.study h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; padding-bottom: .2rem; border-bottom: 1px solid #8886; }
.study h3 { font-size: 1rem; margin: 1.1rem 0 .2rem; }
.study p { max-width: 62rem; margin: .4rem 0; }
.study .note { opacity: .8; }
.study .warning { border-left: 4px solid #d55e00; padding-left: .7rem; }
.study .scroll { overflow-x: auto; margin: .5rem 0 1rem; }
.study table { border-collapse: collapse; width: auto; min-width: 40%; font-size: .92em; }
.study th, .study td { padding: .18rem .7rem .18rem 0; border-bottom: 1px solid #8883; white-space: nowrap; }
.study th { font-weight: 600; vertical-align: bottom; text-align: left; }
.study th.n, .study td.n { text-align: right; font-variant-numeric: tabular-nums; padding: .18rem 0 .18rem 1rem; }
.study td.text { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; }
.study tr.family th { padding-top: .8rem; }
.study figure { margin: .6rem 0 1rem; }
.study figure img { width: auto; max-width: 100%; height: auto; background: #fff; border-radius: 6px; padding: .5rem;
  box-sizing: border-box; }
.study figcaption { max-width: 62rem; }
.study details { margin: .3rem 0; }
.study summary { cursor: pointer; }
.study code { font-size: .9em; overflow-wrap: anywhere; }
@media (prefers-color-scheme: light) { .study figure img { border: 1px solid #ddd; } }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e4e4e4; }
  .study figure img { filter: brightness(.93); } }
"""


def write_report(results: Results, *, against: Literal["paper"] | None = None, dpi: int | None = None) -> Path:
    """Draw a study into its folder: `report/index.html` and the pictures as PNG files.

    Args:
        results: see `read_results`.
        against: "paper" sets the published table beside the numbers.
        dpi: pixels per inch of the pictures; None: `DPI`.

    Returns:
        The HTML file.

    Raises:
        InputError: a table of the study is damaged; the message names it.
        ClipmkError: a file cannot be written.
    """
    from clipmk.study.figures import plots  # noqa: PLC0415 - matplotlib

    folder = results.folder.report
    make_folder(folder)
    drawn = list(plots(results, published_line=against == "paper", dpi=dpi or DPI))
    for plot in drawn:
        _write(folder / f"{plot.name}.png", plot.png)
    target = folder / PAGE
    _write(target, study_page(results, drawn, against=against).encode())
    return target


def study_page(results: Results, drawn: Sequence[Plot], *, against: Literal["paper"] | None = None) -> str:
    """The HTML text of the report."""
    pictures = {plot.name: plot for plot in drawn}
    body = [
        '<main class="study">',
        _head(results),
        _numbers(results),
        *(_figure(pictures[name]) for name in ("dynamics",) if name in pictures),
        _accuracy(results, pictures.get("auc_accuracy")),
        _paper(results) if against == "paper" else "",
        _classes(results, pictures.get("classes")),
        _concepts(results, pictures.get("concepts")),
        _split(results, pictures.get("right_wrong")),
        _failures(results),
        _record(results),
        "</main>",
    ]
    name = results.manifest.dataset.name
    return page([piece for piece in body if piece], title=f"clipmk study of {name}", style=_STYLE)


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path, private=False) as handle:
        handle.write(data)


def _head(results: Results) -> str:
    manifest, done = results.manifest, results.completeness
    data, words = manifest.dataset, manifest.vocabulary
    preset = manifest.settings.get("preset")
    about = (
        f"{counted(data.images, 'image')} ({data.kind}), {data.labelled:,} of them labelled with "
        f"{counted(data.classes, 'class', 'classes')}; {counted(len(manifest.models), 'model')}; vocabulary "
        f"{words.name}: {counted(words.classes, 'class', 'classes')}, {counted(words.descriptors, 'descriptor')}; "
        f"preset {preset}; parts by {' and '.join(manifest.parts)}."
    )
    pieces = [f"<h1>Study of {safe(data.name)}</h1>", f"<p>{safe(about)}</p>"]
    if not done.complete:
        share = f"{done.done:,} of {counted(done.total, 'shard')} ({100 * done.done / max(1, done.total):.0f} %)"
        verb = one_or_many(done.done, "is", "are")
        pieces.append(f'<p class="warning">This study is not finished: {share} {verb} done. Numbers will change.</p>')
    return "\n".join(pieces)


def _numbers(results: Results) -> str:
    ways = ""
    if len(results.manifest.parts) > 1:
        ways = f" Values are means over {' and '.join(results.manifest.parts)} per image, where both explained it."
    chance = " “Chance” is what as many random descriptors of the same vocabulary would give."
    return "\n".join((
        "<h2>Models</h2>",
        f'<p class="note">{safe(FAMILY_NOTE + ways + chance)}</p>',
        _families(headline.headline_wide(results)),
        _details("By way of finding parts", _table(headline.by_way(results)))
        if len(results.manifest.parts) > 1
        else "",
    ))  # fmt: skip


def _accuracy(results: Results, plot: Plot | None) -> str:
    if plot is None:
        return '<p class="warning">No image has a known label: there is no accuracy to compare with.</p>'
    if not results.fits:
        table = '<p class="note">No family has four models of known accuracy: no line is fitted.</p>'
    else:
        table = _table(headline.fits(results)) + (
            '<p class="note">Least squares over models. Intervals of r are Fisher’s, of rho those of Bonett and '
            "Wright, wide with few models; below ten of them rho has, in place of an interval, the share p of all "
            "orders of the models in which |rho| is as large or larger. The line through all families mixes AUCs that "
            "are not comparable; read it with that in mind.</p>"
        )
    return _figure(plot) + table


def _paper(results: Results) -> str:
    tables = headline.paper_tables(results, wide=True)
    differs = "".join(f"<li>{safe(one)}</li>" for one in departures(results.manifest))
    pieces = ["<h2>Against the paper</h2>"]
    if not tables:
        pieces.append('<p class="warning">None of the paper\'s 13 models was studied.</p>')
    pieces += [f"<h3>{safe(table.title)}</h3>{_table(table)}" for table in tables]
    pieces.append(f"<h3>What differs from the paper’s study</h3><ul>{differs}</ul>")
    return "\n".join(pieces)


def _classes(results: Results, plot: Plot | None) -> str:
    if plot is None:
        return ""
    rows = results.classes()
    tables = []
    for model in results.models:
        own = [row for row in rows if row["model"] == model["model"]]
        table = _table(_class_table(own), text_columns=(0, 6))
        tables.append(_details(results.names[model["model"]], table))
    return "\n".join((
        _figure(plot),
        "<h3>Classes of each model</h3>",
        f'<p class="note">From the lowest AUC to the highest{_cut(rows, results)}.</p>',
        *tables,
    ))  # fmt: skip


def _cut(rows: Sequence[Row], results: Results) -> str:
    count = len(rows) // max(1, len(results.models))
    if count <= CLASSES_SHOWN:
        return ""
    return f", {CLASSES_SHOWN // 2} from either end; tables/classes.csv has all {count}"


def _class_table(rows: Iterable[Row]) -> TextTable:
    ordered = sorted(rows, key=lambda row: (row["auc"] is None, row["auc"] or 0.0, row["class"]))
    half = CLASSES_SHOWN // 2
    shown = ordered if len(ordered) <= CLASSES_SHOWN else [*ordered[:half], *ordered[-half:]]
    cells = tuple(
        (
            row["class"],
            str(row["images"]),
            percent(row["top1"]),
            number(row["mi_paper"]),
            number(row["auc"]),
            number(row["mutual_count"]),
            row["confused_with"] or NONE,
        )
        for row in shown
    )
    return TextTable("", ("class", "images", "top-1 %", "MI", "AUC", "m", "most often taken for"), cells)


def _concepts(results: Results, plot: Plot | None) -> str:
    if plot is None:
        return ""
    rows = results.concepts()
    totals = concept_totals(results, rows)
    columns = ("concept", "mutual", "missed", "seen", "tied", "mutual, right", "mutual, wrong")
    tables = [
        f"<h3>Most {words}</h3>"
        + _table(
            TextTable(
                "",
                columns,
                tuple(
                    (text, *(f"{getattr(one, field):,}" for field in ("mutual", "missed", "seen", "tied")),
                     f"{one.mutual_right:,}", f"{one.mutual_wrong:,}")
                    for text, one in totals.most(name, SHOWN)
                ),
            ),
            text_columns=(0,),
        )
        for name, words in (("mutual", "shared"), ("missed", "missed"))
    ]  # fmt: skip
    note = (
        f"Counts are out of {counted(totals.explanations, 'explanation')} (images × models × ways of finding parts). "
        "Seen: among the vision concepts; tied: among the language concepts of the predicted class; mutual: both; "
        "missed: tied but not seen. tables/concepts.parquet has them by model."
    )
    return "\n".join((_figure(plot), _details("Numbers", f'<p class="note">{note}</p>' + "".join(tables))))


def _split(results: Results, plot: Plot | None) -> str:
    if plot is None:
        return ""
    return _figure(plot) + _details("Numbers", _table(headline.right_wrong(results)))


def _failures(results: Results) -> str:
    found, count = results.failures()
    if not count:
        return "<h2>Failures</h2><p>Every image was explained.</p>"
    cells = tuple((one.key, one.error, str(one.times)) for one in found)
    more = "" if count <= len(found) else f", the first {len(found)} of which are listed"
    table = TextTable("", ("image", "why", "models × ways"), cells)
    return (
        f'<h2>Failures</h2><p class="warning">{counted(count, "image")} could not be explained{more}; '
        f"{one_or_many(count, 'it counts', 'they count')} in no mean.</p>"
        + _details("Which, and why", _table(table, text_columns=(0, 1)))
    )


def _record(results: Results) -> str:
    manifest = results.manifest
    models = TextTable(
        "",
        ("model", "id", "input", "SHA-256 of the weights"),
        tuple(
            (results.names.get(one.id, one.id), one.id, f"{one.input_size} px", one.weights_sha256)
            for one in manifest.models
        ),
    )
    facts = {
        "data set": f"{manifest.dataset.name} ({manifest.dataset.kind}), SHA-256 {manifest.dataset.fingerprint}",
        "vocabulary": f"{manifest.vocabulary.name}, SHA-256 {manifest.vocabulary.sha256}",
        "templates": " | ".join(manifest.vocabulary.templates),
        "descriptors as": manifest.vocabulary.descriptor_template,
        "shards": f"{manifest.shards:,} of up to {counted(manifest.shard_size, 'image')}, "
        f"batches of {manifest.batch_size}",
        "computed on": f"{manifest.device}, {manifest.dtype}"
        + ("" if manifest.threads is None else f", {counted(manifest.threads, 'thread')}"),
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    if manifest.command is not None:
        facts["made by"] = manifest.command
    settings = {name: json.dumps(value, ensure_ascii=False) for name, value in manifest.settings.items()}
    return "\n".join((
        "<h2>What was studied</h2>",
        _facts(facts),
        _details("Settings", _facts(settings)),
        _details("Models and their weights", _table(models, text_columns=(0, 1, 2, 3))),
    ))  # fmt: skip


def _facts(facts: dict[str, str]) -> str:
    rows = "".join(
        f'<tr><td>{safe(name)}</td><td class="text">{safe(value)}</td></tr>' for name, value in facts.items()
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def _details(title: str, inner: str) -> str:
    return f"<details><summary>{safe(title)}</summary>{inner}</details>"


def _figure(plot: Plot) -> str:
    data = base64.b64encode(plot.png).decode("ascii")
    return (
        f"<h2>{safe(plot.title)}</h2>\n<figure><figcaption>{safe(plot.reading)}</figcaption>"
        f'<img alt="{safe(plot.alt)}" src="data:image/png;base64,{data}"></figure>'
    )


def _families(tables: Sequence[TextTable]) -> str:
    """Tables with the same columns as one, a heading before each."""
    columns = tables[0].columns
    bodies = (
        f'<tbody><tr class="family"><th colspan="{len(columns)}">{safe(table.title)}</th></tr>'
        f"{_rows(table, (0,))}</tbody>"
        for table in tables
    )
    return f'<div class="scroll"><table>{_header(columns, (0,))}{"".join(bodies)}</table></div>'


def _table(table: TextTable, *, text_columns: Sequence[int] = (0,)) -> str:
    body = f"{_header(table.columns, text_columns)}<tbody>{_rows(table, text_columns)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def _header(columns: Sequence[str], text_columns: Sequence[int]) -> str:
    cells = (
        f'<th scope="col"{"" if index in text_columns else _RIGHT}>{safe(name)}</th>'
        for index, name in enumerate(columns)
    )
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


_RIGHT: Final = ' class="n"'


def _rows(table: TextTable, text_columns: Sequence[int]) -> str:
    return "".join(
        "<tr>"
        + "".join(
            f'<td class="{"text" if index in text_columns else "n"}">{safe(cell)}</td>'
            for index, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.rows
    )
