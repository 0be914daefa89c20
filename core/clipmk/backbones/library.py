"""open_clip itself, imported only when needed and quietly: that takes longer than torch (docs/performance.md)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from clipmk.system.quiet import quiet

_TOKENIZER_MODULE = f"{__name__}.tokenizer"
"""Name of open_clip's tokenizer where it was imported without the rest."""


def open_clip() -> ModuleType:
    """Import open_clip, quietly."""
    with quiet():
        import open_clip as library  # noqa: PLC0415 - seconds
    return library  # type: ignore[no-any-return]


def simple_tokenizer_class() -> Any:
    """open_clip's class `SimpleTokenizer`, without importing open_clip for it.

    The tokenizer needs nothing of the rest: its file is run as a module of its own, unless open_clip is here already.
    """
    if known := loaded_tokenizer_classes():
        return known[0]
    try:
        module = _run_tokenizer_file()
    except (ImportError, OSError):  # a release that keeps its tokenizer elsewhere, or whose tokenizer needs the rest
        return open_clip().SimpleTokenizer
    return sys.modules.setdefault(_TOKENIZER_MODULE, module).SimpleTokenizer  # another thread may have been faster


def loaded_tokenizer_classes() -> list[type]:
    """`SimpleTokenizer` of open_clip and of its tokenizer file, as far as they have been imported."""
    modules = (sys.modules.get(name) for name in ("open_clip", _TOKENIZER_MODULE))
    return [found for module in modules if (found := getattr(module, "SimpleTokenizer", None))]


def _run_tokenizer_file() -> ModuleType:
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    spec = importlib.util.spec_from_file_location(_TOKENIZER_MODULE, Path(package.origin).with_name("tokenizer.py"))
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'open_clip.tokenizer'", name="open_clip.tokenizer")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_transformers() -> bool:
    """Whether `transformers` is installed; does not import it."""
    return importlib.util.find_spec("transformers") is not None
