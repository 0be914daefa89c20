"""The JSON that `clipmk` prints: documents, entries, errors, and the schema that describes them. Imports no torch."""

import json
import re
from collections.abc import Sequence
from typing import Any

from clipmk.comparison import Comparison
from clipmk.records import FORMAT_VERSION, ExplanationRecord, Failure
from clipmk.system.locations import assets_dir
from clipmk.system.serialization import plain
from clipmk.system.text import encodable, is_unsafe, printable
from clipmk.version import __version__

SCHEMA_NAME = f"clipmk-{FORMAT_VERSION}.schema.json"
"""File name of the shipped JSON Schema (draft 2020-12) below `assets/schema`."""


def explanation_entry(explanation: ExplanationRecord) -> dict[str, Any]:
    """The JSON object of one explanation."""
    names = ("foreground", "parts", "vision_concepts", "language_concepts", "mutual", "alternatives", "share_explained")
    return {
        "image": plain(explanation.image),
        "model": plain(explanation.model),
        "predictions": plain(explanation.predictions),
        "explanation": {
            "preset": explanation.provenance.settings["preset"],
            "class": explanation.class_name,
            **{name: plain(getattr(explanation, name)) for name in names},
        },
        "what_if": plain(explanation.what_if),
        "asked": plain(explanation.asked),
        "elapsed_ms": plain(explanation.elapsed_ms),
        "provenance": plain(explanation.provenance),
        "warnings": list(explanation.warnings),
    }


def entry(result: ExplanationRecord | Failure) -> dict[str, Any]:
    """The JSON object of one image and model; a failure has `error` in place of `explanation`."""
    if isinstance(result, Failure):
        return {
            "image": {"path": encodable(result.path)},
            "model": {"id": encodable(result.model)},
            "error": error_object(result.code, result.message),
        }
    return explanation_entry(result)


def document(results: Sequence[ExplanationRecord | Failure]) -> dict[str, Any]:
    """One JSON document about a run; if every result is a failure, the most severe one is repeated as "error"."""
    return _with_tool({"results": [entry(result) for result in results]}, results)


def comparison_document(comparison: Comparison, results: Sequence[ExplanationRecord | Failure]) -> dict[str, Any]:
    """One JSON document about a comparison; "error" as in `document`."""
    return _with_tool({"comparison": plain(comparison)}, results)


def _with_tool(content: dict[str, Any], results: Sequence[ExplanationRecord | Failure]) -> dict[str, Any]:
    """`content` after the tool's name and version; the most severe failure where there is nothing else."""
    failures = [result for result in results if isinstance(result, Failure)]
    full = versioned({"tool": {"name": "clipmk", "version": __version__}, **content})
    if failures and len(failures) == len(results):
        worst = max(failures, key=lambda failure: failure.exit_status)
        full["error"] = error_object(worst.code, worst.message)
    return full


def versioned(content: dict[str, Any]) -> dict[str, Any]:
    """`content` after `format_version`, as every JSON object that `clipmk` prints."""
    return {"format_version": FORMAT_VERSION, **content}


def error_document(code: str, message: str) -> dict[str, Any]:
    """The JSON document of a run that failed as a whole."""
    return versioned({"error": error_object(code, message)})


def error_object(code: str, message: str) -> dict[str, str]:
    """`{"code", "message"}`; the message is one line without control characters."""
    return {"code": code, "message": printable(message)}


def dump(content: dict[str, Any], *, indent: int | None = 2) -> str:
    """JSON text without a final newline; `indent=None` puts it on one line. ValueError if a number is not finite.

    Non-ASCII letters stay readable; characters that could control a terminal (`system.text.is_unsafe`) are escaped.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)
    return re.sub(r"[^\n\x20-\x7e]", _escaped, text)


def schema_text() -> str:
    """The shipped JSON Schema: everything that `--json` prints, and each line of `--jsonl`."""
    return (assets_dir() / "schema" / SCHEMA_NAME).read_text(encoding="utf-8")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return json.dumps(character)[1:-1] if is_unsafe(character) else character
