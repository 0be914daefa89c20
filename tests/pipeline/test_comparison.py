from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
from clipmk.comparison import Comparison
from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.pipeline import comparison as module
from clipmk.pipeline.comparison import compare, jaccard
from clipmk.records import ConceptStatus, Failure
from compared import by, failed

FAMILIES = ("vit", "resnet", "convnext")
TEXTS = ("ears", "tail", "legs", "fur", "eyes")


Said = tuple[str, float | None, float | None]


def said(one: Explanation, text: str) -> Said:
    """(status, importance, cosine) of a concept: plain loops over the record."""
    importance = cosine = None
    for vision in one.vision_concepts:
        if vision.text == text:
            importance = vision.importance
    for language in one.language_concepts:
        if language.text == text:
            cosine = language.cosine
    if importance is None:
        return ("none" if cosine is None else "language", None, cosine)
    return ("vision" if cosine is None else "mutual", importance, cosine)


def expected_rows(results: list[Explanation | Failure]) -> list[tuple[str, int, list[Said | None]]]:
    """(text, how many hold it mutual, cells), most agreed first."""
    texts = set()
    for one in results:
        if isinstance(one, Explanation):
            for concept in [*one.vision_concepts, *one.language_concepts]:
                texts.add(concept.text)
    listed = []
    for text in texts:
        cells = [said(one, text) if isinstance(one, Explanation) else None for one in results]
        mutual = seen = 0
        total = 0.0
        for cell in cells:
            if cell is not None and cell[1] is not None:
                seen += 1
                total += cell[1]
                mutual += cell[0] == "mutual"
        listed.append((-mutual, -seen, -total / max(1, seen), text, cells))
    listed.sort(key=lambda item: item[:4])
    return [(text, -mutual, cells) for mutual, _, _, text, cells in listed]


def told(made: Comparison) -> list[tuple[str, int, list[Said | None]]]:
    return [
        (row.text, row.mutual_count, [cell and (cell.status, cell.importance, cell.cosine) for cell in row.cells])
        for row in made.rows
    ]


@st.composite
def _results(draw: st.DrawFn) -> list[Explanation | Failure]:
    """One to five models, failures among them, with values that floats add without rounding."""
    values = st.integers(1, 64).map(lambda number: number / 64)
    concepts = st.dictionaries(st.sampled_from(TEXTS), values, max_size=len(TEXTS))
    made: list[Explanation | Failure] = []
    for index in range(draw(st.integers(1, 5))):
        if draw(st.integers(0, 4)) == 0:
            made.append(failed(f"m{index}"))
        else:
            made.append(
                by(
                    f"m{index}",
                    family=draw(st.sampled_from(FAMILIES)),
                    predicted=draw(st.sampled_from(("fox", "cat", "dog"))),
                    auc=draw(st.integers(0, 3)) / 2,
                    vision=draw(concepts),
                    language=draw(concepts),
                )
            )
    return made


@settings(max_examples=50)
@given(_results())
def test_rows_are_what_plain_loops_find(results: list[Explanation | Failure]) -> None:
    made = compare(results)
    assert told(made) == expected_rows(results)
    assert [row.rank for row in made.rows] == list(range(1, len(made.rows) + 1))
    for row in made.rows:
        assert row.of == sum(isinstance(one, Explanation) for one in results) == made.answered
        assert row.seen_count == sum(cell is not None and cell.importance is not None for cell in row.cells)


@settings(max_examples=50)
@given(_results(), st.randoms(use_true_random=False))
def test_order_of_the_models_only_permutes_the_columns(results: list[Explanation | Failure], random: Any) -> None:
    order = list(range(len(results)))
    random.shuffle(order)
    one, other = compare(results), compare([results[index] for index in order])
    assert other.columns == tuple(one.columns[index] for index in order)
    assert [(row.text, row.rank, row.mutual_count) for row in other.rows] == [
        (row.text, row.rank, row.mutual_count) for row in one.rows
    ]
    for before, after in zip(one.rows, other.rows, strict=True):
        assert after.cells == tuple(before.cells[index] for index in order)
    assert (other.agreed_class, other.agreed_count, other.agreement) == (
        one.agreed_class,
        one.agreed_count,
        one.agreement,
    )


@settings(max_examples=50)
@given(_results())
def test_agreement_is_the_share_of_the_most_frequent_prediction(results: list[Explanation | Failure]) -> None:
    made = compare(results)
    tops = [one.predictions[0].class_name for one in results if isinstance(one, Explanation)]
    if not tops:
        assert (made.agreed_class, made.agreed_count, made.agreement) == (None, 0, None)
        return
    most = max(tops.count(name) for name in tops)
    assert made.agreed_class == min(name for name in tops if tops.count(name) == most)
    assert made.agreement == most / len(tops)
    assert 1 / len(tops) <= made.agreement <= 1


@settings(max_examples=50)
@given(_results())
def test_best_auc_is_marked_within_a_family_only(results: list[Explanation | Failure]) -> None:
    made = compare(results)
    for result, column in zip(results, made.columns, strict=True):
        if isinstance(result, Failure):
            assert not column.best_in_family
            continue
        family = [
            one.mutual.auc
            for one in results
            if isinstance(one, Explanation) and one.model.family == result.model.family
        ]
        assert column.best_in_family == (result.mutual.auc == max(family) and min(family) < max(family))


def test_lone_members_of_families_are_never_ranked_however_high_their_auc() -> None:
    made = compare([by("a", family="vit", auc=3.0), by("b", family="resnet", auc=9.0)])
    assert [column.best_in_family for column in made.columns] == [False, False]
    made = compare([by("a", family="vit", auc=3.0), by("b", family="resnet", auc=9.0), by("c", auc=2.0)])
    assert [column.best_in_family for column in made.columns] == [True, False, False]


def test_more_agreed_concepts_come_first_then_the_more_seen_then_the_more_important() -> None:
    results = [
        by("a", vision={"ears": 0.1, "eyes": 0.2, "legs": 0.9}, language={"ears": 0.5, "fur": 0.5}),
        by("b", vision={"ears": 0.1, "eyes": 0.2, "tail": 0.8}, language={"ears": 0.5, "tail": 0.5}),
    ]
    assert [row.text for row in compare(results).rows] == ["ears", "tail", "eyes", "legs", "fur"]


def test_failure_fills_its_column_with_the_error() -> None:
    made = compare([by("a"), failed("b")])
    column = made.columns[1]
    assert (column.id, column.family, column.mutual, column.predictions) == ("b", None, None, ())
    assert column.error is not None
    assert (column.error.code, column.error.message) == ("model", "model 'b' does not exist")
    assert made.answered == 1
    assert all(row.cells[1] is None and row.of == 1 for row in made.rows)


def test_comparison_where_everyone_failed_has_no_rows() -> None:
    made = compare([failed("a"), failed("b")])
    assert (made.answered, made.rows, made.image.path, made.image.sha256) == (0, (), "fox_03.png", None)


def _other_image(one: Explanation) -> Explanation:
    return dataclasses.replace(one, image=dataclasses.replace(one.image, path="owl.png", sha256="a" * 64))


def _other_vocabulary(one: Explanation) -> Explanation:
    made = dataclasses.replace(one.provenance, vocabulary="birds", vocabulary_sha256="a" * 64)
    return dataclasses.replace(one, provenance=made)


def _other_settings(one: Explanation) -> Explanation:
    made = dataclasses.replace(one.provenance, settings={**one.provenance.settings, "vision_limit": 9})
    return dataclasses.replace(one, provenance=made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_image, ("'fox_03.png'", "'owl.png'", "only one image")),
        (_other_vocabulary, ("'animals'", "'birds'", "'a'", "'b'", "same vocabulary")),
        (_other_settings, ("'a'", "'b'", "vision_limit")),
    ],
)
def test_answers_to_different_questions_are_refused_with_both_names(
    change: Callable[[Explanation], Explanation], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        compare([by("a"), change(by("b"))])
    assert all(word in str(caught.value) for word in words)


def test_failure_about_another_image_is_refused_with_both_names() -> None:
    for results in ([by("a"), failed("b", "owl.png")], [failed("a"), failed("b", "owl.png")]):
        with pytest.raises(UsageError, match=r"'fox_03\.png' and 'owl\.png'"):
            compare(results)


def test_image_in_memory_can_be_compared() -> None:
    one, other = (dataclasses.replace(e, image=samples.explanation(path=None).image) for e in (by("a"), by("b")))
    assert compare([one, other, failed("c")]).image.path is None


def test_common_target_must_be_what_all_explain() -> None:
    assert compare([by("a"), by("b")], target="fox").target == "fox"
    with pytest.raises(UsageError, match="'b' explains 'cat', not 'fox'"):
        compare([by("a"), by("b", predicted="cat")], target="fox")


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([])


def test_document_is_valid_and_stays_as_it_was(
    golden: Callable[[str, str], None], valid: Callable[[Any], None]
) -> None:
    results = [by("embedded/vit-s8", auc=2.0), by("embedded/vit-xs", predicted="cat"), failed("embedded/rn-s")]
    made = document.comparison_document(compare(results), results)
    valid(made)
    made["tool"]["version"] = "0.0.0"  # a release changes no golden file
    golden("compare.json", document.dump(made) + "\n")


def test_document_says_at_the_top_when_everyone_failed(valid: Callable[[Any], None]) -> None:
    results = [failed("a"), failed("b")]
    made = document.comparison_document(compare(results), results)
    valid(made)
    assert made["error"]["code"] == "model"
    assert "error" not in document.comparison_document(compare([*results, by("c")]), [*results, by("c")])


@pytest.mark.parametrize(
    ("record", "definition"),
    [
        (module.Comparison, "compared"),
        (module.ComparedImage, "compared_image"),
        (module.ComparedModel, "compared_model"),
        (module.ComparedConcept, "compared_concept"),
        (module.ComparedCell, "compared_cell"),
        (module.Fault, "error"),
    ],
)
def test_schema_has_the_fields_of_each_record_and_all_are_required(record: type, definition: str) -> None:
    node = json.loads(document.schema_text())["$defs"][definition]
    fields = ["class" if f.name == "class_name" else f.name for f in dataclasses.fields(record)]
    assert list(node["properties"]) == node["required"] == fields


def test_schema_knows_every_status() -> None:
    node = json.loads(document.schema_text())["$defs"]["compared_cell"]["properties"]["status"]
    assert node["enum"] == list(get_args(ConceptStatus))


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["comparison"].pop("target"),
        lambda made: made["comparison"]["rows"][0]["cells"][0].update(status="seen"),
        lambda made: made["comparison"]["columns"][0].pop("error"),
        lambda made: made["comparison"].update(agreement=1.5),
        lambda made: made["comparison"].update(columns=[]),
        lambda made: made.pop("tool"),
    ],
)
def test_schema_refuses_what_a_comparison_cannot_be(change: Callable[[dict[str, Any]], None]) -> None:
    results = [by("a"), by("b")]
    made = json.loads(document.dump(document.comparison_document(compare(results), results)))
    validator = jsonschema.Draft202012Validator(json.loads(document.schema_text()))
    assert validator.is_valid(made)
    change(made)
    assert not validator.is_valid(made)


def test_similarity_is_the_jaccard_index_of_each_pair_as_scikit_learn_computes_it() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    seen = [{"ears": 0.7, "tail": 0.5}, {"ears": 0.2}, {"fur": 0.1, "ears": 0.3, "legs": 0.2}]
    results: list[Explanation | Failure] = [
        by(f"m{i}", vision=one, language={"ears": 0.4}) for i, one in enumerate(seen)
    ]
    made = compare([*results, failed("x")])
    for i, j in itertools.product(range(3), repeat=2):
        first, second = ([text in seen[place] for text in TEXTS] for place in (i, j))
        assert made.similarity.vision[i][j] == pytest.approx(metrics.jaccard_score(first, second))
        assert made.similarity.mutual[i][j] == 1.0
    assert made.similarity.vision[3] == (None,) * 4
    assert made.similarity.vision[0][3] is None


def test_jaccard_of_two_empty_sets_is_not_a_number() -> None:
    assert jaccard({"a", "b"}, {"b", "c"}) == 1 / 3
    assert jaccard(["a"], []) == 0
    assert jaccard([], []) is None


def test_models_are_right_where_they_predict_the_true_class_however_it_is_spelt() -> None:
    made = compare([by("a", predicted="arctic fox"), by("b", predicted="cat"), failed("c")], true_class="Arctic_Fox")
    assert [column.right for column in made.columns] == [True, False, None]
    assert (made.true_class, made.right_count) == ("Arctic_Fox", 1)
    unknown = compare([by("a"), by("b")])
    assert [column.right for column in unknown.columns] == [None, None]
    assert (unknown.true_class, unknown.right_count) == (None, None)
