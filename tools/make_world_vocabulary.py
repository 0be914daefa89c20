"""Write the rendered world's vocabulary: `python tools/make_world_vocabulary.py > world.json`.

The file belongs in `core/clipmk/assets/vocabularies`. Classes and descriptors come from the tables in `assets/world`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from clipmk.world.combinations import typical_descriptors
from clipmk.world.tables import class_names, grammar

DESCRIPTION = "the rendered world that the embedded models were trained on"
TEMPLATES = ("a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "a {}.")
"""As in the captions that the embedded models were trained on."""


def as_json(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def block(name: str, opening: str, lines: Iterable[str], closing: str) -> str:
    """A key whose value takes a line for each entry."""
    return f" {as_json(name)}: {opening}\n" + ",\n".join(f"  {line}" for line in lines) + f"\n {closing}"


def text() -> str:
    """The file's content: a line for each class and for each kind of part."""
    heads = {"name": "world", "description": DESCRIPTION, "templates": TEMPLATES, "classes": class_names()}
    nouns = ([noun.phrase(look) for look in noun.looks()] for noun in grammar().values())
    entries = [
        *(f" {as_json(key)}: {as_json(value)}" for key, value in heads.items()),
        block("descriptors", "[", (as_json(phrases)[1:-1] for phrases in nouns), "]"),
        block("by_class", "{", (f"{as_json(n)}: {as_json(typical_descriptors(n))}" for n in class_names()), "}"),
    ]
    return "{\n" + ",\n".join(entries) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(text())
