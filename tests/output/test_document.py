from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin, get_type_hints

import jsonschema
import pytest

import clipmk
import samples
from clipmk import records
from clipmk.errors import INTERRUPTED, UNEXPECTED, ClipmkError, DeviceError, ImageError, ModelError, UsageError
from clipmk.output import document
from clipmk.records import Failure, ModelEntry
from clipmk.settings import Settings
from clipmk.system.serialization import WRITTEN_AS

Validator = jsonschema.Draft202012Validator


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(document.schema_text())


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Validator:
    return Validator(schema)


def _failure(error: ClipmkError, path: str = "gone.png") -> Failure:
    return Failure.of(error, path=path, model="embedded/vit-s8")


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


def test_schema_is_a_valid_2020_12_schema(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Validator.check_schema(schema)


def test_schema_forbids_unknown_fields_and_describes_known_ones(schema: dict[str, Any]) -> None:
    objects = list(_objects(schema))
    assert len(objects) > 20
    for node in objects:
        assert node["additionalProperties"] is False
        assert set(node["required"]) <= set(node["properties"])
        for name, field in node["properties"].items():
            described = "description" in field or "description" in schema["$defs"][field["$ref"].rpartition("/")[2]]
            assert described, name


@pytest.mark.parametrize(
    ("record", "definition"),
    [
        (records.ImageInfo, "image"),
        (records.ModelInfo, "model"),
        (records.Prediction, "prediction"),
        (records.Rle, "rle"),
        (records.Part, "part"),
        (records.PartDescriptor, "part_descriptor"),
        (records.VisionConcept, "vision_concept"),
        (records.LanguageConcept, "language_concept"),
        (records.ClassSwap, "class_swap"),
        (records.Mutual, "mutual"),
        (records.Chance, "chance"),
        (records.SoftPair, "soft_pair"),
        (records.Alternative, "alternative"),
        (records.WhatIf, "what_if"),
        (records.Asked, "asked"),
        (records.Presence, "presence"),
        (records.Tie, "tie"),
        (records.RelevanceMap, "relevance_map"),
        (records.Elapsed, "elapsed"),
        (records.Provenance, "provenance"),
        (Settings, "settings"),
        (ModelEntry, "model_entry"),
    ],
)
def test_schema_has_the_fields_of_each_record_and_all_are_required(
    record: type, definition: str, schema: dict[str, Any]
) -> None:
    node = schema["$defs"][definition]
    fields = [WRITTEN_AS.get(f.name, f.name) for f in dataclasses.fields(record)]
    assert list(node["properties"]) == fields
    assert node["required"] == fields


@pytest.mark.parametrize(("record", "definition"), [(Settings, "settings"), (records.Prediction, "prediction")])
def test_schema_allows_null_and_choices_where_the_record_does(
    record: type, definition: str, schema: dict[str, Any]
) -> None:
    properties = schema["$defs"][definition]["properties"]
    for name, hint in get_type_hints(record).items():
        node = properties["class" if name == "class_name" else name]
        nullable = type(None) in get_args(hint)
        assert ("null" in node["type"]) == nullable, name
        if str(get_origin(hint)) == "typing.Literal":
            assert node["enum"] == list(get_args(hint)), name


def test_document_of_a_run_is_valid_and_stays_as_it_was(
    golden: Callable[[str, str], None], validator: Validator
) -> None:
    results = [samples.explanation(independent=0.4), _failure(ImageError("image 'gone.png' does not exist"))]
    made = document.document(results)
    validator.validate(made)
    made["tool"]["version"] = "0.0.0"  # a release changes no golden file
    golden("explain.json", document.dump(made) + "\n")


def test_each_result_alone_is_a_valid_line(validator: Validator) -> None:
    made = samples.explanation()
    what_ifs = [made.with_what_if(["pointed ears"], predictions) for predictions in (None, made.predictions)]
    asked = dataclasses.replace(made, asked=(samples.asked(), samples.asked(heat=False)))
    for result in (made, asked, *what_ifs, samples.explanation(path=None), _failure(ModelError("no such model"))):
        line = document.dump(document.entry(result), indent=None)
        assert "\n" not in line
        validator.validate(json.loads(line))


def test_document_says_at_the_top_when_everything_failed() -> None:
    failures = [_failure(ImageError("unreadable")), _failure(DeviceError("no cuda")), _failure(ImageError("gone"))]
    assert document.document(failures)["error"] == {"code": "device", "message": "no cuda"}
    assert "error" not in document.document([*failures, samples.explanation()])
    assert "error" not in document.document([])


@pytest.mark.parametrize("field", ["image", "model", "predictions", "explanation", "provenance", "warnings"])
def test_schema_misses_each_field_that_is_dropped(field: str, validator: Validator) -> None:
    made = document.document([samples.explanation()])
    del made["results"][0][field]
    assert not validator.is_valid(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["predictions"][0].update(probability=1.5),
        lambda one: one["predictions"][0].update(extra=1),
        lambda one: one["explanation"]["mutual"].update(p_value=None),
        lambda one: one["explanation"]["parts"][0].update(bbox_xyxy=[1, 2, 3]),
        lambda one: one["explanation"]["parts"][0]["mask"].update(size=[1, 2, 3]),
        lambda one: one["provenance"]["settings"].update(grounding="guess"),
        lambda one: one["image"].update(sha256="abc"),
        lambda one: one.update(error={"code": "image", "message": "both"}),
    ],
)
def test_schema_refuses_what_the_record_cannot_be(
    change: Callable[[dict[str, Any]], None], validator: Validator
) -> None:
    made = document.document([samples.explanation()])
    change(made["results"][0])
    assert not validator.is_valid(made)


@pytest.mark.parametrize("error", [ClipmkError, UsageError, ImageError, ModelError, DeviceError])
def test_error_document_is_valid_for_every_kind_of_error(error: type[ClipmkError], validator: Validator) -> None:
    validator.validate(document.error_document(error.code, "what happened"))


@pytest.mark.parametrize("code", [INTERRUPTED, UNEXPECTED])
def test_error_document_is_valid_for_codes_without_an_error_class(code: str, validator: Validator) -> None:
    validator.validate(document.error_document(code, "what happened"))


def test_error_message_keeps_no_control_character() -> None:
    assert document.error_object("image", "a\x1b[31m\nb") == {"code": "image", "message": "a\\x1b[31m\\x0ab"}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_dump_refuses_numbers_that_are_not_finite(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        document.dump({"x": number})


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b31m", "\u202egnp", "\udcff", "\x7f", "\u2028", "日本 é ∩", 'a"\\b'])
def test_dump_writes_text_that_reads_back_and_cannot_control_a_terminal(text: str) -> None:
    written = document.dump({"text": text})
    assert json.loads(written) == {"text": text}
    written.encode("utf-8")
    assert not set(written) & set("\x1b\x9b\u202e\x7f\u2028")
    assert "日本" not in text or "日本 é ∩" in written


def test_documents_say_which_version_wrote_them() -> None:
    assert document.document([])["tool"] == {"name": "clipmk", "version": clipmk.__version__}
    assert document.versioned({"models": []}) == {"format_version": "1.1", "models": []}


def test_an_explanation_introduces_itself_in_one_short_line() -> None:
    text = repr(samples.explanation())
    assert "'fox_03.png' by 'embedded/vit-s8'" in text
    assert "MI 3.69" in text
    assert len(text) < 200


@pytest.mark.parametrize(
    ("definition", "fields"),
    [
        ("vision_concept", "rank text importance parts mutual"),
        ("mutual", "count mi_paper mi_textbook auc auc_unpadded curve chance p_value soft"),
        ("alternative", "class language_concepts mutual"),
        ("result", "image model predictions explanation what_if asked elapsed_ms provenance warnings"),
    ],
)
def test_a_reader_of_format_1_0_finds_all_its_fields(schema: dict[str, Any], definition: str, fields: str) -> None:
    assert set(fields.split()) <= set(schema["$defs"][definition]["required"])
    found = document.entry(samples.explanation())["explanation"]
    assert found["mutual"]["p_value"] == found["mutual"]["random_draw_p"]
