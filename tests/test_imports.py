"""What is imported when: a cold start must not pay for what it does not use, and core never looks at a terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import clipmk
from imports import loaded_by

CORE = Path(__file__).parents[1] / "core" / "clipmk"
HEAVY = {"torch", "open_clip", "textual", "PIL", "cv2", "sklearn", "scipy", "timm", "transformers", "numpy"}
MODELS = {"torch", "open_clip", "torchvision", "timm", "transformers"}
DRAWING = {"numpy", "PIL", "cv2", "term_image", "torch"}

TABLE: list[tuple[str, set[str]]] = [
    ("import clipmk", HEAVY),
    ("import clipmk.errors, clipmk.records, clipmk.settings, clipmk.explanation", HEAVY),
    ("import clipmk.system.locations, clipmk.system.config, clipmk.system.files", HEAVY | {"platformdirs"}),
    ("import clipmk.vocabulary.vocabulary, clipmk.output.document", HEAVY | {"platformdirs", "clipmk.world"}),
    ("import clipmk.concepts.mutual", HEAVY),
    ("import clipmk.pipeline.comparison", HEAVY),
    ("import clipmk.worker.protocol", HEAVY),
    ("import clipmk.study.report, clipmk.study.results", {"matplotlib", "torch", "scipy"}),
    (
        "import clipmk.browse.study_table, clipmk.browse.growing_table",
        MODELS | {"textual", "scipy", "matplotlib", "pandas", "cv2", "clipmk.world"},
    ),
    ("from clipmk.models import catalog; catalog.embedded_names()", HEAVY),
    ("from clipmk.models.catalog import list_models; list_models()", MODELS),
    ("from clipmk.models.catalog import pool; pool('zoo'); pool('paper13')", MODELS | {"huggingface_hub"}),
    (
        "from samples import explanation; assert explanation().without(['pointed ears']).count == 1",
        MODELS | {"sklearn"},
    ),
    (
        "from clipmk.pipeline.explainer import Explainer",
        {"sklearn", "pandas", "textual", "matplotlib", "pyarrow", "open_clip"},
    ),
    (
        (
            "import torch; from clipmk.models.loading import load; from clipmk.pipeline.explainer import Explainer\n"
            "model = load('embedded/vit-xs8-48'); model.encode_with_patches(torch.zeros(1, 3, 48, 48))\n"
            "model.encode_texts(['a fox'])"
        ),
        {"open_clip", "torchvision", "timm", "torch._dynamo"},
    ),
    (
        "import clipmk, samples; clipmk.explain(samples.picture(), 'embedded/vit-xs8-48')",
        {"scipy.optimize", "scipy.stats", "sklearn", "pandas", "pyarrow", "matplotlib", "open_clip"},
    ),
    ("import clipmk_tui.__main__", HEAVY | {"typer", "rich"}),
    ("from clipmk_tui.__main__ import main; main(['models', 'vit', '--cached'])", MODELS | {"textual"}),
    (
        "import clipmk_tui.__main__, clipmk_tui.app.start_options, clipmk_tui.app.launch, clipmk_tui.app.app",
        DRAWING | {"json", "tomllib", "clipmk.records", "clipmk.system.files", "clipmk_tui.app.messages"},
    ),
    ("import clipmk_tui.app.engine.worker", DRAWING | MODELS),
    ("import clipmk_tui.app.screens.compare", DRAWING | MODELS | {"scipy"}),
    ("import clipmk_tui.app.widgets.image_pane, clipmk_tui.app.screens.picker, clipmk_tui.app.image_list", DRAWING),
    (
        (
            "import clipmk_tui.app.exports, clipmk_tui.app.screens.write, clipmk_tui.app.screens.help\n"
            "import clipmk_tui.app.clipboard, clipmk_tui.app.screens.settings"
        ),
        DRAWING | {"tomlkit"},
    ),
    (
        (
            "import samples; from clipmk.images.decoder import read_picture\n"
            "from clipmk_tui.app.canvas import Canvas, Shapes, painted\n"
            "from clipmk_tui.show.half_blocks import half_block_rows\n"
            "canvas = Canvas(read_picture(samples.picture()), width=20, height=16)\n"
            "shapes = Shapes(samples.explanation().parts, width=20, height=16)\n"
            "half_block_rows(painted(canvas, shapes, 'parts', lit=[1], blurred=[2]).cells)"
        ),
        {"cv2", "torch", "scipy", "sklearn", "open_clip", "torchvision"},
    ),
]
"""Code, and the modules that it must not load."""


@pytest.mark.parametrize(("code", "forbidden"), TABLE, ids=[code.splitlines()[0][:60] for code, _ in TABLE])
def test_nothing_is_loaded_before_it_is_needed(code: str, forbidden: set[str]) -> None:
    assert not loaded_by(code) & forbidden


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


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'clipmk' has no attribute 'explian'"):
        clipmk.explian  # noqa: B018 - looking it up is the point
