"""How models and families are called in tables and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from clipmk.study.schema import TableRow

FAMILIES: Final = {
    "vit": "ViT",
    "resnet": "ResNet",
    "convnext": "ConvNeXt",
    "siglip": "SigLIP",
    "eva": "EVA",
    "timm": "timm",
}
"""Names of families, in the order they are shown."""


def family_name(family: str) -> str:
    """How a family is written."""
    return FAMILIES.get(family, family)


def short_names(rows: Sequence[TableRow]) -> dict[str, str]:
    """`ViT-B-16 datacomp` for open_clip's pairs, the last part of the path for others; the id where two are the same.

    OpenAI's weights have one name with and without `-quickgelu`.

    Args:
        rows: of the table `models`.
    """
    short = {row["model"]: _short_name(row) for row in rows}
    times = Counter(short.values())
    return {model: name if times[name] == 1 else model for model, name in short.items()}


def _short_name(row: TableRow) -> str:
    if row["pretrained"] is None:
        return str(row["model"]).rstrip("/").rpartition("/")[2] or str(row["model"])
    pretrained = str(row["pretrained"])
    brief = pretrained.split("_s", maxsplit=1)[0].removesuffix("_xl")
    return f"{str(row['architecture']).removesuffix('-quickgelu')} {brief}"
