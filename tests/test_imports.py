"""What is imported when: a cold start must not pay for what it does not use, and core never looks at a terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import clipmk
from imports import loaded_by

CORE = Path(__file__).parents[1] / "core" / "clipmk"
HEAVY = {"torch", "open_clip", "textual", "PIL", "cv2", "sklearn", "scipy", "timm", "transformers"}


@pytest.mark.parametrize(
    "code",
    [
        "import clipmk",
        "import clipmk.errors, clipmk.records, clipmk.settings, clipmk.system.locations, clipmk.system.config",
        "import clipmk.concepts.mutual",
        "import clipmk.vocabulary.vocabulary, clipmk.output.document",
        "import clipmk; clipmk.load_vocabulary('world').sha256",
        "from clipmk.vocabulary.classes import resolve_class; from clipmk.world.combinations import trained; trained()",
        "from clipmk.models import catalog; catalog.embedded_names()",
        "import clipmk_tui.__main__",
    ],
)
def test_light_modules_load_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_the_default_explanation_loads_no_learning_toolkit() -> None:
    code = "from clipmk.pipeline.explainer import Explainer; from samples import explanation"
    assert not loaded_by(code) & {"sklearn", "pandas", "textual", "matplotlib", "pyarrow"}


def test_the_function_explain_is_not_hidden_by_a_module() -> None:
    code = "import clipmk, clipmk.api, clipmk.pipeline.explainer; assert callable(clipmk.explain); "
    code += "assert all(getattr(clipmk, name) for name in clipmk.__all__)"
    loaded_by(code)


def test_core_never_imports_what_faces_a_terminal() -> None:
    banned = {"textual", "rich", "typer", "click", "term_image", "clipmk_tui"}
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & banned, path


def test_leaving_concepts_out_needs_no_torch() -> None:
    code = "from samples import explanation; "
    code += "found = explanation().without(['pointed ears']); assert found.count == 1, found"
    assert not loaded_by(code) & {"torch", "open_clip", "textual", "sklearn", "timm"}


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'clipmk' has no attribute 'explian'"):
        clipmk.explian  # noqa: B018 - looking it up is the point
