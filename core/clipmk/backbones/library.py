"""open_clip itself, imported only when needed and quietly: that takes longer than torch (docs/performance.md)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from clipmk.system.quiet import quiet

_ALONE = f"{__name__}.open_clip"
"""Another name for open_clip's package, under which its modules are imported without the package itself."""


def open_clip() -> ModuleType:
    """Import open_clip, quietly."""
    with quiet():
        import open_clip as library  # noqa: PLC0415 - seconds
    return library  # type: ignore[no-any-return]


def simple_tokenizer_class() -> Any:
    """open_clip's class `SimpleTokenizer`, without importing open_clip for it, unless that is here already."""
    known = loaded_tokenizer_classes()
    return known[0] if known else _alone("tokenizer").SimpleTokenizer


def loaded_tokenizer_classes() -> list[type]:
    """`SimpleTokenizer` of open_clip and of its tokenizer file, as far as they have been imported."""
    modules = (sys.modules.get(name) for name in ("open_clip", f"{_ALONE}.tokenizer"))
    return [found for module in modules if (found := getattr(module, "SimpleTokenizer", None))]


def clip_class() -> Any:
    """open_clip's class `CLIP`, for its own image towers, without importing the rest of open_clip."""
    return _alone("model").CLIP


def _alone(name: str) -> ModuleType:
    """A module of open_clip without what only others of its classes need: torchvision, timm, `transformers`.

    Where a release keeps it elsewhere, or it needs more, the package itself, which has the same names.
    """
    try:
        with quiet():
            if _ALONE not in sys.modules:
                _prepare_package()
            return importlib.import_module(f"{_ALONE}.{name}")
    except (ImportError, OSError):
        return open_clip()


def _prepare_package() -> None:
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    package = ModuleType(_ALONE)
    package.__path__ = [str(Path(found.origin).parent)]
    unused = {"feature_take_indices": None, "freeze_batch_norm_2d": None, "HFTextEncoder": None, "TimmModel": None}
    for module in ("utils", "hf_model", "timm_model"):  # stand-ins for what imports all of that
        stand_in = ModuleType(f"{_ALONE}.{module}")
        vars(stand_in).update(unused, to_2tuple=lambda side: side if isinstance(side, list | tuple) else (side, side))
        sys.modules[stand_in.__name__] = stand_in
    sys.modules[_ALONE] = package


def has_transformers() -> bool:
    """Whether `transformers` is installed; does not import it."""
    return importlib.util.find_spec("transformers") is not None
