"""Write the names of the classes of ImageNet-1k: `python tools/make_imagenet_names.py > imagenet_names.json`.

The file belongs in `core/clipmk/assets`.
For each WordNet id the names in the usual lists and the words that mean no other class. The lists are ours, OpenAI's,
torchvision's, WordNet's first words, and all of its words. "crane" is a bird and a machine in WordNet: which one is
meant depends on the list.
"""

from __future__ import annotations

import json
from collections import Counter

from open_clip import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo
from torchvision.models import get_weight

from clipmk.vocabulary.classes import class_key
from clipmk.vocabulary.vocabulary import load_vocabulary


def table() -> dict[str, tuple[tuple[str, ...], list[str]]]:
    """Id -> the names in the lists, and the words of no other class."""
    info = ImageNetInfo()
    ids: list[str] = info.label_names()
    whole: list[str] = [info.index_to_description(index) for index in range(len(ids))]
    lists = (
        load_vocabulary("imagenet").classes,
        IMAGENET_CLASSNAMES,
        get_weight("ResNet50_Weights.IMAGENET1K_V2").meta["categories"],
        [text.split(", ")[0] for text in whole],
        whole,
    )
    names = dict(zip(ids, zip(*lists, strict=True), strict=True))
    words = {one: dict.fromkeys([*every[-1].split(", "), *every]) for one, every in names.items()}
    owners = Counter(key for each in words.values() for key in {*map(class_key, each)})
    ours = {class_key(every[0]): one for one, every in names.items()}

    def means(word: str, one: str) -> bool:
        key = class_key(word)
        return owners[key] == 1 and ours.get(key, one) == one

    return {one: (every, [word for word in words[one] if means(word, one)]) for one, every in names.items()}


def text() -> str:
    """The file's content: a line for each class."""
    lines = (f"{json.dumps(one)}: {json.dumps(row, ensure_ascii=False)}" for one, row in table().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    print(text(), end="")
