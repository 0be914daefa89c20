"""What weights were trained on, read from open_clip's tag; and their licence, where it is known.

Sizes are image-text pairs of the whole data set as its authors publish them; licences are those of the model cards on
the hub. Both were noted by hand, and only where they are beyond doubt: None means "not known here", never "none".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_M, _B = 10**6, 10**9

_DATA: tuple[tuple[str, str, int | None], ...] = (
    (r"openai", "WIT (OpenAI)", 400 * _M),
    (r"yfcc15m", "YFCC15M", 15 * _M),
    (r"cc12m", "Conceptual 12M", 12 * _M),
    (r"laion400m", "LAION-400M", 400 * _M),
    (r"laion_aesthetic", "LAION-Aesthetic", 900 * _M),
    (r"mscoco_finetuned_laion2b", "LAION-2B, then MS COCO", None),
    (r"laion2b", "LAION-2B", 2_320 * _M),
    (r"(frozen_)?laion5b", "LAION-5B", 5_850 * _M),
    (r"datacompdr", "DataCompDR-1B", 1_280 * _M),
    (r"datacomp(1b|_xl|_s34b)", "DataComp-1B", 1_400 * _M),
    (r"datacomp_l", "DataComp large", 140 * _M),
    (r"datacomp_m", "DataComp medium", 14 * _M),
    (r"datacomp_s", "DataComp small", 1_400_000),
    (r"commonpool_xl_s", "CommonPool xlarge", 12_800 * _M),
    (r"commonpool_l_s", "CommonPool large", 1_280 * _M),
    (r"commonpool_m_s", "CommonPool medium", 128 * _M),
    (r"commonpool_s_s", "CommonPool small", 12_800_000),
    (r"commonpool_xl", "CommonPool xlarge, filtered", None),
    (r"commonpool_l", "CommonPool large, filtered", None),
    (r"commonpool_m", "CommonPool medium, filtered", None),
    (r"commonpool_s", "CommonPool small, filtered", None),
    (r"metaclip_400m", "MetaCLIP-400M", 400 * _M),
    (r"metaclip_fullcc", "MetaCLIP-2.5B", 2_500 * _M),
    (r"metaclip_altogether", "MetaCLIP, Altogether captions", None),
    (r"metaclip2_worldwide", "MetaCLIP 2 worldwide", None),
    (r"dfndr2b", "DFNDR-2B", 2 * _B),
    (r"dfn2b", "DFN-2B", 2 * _B),
    (r"dfn5b", "DFN-5B", 5 * _B),
    (r"merged2b", "Merged-2B (LAION-2B, COYO-700M)", 2 * _B),
    (r"webli", "WebLI", 10 * _B),
    (r"meta", "Perception Encoder data (Meta)", 5_400 * _M),
)
"""Beginning of a tag, readable name, image-text pairs; the first that fits counts."""

_UNITS = {"m": _M, "b": _B}

_CARD = "model card on the hub"
_LICENCES: tuple[tuple[str, str, str], ...] = (
    (r"laion/(CLIP|CoCa|mscoco_finetuned)", "MIT", _CARD),
    (r"timm/(vit|resnet)\w*_clip(_\d+)?\.openai", "MIT", "LICENSE of github.com/openai/CLIP"),
    (r"timm/vit\w*_clip_224\.metaclip_(400m|2pt5b)", "CC-BY-NC-4.0", _CARD),
    (r"timm/eva", "MIT", _CARD),
    (r"timm/ViT-.*SigLIP", "Apache-2.0", _CARD),
    (r"timm/PE-Core", "Apache-2.0", _CARD),
    (r"apple/DFN", "apple-amlr (research only)", _CARD),
    (r"UCSC-VLAA/", "Apache-2.0", _CARD),
    (r"jienengchen/", "MIT", _CARD),
)
"""Beginning of a repository's name, its licence, where that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """What weights have seen."""

    data: str | None
    """Readable name of the data set."""
    pairs: int | None
    """Image-text pairs in the whole data set."""
    samples_seen: int | None
    """Pairs shown in training, repetitions included."""


def pretraining_of(tag: str) -> Pretraining:
    """What the tag of a pair says about its training: `laion2b_s34b_b79k` is LAION-2B, 34 billion samples seen."""
    found = next(((data, pairs) for start, data, pairs in _DATA if re.match(start, tag)), (None, None))
    seen = re.search(r"_s(\d+)([mb])(?=_|$)", tag)
    return Pretraining(data=found[0], pairs=found[1], samples_seen=int(seen[1]) * _UNITS[seen[2]] if seen else None)


def licence_of(repository: str) -> tuple[str | None, str | None]:
    """Licence of the weights in a repository of the hub, and where it is written; None, None where not known."""
    found = ((licence, source) for start, licence, source in _LICENCES if re.match(start, repository))
    return next(found, (None, None))
