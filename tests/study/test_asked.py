"""Words of one's own in a study: the answers of the library, resumable, counted, and shown."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import clipmk
from clipmk.concepts.relevance import SEEN_LEVEL
from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.study.document import results_document
from clipmk.study.manifest import StudyFolder, read_manifest
from clipmk.study.report import write_report
from clipmk.study.results import read_results
from clipmk.study.run import run_study
from clipmk.study.text_tables import asked_tables
from study_runs import MODELS, fingerprints, images, request, stopping_after  # noqa: F401

WORDS = ("round ears", "<b>snow</b> [red]", "a wet nose")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "asked"
    run_study(request(folder, images, asks=WORDS))
    return folder


def test_a_study_records_what_the_library_answers(asked: Path, images: Path) -> None:
    rows = pq.read_table(asked / "tables" / "images.parquet").to_pylist()
    fields = ("asked_p_values", "asked_seen", "asked_ranks", "asked_tied")
    for row in (rows[0], rows[-3]):
        result = clipmk.ask(str(images / row["key"]), row["model"], WORDS)
        assert isinstance(result, Explanation)
        assert row["predicted"] == result.class_name
        expected = [
            (one.presence.p_value, one.presence.seen, one.ties[0].rank, one.ties[0].in_d_y) for one in result.asked
        ]
        assert list(zip(*(row[name] for name in fields), strict=True)) == expected
    (broken, *_) = [row for row in rows if row["error"] is not None]
    assert all(broken[name] is None for name in fields)


def test_texts_are_counted_as_a_plain_loop_counts_them(asked: Path) -> None:
    rows = pq.read_table(asked / "tables" / "images.parquet").to_pylist()
    found = pq.read_table(asked / "tables" / "asked.parquet").to_pylist()
    assert [(one["model"], one["text"]) for one in found] == [(model, text) for model in MODELS for text in WORDS]
    for one in found:
        own = [row for row in rows if row["model"] == one["model"] and row["error"] is None]
        place = WORDS.index(one["text"])
        seen, tied = ([row[name][place] for row in own] for name in ("asked_seen", "asked_tied"))
        assert one["images"] == len(own)
        assert one["seen"] == sum(seen) / len(own)
        assert one["seen_low"] <= one["seen"] <= one["seen_high"]
        assert one["tied"] == sum(tied) / len(own)
        assert one["mutual"] == sum(a and b for a, b in zip(seen, tied, strict=True)) / len(own)
        assert one["seen_by_chance"] == SEEN_LEVEL
        assert one["tied_by_chance"] == own[0]["language_count"] / 650


def test_an_interrupted_study_of_texts_ends_in_the_same_bytes(tmp_path: Path, images: Path, asked: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_study(request(tmp_path / "study", images, asks=WORDS), progress=stopping_after(7))
    run_study(request(tmp_path / "study", images))  # the words of the study in the folder
    assert fingerprints(tmp_path / "study") == fingerprints(asked)
    assert read_manifest(StudyFolder(asked).manifest).asks == WORDS


def test_other_words_are_another_study(asked: Path, images: Path) -> None:
    with pytest.raises(UsageError, match=r"different study.*3 texts: 'round ears', .* there, .1 text: 'rain'. here"):
        run_study(request(asked, images, asks=("rain",)))


def test_the_report_shows_the_texts_as_they_are(asked: Path) -> None:
    results = read_results(StudyFolder(asked))
    tables = asked_tables(results)
    assert [row[0] for row in tables[0].rows] == list(WORDS)
    assert len(tables) == len(MODELS)
    assert results_document(results)["asked"] == results.rows("asked")
    page = write_report(results).read_text(encoding="utf-8")
    assert "&lt;b&gt;snow&lt;/b&gt; [red]" in page
    assert WORDS[1] not in page
