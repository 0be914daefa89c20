"""The encoders: what exists, what is on this machine, and one way to use them all.

Importing this package loads neither torch nor open_clip; the names below are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.backbones.catalog import list_models
    from clipmk.backbones.loading import describe, load, pull
    from clipmk.backbones.pools import pool
    from clipmk.records import ModelEntry

_HOMES = {
    "Backbone": "clipmk.backbones.base",
    "Encoded": "clipmk.backbones.base",
    "ModelEntry": "clipmk.records",
    "describe": "clipmk.backbones.loading",
    "list_models": "clipmk.backbones.catalog",
    "load": "clipmk.backbones.loading",
    "pool": "clipmk.backbones.pools",
    "pull": "clipmk.backbones.loading",
}

__all__ = ["Backbone", "Encoded", "ModelEntry", "describe", "list_models", "load", "pool", "pull"]


def __getattr__(name: str) -> Any:
    """Import the module behind a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clipmk.backbones' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
