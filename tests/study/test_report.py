"""The report of a study: what is in it, that it is self-contained and escaped, that its pictures are readable."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.text import Text

from clipmk.concepts.statistics import POOLED, Estimate, RankEstimate, fit_line
from clipmk.errors import InputError
from clipmk.models.catalog import pool
from clipmk.output import document
from clipmk.records import FAMILIES
from clipmk.study.advice import advice
from clipmk.study.document import results_document
from clipmk.study.manifest import StudyFolder, write_manifest
from clipmk.study.report import write_report
from clipmk.study.results import RIVALS, Results, failed_images, read_results, recipe
from clipmk.study.schema import IMAGE, MEAN, TABLES
from clipmk.study.text_tables import class_grid, estimate, family_tables, fit_table, model_table, paper_tables
from clipmk.system.parquet import read_table
from study_shards import (
    POOL,
    failed_row,
    image_row,
    make_manifest,
    models,
    write_language,
    write_plan,
    write_shard,
    write_study,
)

SIX = (*POOL[:4], *POOL[11:])
EMBEDDED = ("vit-s8", None, "vit", 0.9)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = write_study(tmp_path_factory.mktemp("study"), make_manifest(pool=SIX), pool=SIX)
    return read_results(folder)


@pytest.fixture(scope="module")
def page(study: Results) -> str:
    return write_report(study, against="paper").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def tiny(
    root: Path, rows: list[dict[str, Any]], *, parts: tuple[str, ...] = ("superpixels",), shards: int = 1
) -> StudyFolder:
    """A study of one model of which one shard is done."""
    info = replace(models(POOL[:1])[0], id="embedded/vit-s8", architecture="vit-s8", pretrained=None)
    manifest = replace(make_manifest(pool=POOL[:1]), models=(info,), parts=parts, shards=shards)
    folder = StudyFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest, folder.manifest)
    write_plan(folder, manifest)
    write_language(folder, manifest, info, ["a", "b"])
    write_shard(folder, manifest, info, 0, [dict.fromkeys(IMAGE.names) | row | {"model": info.id} for row in rows])
    return folder


def test_the_page_loads_nothing_and_runs_only_its_own_script(page: str) -> None:
    found = Tags(page)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in found.tags}
    assert all(str(attrs["src"]).startswith("data:image/webp;base64,") for tag, attrs in found.tags if tag == "img")
    bare = re.sub(r'src="data:[^"]*"|xmlns(:xlink)?="http://www.w3.org/[^"]*"', "", page)
    assert not re.search(r"(?:https?:)?//[a-z]|url\((?!#)|@import", bare)
    [script] = re.findall(r"<script>(.*)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'content="{policy}"' in page


def test_every_chart_is_in_the_page_in_its_colours_and_beside_it_in_those_of_paper(study: Results, page: str) -> None:
    labels = [attrs["aria-label"] for tag, attrs in Tags(page).tags if tag == "svg"]
    files = {path.stem: path.read_text(encoding="utf-8") for path in study.folder.report.glob("*.svg")}
    assert files.keys() == {"auc_accuracy", "wrong", *(f"dynamics-{place}" for place in range(6))}
    assert len(labels) == len(files)
    row = study.models[0]
    assert labels.count(f"Strength of ViT-B-32 openai from {row['curve'][0]:.2f} to 0 as concepts are left out") == 1
    for text in files.values():
        ET.fromstring(text)  # noqa: S314 - our own
        assert "var(" not in text
    drawn = "".join(re.findall(r"<svg .*?</svg>", page, re.DOTALL))
    colours = set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#000000"}
    assert colours == set()
    variables = set(re.findall(r"var\(--(\w+)\)", drawn))
    assert {"ink", "grey", "grid", "vit", "convnext"} <= variables
    style = page[: page.index("</style>")]
    assert all(style.count(f"--{name}: ") == 2 for name in variables)  # light and dark


def test_names_from_outside_are_escaped(page: str) -> None:
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat &amp; dog&lt;/b&gt;" in page


def test_the_page_shows_data_models_settings_and_failures(study: Results, page: str) -> None:
    text = Tags(page).text
    manifest = study.manifest
    expected = [manifest.dataset.fingerprint, manifest.vocabulary.sha256, "a photo showing {}", "torch 2.9.0", "batch"]
    expected += [model.weights_sha256 for model in manifest.models] + [model.id for model in manifest.models]
    expected += ["image '00007.jpg' is truncated", "2 images could not be explained", "never ranked across families"]
    assert [one for one in expected if one not in text] == []
    assert "not finished" not in text


def test_the_page_has_the_numbers_of_the_tables(study: Results, page: str) -> None:
    text = Tags(page).text
    for row in study.models:
        assert f"{row['auc']:.2f} [{row['auc_low']:.2f}, {row['auc_high']:.2f}]" in text
        assert f"{100 * row['top1']:.1f} [{100 * row['top1_low']:.1f}, {100 * row['top1_high']:.1f}]" in text
    [vits, pooled] = study.fits
    assert f"{vits.slope:.2f} AUC + {vits.intercept:.2f}" in text
    assert (vits.group, vits.count, pooled.count) == ("vit", 4, 6)
    assert estimate(vits.spearman) in text


def tables_of(page: str) -> dict[tuple[str, ...], list[list[str]]]:
    """The rows of every table by its headings; those of the same headings together."""
    found: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        plain = [
            [html.unescape(re.sub(r"<[^>]*>", "", cell)).strip().replace("\u00a0", " ") for cell in cells]
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
            if (cells := re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL))
        ]
        found[tuple(plain[0])] += plain[1:]
    return found


def written(row: dict[str, Any], name: str, *, factor: float = 1, digits: int = 2) -> str:
    value, low, high = (
        None if row[f"{name}{end}"] is None else factor * row[f"{name}{end}"] for end in ("", "_low", "_high")
    )
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def test_the_numbers_of_the_page_are_those_of_the_json(study: Results, page: str) -> None:
    found, tables = results_document(study), tables_of(page)
    assert found["advice"] == [asdict(one) for one in advice(study)]
    text = Tags(page).text.replace("\u00a0", " ")
    assert all(one["text"] in text for one in found["advice"])
    wrong = {(row["model"], row["measure"]): row for row in found["wrong"] if row["parts"] == found["shown_parts"]}
    measures = ("probability", "margin", "m", "class swap p", "MI", "AUC")
    names = study.names
    for column, shown in (("auroc", measures), ("less_probability", measures[1:])):
        expected = [[names[model], *(written(wrong[model, one], column) for one in shown)] for model in names]
        assert any(expected == tables["model", *shown][i : i + len(expected)] for i in (0, len(names)))
    below = tables["model", "threshold %", "wrong below % [95 %]", "wrong above % [95 %]", "wrong", "images"]
    rates = [wrong[model, "probability"] for model in names]
    for row, cells in zip(rates, below, strict=True):
        assert cells[1:4] == [
            f"{100 * row['threshold']:.1f}",
            *(written(row, f"wrong_{side}", factor=100, digits=1) for side in ("below", "above")),
        ]
        assert cells[4:] == [str(row["wrong"]), str(row["images"])]
    classes = [row for row in found["classes"] if row["auc"] is not None]
    own = next(rows for headings, rows in tables.items() if headings[-1] == "most often predicted instead")
    assert sorted(cells[0] for cells in own) == sorted(row["class"] for row in classes)
    for row in classes:
        assert any(cells[0] == row["class"] and f"{row['auc']:.2f}" in cells for cells in own)
    counts = ("mutual", "missed", "seen", "tied", "mutual_right", "mutual_wrong")
    concepts = {row["descriptor"]: row for row in found["concepts"]}
    for cells in tables["concept", *(name.replace("_", ", ") for name in counts)]:
        assert cells[1:] == [f"{concepts[cells[0]][name]:,}" for name in counts]
    assert [cells[:2] for cells in tables["image", "reason", "models × part methods"]] == [
        [one["key"], one["error"]] for one in found["failures"]
    ]
    rivals = tables["accuracy against", "r [95 %]", "rho [95 %] or (p)", "r [without one recipe]"]
    pearson = [estimate(Estimate(**one["pearson"])) for one in found["rivals"]]
    assert [cells[:2] for cells in rivals] == [
        [one["name"], r] for one, r in zip(found["rivals"], pearson, strict=True)
    ]


def test_marks_and_notes_of_people_are_shown_and_damaged_ones_named(study: Results, tmp_path: Path) -> None:
    shutil.copytree(study.folder.root, tmp_path, dirs_exist_ok=True)
    results, notes = read_results(StudyFolder(tmp_path)), tmp_path / "notes.csv"
    assert "Marks and notes" not in write_report(results).read_text(encoding="utf-8")
    notes.write_text('"image","mark","note"\n"00003.jpg","x","<i>look</i> again"\n')
    page = write_report(results).read_text(encoding="utf-8")
    assert tables_of(page)["image", "mark", "note"] == [["00003.jpg", "x", "<i>look</i> again"]]
    assert "<i>look" not in page
    notes.write_bytes(b"\xff\xfe\xff")
    assert "notes.csv&#39; is malformed" in write_report(results).read_text(encoding="utf-8")
    notes.write_text("path,note\n", encoding="utf-8")
    assert "have other columns than image, mark, note" in write_report(results).read_text(encoding="utf-8")


def test_the_page_says_how_many_pictures_are_left_out(page: str) -> None:
    assert re.search(
        r"\d+ pictures left out because the image cannot be read any more", " ".join(Tags(page).text.split())
    )
    assert "<img" not in page


def test_lines_are_fitted_to_the_rows_shown(study: Results) -> None:
    vits = [row for row in study.models if row["family"] == "vit"]
    slope, intercept = np.polyfit([row["auc"] for row in vits], [100 * row["top1"] for row in vits], 1)
    assert (study.fits[0].slope, study.fits[0].intercept) == pytest.approx((slope, intercept))
    assert [table.title for table in family_tables(study)] == ["ViT", "ConvNeXt"]
    assert len(family_tables(study, wide=True)[0].columns) == len(family_tables(study, wide=True)[0].rows[0])
    assert [row[0] for row in fit_table(study).rows] == ["ViT", "all families"]


def test_the_papers_numbers_are_beside_ours(study: Results, page: str) -> None:
    values, lines = paper_tables(study, wide=True)
    row = next(row for row in study.all_rows if (row["model"], row["parts"]) == (study.models[0]["model"], "pca"))
    assert values.columns[10] == "AUC pca paper"
    assert values.rows[0][10:13] == ("3.61", f"{row['auc']:.2f}", f"{row['auc'] - 3.61:+.2f}")
    assert [name for name, *_ in lines.rows[:4]] == [
        "ViT, as the paper prints it",
        "ViT, the paper's table",
        "ViT, the paper's table, models studied here",
        "ViT, this study",
    ]
    assert lines.rows[1][2] == "11.25 AUC + 25.90"
    assert "the paper's is the ImageNet validation set" in Tags(page).text


def test_an_unlabelled_unfinished_study_has_a_report(tmp_path: Path) -> None:
    tied = [f"t{i}" for i in range(8)]
    rows = [image_row(i, "superpixels", ["t0", "x"], tied, label=None) for i in range(3)]
    folder = tiny(tmp_path, rows, shards=4)
    results = read_results(folder)
    text = Tags(write_report(results, against="paper").read_text(encoding="utf-8")).text
    assert "1 of 4 shards (25 %)" in text
    assert "No image has a known label" in text
    assert "None of the paper's 13 models was studied" in text
    assert {path.name for path in folder.report.iterdir()} == {"index.html", "dynamics-0.svg"}
    assert (results.shown_parts, results.fits, results.names) == ("superpixels", (), {"embedded/vit-s8": "vit-s8"})


def test_names_of_any_script_can_be_drawn(tmp_path: Path) -> None:
    names = ["猫", "a $5 $ note_{", "\x1b[31mred", "x" * 200, "قطة"]
    rows = [image_row(i, "superpixels", ["t0"], ["t0"], label=name) for i, name in enumerate(names)]
    page = write_report(read_results(tiny(tmp_path, rows))).read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "猫" in page


def test_a_part_method_that_failed_is_replaced_by_another(tmp_path: Path) -> None:
    rows = [image_row(0, "kmeans", ["t0"], ["t0"]), failed_row(0, "pca")]
    assert read_results(tiny(tmp_path, rows, parts=("kmeans", "pca"))).shown_parts == "kmeans"


def test_many_classes_are_shown_by_their_extremes() -> None:
    found = [{"model": m, "family": f, "pretrained": None} for m, f in (("p/a", "vit"), ("p/b", "resnet"))]
    results = Results(
        folder=StudyFolder(Path()), manifest=make_manifest(), completeness=None, shown_parts=MEAN,  # type: ignore[arg-type]
        models=tuple(found), all_rows=(), lines=(),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [
        {"model": model, "class": f"c{number:02d}", "auc": number / 10 + shift + 0.01 * rng.random()}
        for model, shift in (("p/a", 0.0), ("p/b", 3.0))
        for number in range(60)
    ]
    grid = class_grid(results, [*rows, {"model": "p/a", "class": "unseen", "auc": None}])
    names = [*(f"c{number:02d}" for number in range(59, 39, -1)), *(f"c{n:02d}" for n in range(19, -1, -1))]
    assert [line.name for line in grid] == names
    assert [text for text, _ in grid[0].cells] == [f"{row['auc']:.2f}" for row in (rows[59], rows[119])]
    weights = np.array([[weight for _, weight in line.cells] for line in grid])
    above = np.array([[row["auc"] for row in rows[start : start + 60]] for start in (0, 60)])
    above -= above.mean(axis=1, keepdims=True)
    shown = above[:, [int(name[1:]) for name in names]].T
    assert weights == pytest.approx(shown / np.abs(shown).max())
    assert class_grid(results, []) == []


def test_a_class_that_one_model_lacks_has_a_dash_without_a_colour() -> None:
    found = [{"model": m, "family": "vit", "pretrained": None} for m in ("p/a", "p/b")]
    results = Results(
        folder=StudyFolder(Path()), manifest=make_manifest(), completeness=None, shown_parts=MEAN,  # type: ignore[arg-type]
        models=tuple(found), all_rows=(), lines=(),
    )  # fmt: skip
    rows = [
        {"model": m, "class": c, "auc": auc} for m, c, auc in (("p/a", "x", 1.0), ("p/b", "x", 2.0), ("p/a", "y", 3.0))
    ]
    cells = {line.name: line.cells for line in class_grid(results, rows)}
    assert cells == {"y": (("3.00", 1.0), ("–", 0.0)), "x": (("1.00", -1.0), ("2.00", 0.0))}


def test_names_in_a_crowd_cover_neither_one_another_nor_a_mark() -> None:
    from clipmk.study.charts import figure_of, name_marks  # noqa: PLC0415

    figure = figure_of(4.2, 6.6)
    axes = figure.subplots()
    axes.set_xlim(0, 4)
    axes.set_ylim(50, 90)
    rng = np.random.default_rng(1)
    at = zip(rng.normal(3.5, 0.2, 30), rng.normal(75, 2, 30), strict=True)
    rows = [{"model": f"m{i}", "family": "vit", "auc": x, "top1": y / 100} for i, (x, y) in enumerate(at)]
    name_marks(axes, rows, {row["model"]: f"ViT-B-{row['model']} openai" for row in rows})
    figure.draw_without_rendering()
    # without their lines
    boxes = [Text.get_window_extent(one).extents for one in axes.texts]
    right = axes.get_window_extent().xmax
    for one, other in itertools.combinations(boxes, 2):
        assert one[1] >= other[3] or other[1] >= one[3]
    for box in boxes:
        assert right < box[0] < box[2] <= figure.bbox.xmax
        assert 0 <= box[1] < box[3] <= figure.bbox.ymax
    by_height = [one.get_text() for one in sorted(axes.texts, key=lambda one: one.get_position()[1])]
    assert by_height == [f"ViT-B-{row['model']} openai" for row in sorted(rows, key=lambda row: row["top1"])]


def test_families_differ_in_colour_and_in_shape() -> None:
    from clipmk.study.charts import family_style  # noqa: PLC0415

    looks = [family_style(family) for family in FAMILIES]
    for name in ("colour", "marker"):
        assert len({getattr(one, name) for one in looks}) == len(FAMILIES)
    fitted = [family_style(family).line for family in ("vit", "resnet", "convnext", "siglip", "eva")]
    assert len(set(fitted)) == 5


def test_the_same_study_gives_the_same_page(study: Results, page: str) -> None:
    assert write_report(study, against="paper").read_text(encoding="utf-8") == page


def test_concepts_add_up_over_models_and_part_methods(study: Results) -> None:
    rows = read_table(study.folder.table("concepts"), TABLES["concepts"]).to_pylist()
    totals = study.concepts()
    assert totals.explanations == sum(row["images"] for row in study.all_rows if row["parts"] != MEAN)
    for name in ("seen", "tied", "mutual", "missed", "mutual_right", "mutual_wrong"):
        expected: Counter[str] = Counter()
        for row in rows:
            expected[row["descriptor"]] += row[name]
        assert {row["descriptor"]: row[name] for row in totals.rows} == dict(expected)
    most = [(-row["mutual"], row["descriptor"]) for row in totals.most("mutual")]
    assert most == sorted((-row["mutual"], row["descriptor"]) for row in totals.rows)[: len(most)]


def test_the_json_of_results_has_every_row_and_the_papers_numbers(study: Results) -> None:
    found = results_document(study, against="paper")
    assert [row["model"] for row in found["models"]] == [row["model"] for row in study.all_rows]
    assert found["fits"][0]["models"] == 4
    assert found["paper"][0]["top1_percent"]["paper"] == 61.66
    assert results_document(study)["paper"] is None


def test_rivals_of_auc_are_held_against_the_accuracy_of_the_same_models(study: Results) -> None:
    assert [(one.group, one.name) for one in study.lines] == [(g, n) for g in ("vit", POOLED) for n in RIVALS]
    for one in study.lines:
        rows = [row for row in study.models if one.group in {POOLED, row["family"]}]
        quantity = {
            "m": [row["mutual_count"] for row in rows],
            "AUC": [row["auc"] for row in rows],
            "AUC / chance": [row["auc"] / row["chance_auc"] for row in rows],
            "AUC unpadded": [row["auc_unpadded"] for row in rows],
            "mean confidence": [row["probability"] for row in rows],
        }[one.name]
        top1, recipes = np.array([row["top1"] for row in rows]), np.array([row["pretrained"] for row in rows])
        assert (one.count, one.recipes) == (len(rows), len(set(recipes)))
        assert one.pearson.value == pytest.approx(np.corrcoef(quantity, top1)[0, 1])
        rest = [recipes != left for left in set(recipes)]
        if one.group == POOLED:
            left = [np.corrcoef(np.array(quantity)[kept], top1[kept])[0, 1] for kept in rest]
            assert (one.without_one.low, one.without_one.high) == pytest.approx((min(left), max(left)))
        else:  # two models of either recipe
            assert one.without_one.low is None


def test_seven_embedded_vits_are_four_recipes_and_models_of_one_tag_are_one() -> None:
    ids = [name for name in pool("zoo") if "vit" in name]
    found = {name: recipe({"model": name, "pretrained": None}) for name in ids}
    assert len(ids) == 7
    assert len(set(found.values())) == 4
    assert found["embedded/vit-xs8"] == found["embedded/vit-xs8-b"] == found["embedded/vit-xs8-unprompted"]
    assert found["embedded/vit-xs8-48"] == found["embedded/vit-xs8-48-b"] != found["embedded/vit-xs8"]
    assert recipe({"model": "ViT-B-32:openai", "pretrained": "openai"}) == "openai"
    assert recipe({"model": "embedded/gone", "pretrained": None}) == "embedded/gone"


def test_the_report_names_the_rivals_and_who_is_behind_whom(study: Results, page: str) -> None:
    for words in (
        "What follows accuracy",
        "mean confidence",
        "r [without one recipe]",
        "all families: 6 models of 4 recipes",
    ):
        assert words in page
    assert "Behind the most accurate model of the family" in page
    assert '<th scope="col">behind</th>' in page  # sorted as words
    assert "images that were fitted together count as one piece of evidence" in page
    behind = model_table("", study, [row for row in study.models if row["reference"]], "behind")
    assert list(behind.columns[:2]) == ["model", "behind"]
    named = {(study.names[row["model"]], study.names[row["reference"]]) for row in study.models if row["reference"]}
    assert {row[:2] for row in behind.rows} == named
    assert ("ViT-B-32 openai", "ViT-B-16 datacomp") in named


def test_the_json_of_fits_is_as_the_schema_says(study: Results, valid: Callable[[Any], None]) -> None:
    lines = [
        fit_line(name, range(count), [math.sin(x) for x in range(count)]) for name, count in (("vit", 5), ("eva", 12))
    ]
    found = results_document(replace(study, lines=tuple(one for one in lines if one is not None)))
    valid(document.versioned({"study": {**found, "report": None}}))
    few, many = (one["spearman"] for one in found["fits"])
    assert few["p"] is not None
    assert few["low"] is few["high"] is many["p"] is None
    assert many["low"] < many["value"] < many["high"]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Estimate(0.912, 0.507, 0.987), "0.91 [0.51, 0.99]"),
        (Estimate(1.0), "1.00"),
        (RankEstimate(0.786, p=0.048), "0.79 (p 0.048)"),
        (RankEstimate(1.0, p=2 / 5040), "1.00 (p < 0.001)"),
        (RankEstimate(0.687, 0.152, 0.911), "0.69 [0.15, 0.91]"),
        (RankEstimate(None), "–"),
    ],
)
def test_correlations_are_shown_with_their_certainty(one: Estimate | RankEstimate, words: str) -> None:
    assert estimate(one) == words


def test_short_names_are_unique(study: Results) -> None:
    assert list(study.names.values())[:3] == ["ViT-B-32 openai", "ViT-B-16 openai", "ViT-B-32 datacomp"]
    rows = ({"model": one, "family": "vit", "pretrained": None} for one in ("a/x", "b/x", "c/y"))
    assert replace(study, models=tuple(rows)).names == {"a/x": "a/x", "b/x": "b/x", "c/y": "y"}


def test_a_folder_that_is_not_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a study"):
        read_results(StudyFolder(tmp_path / "nowhere"))


def test_a_study_without_results_says_why(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "failed", [failed_row(0, "superpixels")])
    with pytest.raises(InputError, match="no results yet: all images failed"):
        read_results(folder)
    shutil.rmtree(folder.root / "shards")
    with pytest.raises(InputError, match="no results yet: no shard is finished"):
        read_results(folder)


@pytest.mark.parametrize("name", ["models", "classes", "concepts", "images"])
@pytest.mark.parametrize("damage", ["flip", "other", "missing"])
def test_a_damaged_table_is_rebuilt_from_the_shards(study: Results, tmp_path: Path, name: str, damage: str) -> None:
    shutil.copytree(study.folder.root, tmp_path, dirs_exist_ok=True)
    path = StudyFolder(tmp_path).table(name)
    whole = path.read_bytes()
    if damage == "flip":
        path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    else:
        path.unlink()
    if damage == "other":  # intact, and in the wrong place
        other = next(one for one in ("models", "classes") if one != name)
        shutil.copy(StudyFolder(tmp_path).table(other), path)
    assert read_results(StudyFolder(tmp_path)).models == study.models
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["classes", "concepts", "images"])
def test_a_table_that_is_damaged_meanwhile_is_named(study: Results, tmp_path: Path, name: str) -> None:
    shutil.copytree(study.folder.root, tmp_path, dirs_exist_ok=True)
    results = read_results(StudyFolder(tmp_path))
    results.folder.table(name).write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    read = {"classes": results.classes, "concepts": results.concepts, "images": partial(failed_images, results.folder)}
    with pytest.raises(InputError, match=rf"{name}.parquet' is damaged"):
        read[name]()
