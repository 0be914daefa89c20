"""One explanation built by hand: what the faces of `clipmk` show does not depend on any model."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from PIL import Image

from clipmk.explanation import Explanation
from clipmk.images.masks import heat_encode, rle_encode
from clipmk.images.square import Square
from clipmk.records import (
    Alternative,
    Asked,
    Chance,
    ClassSwap,
    Elapsed,
    ImageInfo,
    LanguageConcept,
    ModelInfo,
    Mutual,
    Part,
    PartDescriptor,
    Prediction,
    Presence,
    Provenance,
    SoftPair,
    Tie,
    VisionConcept,
)
from clipmk.settings import preset
from clipmk.system.serialization import plain

WIDTH, HEIGHT = 60, 40

EARS = np.zeros((HEIGHT, WIDTH), dtype=bool)
EARS[4:14, 10:30] = True
TAIL = np.zeros((HEIGHT, WIDTH), dtype=bool)
TAIL[20:36, 32:56] = True
MASKS = (EARS, TAIL)


def picture() -> Image.Image:
    """A grey ramp."""
    ramp = np.linspace(40, 220, WIDTH).astype(np.uint8)
    return Image.fromarray(np.repeat(np.repeat(ramp[None, :, None], HEIGHT, 0), 3, 2))


def explanation(
    *,
    path: str | None = "fox_03.png",
    class_name: str = "fox",
    independent: float | None = None,
    with_picture: bool = False,
    descriptor: str = "pointed ears",
) -> Explanation:
    """Four vision concepts, five language concepts, two of them mutual."""
    image, name = picture(), class_name
    sha256 = hashlib.sha256(image.tobytes()).hexdigest()
    return Explanation(
        image=ImageInfo(path=path, sha256=sha256, width=WIDTH, height=HEIGHT),
        model=ModelInfo(
            id="embedded/vit-s8",
            family="vit",
            weights_sha256="0" * 63 + "1",
            architecture="vit-s8",
            pretrained=None,
            input_size=64,
        ),
        predictions=(
            Prediction(rank=1, class_name=class_name, probability=0.712, cosine=0.31, independent=independent),
            Prediction(rank=2, class_name="cat", probability=0.149, cosine=0.2943, independent=independent),
            Prediction(rank=3, class_name="wolf", probability=0.06, cosine=0.2851, independent=independent),
        ),
        class_name=class_name,
        foreground=rle_encode(EARS | TAIL),
        parts=(
            _part(1, EARS, (10, 4, 30, 14), (descriptor, "round eyes")),
            _part(2, TAIL, (32, 20, 56, 36), ("a bushy tail", "thin legs")),
        ),
        vision_concepts=(
            VisionConcept(rank=1, text=descriptor, importance=0.712, parts=(1,), mutual=True, tied_to=("cat", name)),
            VisionConcept(rank=2, text="round eyes", importance=0.61, parts=(1,), mutual=False),
            VisionConcept(rank=3, text="a bushy tail", importance=0.55, parts=(1, 2), mutual=True, tied_to=(name,)),
            VisionConcept(rank=4, text="thin legs", importance=0.3, parts=(2,), mutual=False, tied_to=("wolf",)),
        ),
        language_concepts=_language(("a bushy tail", descriptor), ("a white chest", "red fur", "whiskers")),
        mutual=_mutual(2, following="cat"),
        alternatives=(
            Alternative(
                class_name="cat",
                language_concepts=_language((descriptor,), ("whiskers", "a long tail", "soft fur", "paws")),
                mutual=_mutual(1, following=class_name),
                part_margins=(0.031, -0.0122),
                share_explained=0.41,
            ),
        ),
        share_explained=0.62,
        elapsed_ms=Elapsed(load=812.0, explain=95.125),
        provenance=Provenance(
            clipmk="0.1.0",
            torch="2.6.0",
            open_clip="3.2.0",
            device="cpu",
            dtype="float32",
            templates=("a photo of a {}.",),
            descriptor_template="a photo showing {}",
            vocabulary="animals",
            vocabulary_sha256="f" * 64,
            settings=plain(preset("default")),
        ),
        warnings=("the image is animated; only its first frame is used",),
        picture=image if with_picture else None,
    ).with_influence()


def _part(number: int, mask: np.ndarray, box: tuple[int, int, int, int], texts: tuple[str, str]) -> Part:
    return Part(
        id=number,
        area=float(mask.mean()),
        bbox_xyxy=box,
        mask=rle_encode(mask),
        descriptors=tuple(
            PartDescriptor(text=text, cosine=0.28 - 0.03 * i, share=0.75 - 0.5 * i) for i, text in enumerate(texts)
        ),
    )


def _language(mutual: tuple[str, ...], others: tuple[str, ...]) -> tuple[LanguageConcept, ...]:
    texts = [(text, True) for text in mutual] + [(text, False) for text in others]
    return tuple(
        LanguageConcept(rank=rank, text=text, cosine=0.84 - 0.01 * rank, mutual=flag)
        for rank, (text, flag) in enumerate(texts, 1)
    )


def _mutual(count: int, following: str) -> Mutual:
    curve = (math.log(40), math.log(20), math.log(20), 0.0, 0.0) if count == 2 else (math.log(20), 0.0, 0.0, 0.0, 0.0)
    return Mutual(
        count=count,
        vision_count=4,
        language_count=5,
        vocabulary_size=100,
        class_swap=ClassSwap(
            p_value=(3 - count) / 29, classes=29, of=29, at_least=2 - count, next_class=following, next_count=3 - count
        ),
        mi_paper=curve[0],
        mi_textbook=math.log(count),
        auc=sum(curve) / 16,
        auc_unpadded=sum(curve) / 5,
        curve=curve,
        chance=Chance(count=0.2, mi_paper=0.9, auc=0.55),
        random_draw_p=0.0173,
        p_value=0.0173,
        soft=(SoftPair(vision="thin legs", language="paws" if count == 1 else "whiskers", cosine=0.91),),
    )


def asked(text: str = "a wet nose", *, heat: bool = True, seen: bool = True) -> Asked:
    """An answer: seen on the ears, tied to the fox but not to the cat."""
    return Asked(
        text=text,
        in_vocabulary=False,
        status="mutual" if seen else "language",
        cosine=0.3,
        presence=Presence(rank=2, percentile=0.99, score=2.5, p_value=0.004 if seen else 0.4, seen=seen),
        ties=(
            Tie(class_name="fox", cosine=0.7, rank=3, in_d_y=True, overlap=3, overlap_p_value=0.001),
            Tie(class_name="cat", cosine=0.4, rank=90, in_d_y=False, overlap=1, overlap_p_value=0.2),
        ),
        parts=(1,) if seen else (),
        map=heat_encode(EARS[::4, ::4].astype(np.float32), Square(WIDTH, HEIGHT, 64, "squash")) if heat else None,
    )
