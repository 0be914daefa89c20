"""Why did CLIP say that? Zero-shot predictions explained by the concepts that both encoders share.

Importing this package loads neither torch nor open_clip; the names below are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clipmk.version import __version__

if TYPE_CHECKING:
    from clipmk.api import ask, explain, explain_stream
    from clipmk.backbones.backbone import Backbone
    from clipmk.errors import ClipmkError
    from clipmk.explanation import Explanation
    from clipmk.models.loading import load
    from clipmk.settings import Settings
    from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary


_HOMES = {
    "Backbone": "clipmk.backbones.backbone",
    "load": "clipmk.models.loading",
    "ClipmkError": "clipmk.errors",
    "ask": "clipmk.api",
    "explain": "clipmk.api",
    "explain_stream": "clipmk.api",
    "Explanation": "clipmk.explanation",
    "Settings": "clipmk.settings",
    "Vocabulary": "clipmk.vocabulary.vocabulary",
    "load_vocabulary": "clipmk.vocabulary.vocabulary",
}

__all__ = [
    "Backbone",
    "ClipmkError",
    "Explanation",
    "Settings",
    "Vocabulary",
    "__version__",
    "ask",
    "explain",
    "explain_stream",
    "load",
    "load_vocabulary",
]


def __getattr__(name: str) -> Any:
    """Import the module behind a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clipmk' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
