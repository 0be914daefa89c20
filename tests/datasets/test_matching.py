"""What labels of datasets mean in a vocabulary: names, WordNet ids, indices, and labels that are not classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make_imagenet_names
from clipmk.datasets.matching import resolve_labels
from clipmk.datasets.opening import open_dataset
from clipmk.errors import InputError
from clipmk.system.locations import assets_dir
from clipmk.vocabulary.classes import parse_classes
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary


def vocabulary(*classes: str) -> Vocabulary:
    return Vocabulary(name="farm", classes=classes, templates=("a {}.",), descriptors=("red",))


FARM = vocabulary("fox", "tabby cat", "Polish hen", "polish  hen", "7", "owl")
WORDNET = {  # facts about ImageNet-1k: id, place, and what it is
    "n01440764": (0, "tench"),
    "n02123045": (281, "tabby cat"),
    "n02012849": (134, "crane (bird)"),
    "n03126707": (517, "construction crane"),
    "n02085620": (151, "Chihuahua"),
    "n15075141": (999, "toilet paper"),
}


@pytest.mark.parametrize(
    ("label", "name"),
    [("fox", "fox"), ("FOX", "fox"), ("Tabby_Cat", "tabby cat"), ("tabby-cat ", "tabby cat"), ("7", "7"), (None, None)],
)
def test_a_label_is_a_class_in_any_spelling(label: str | None, name: str | None) -> None:
    assert resolve_labels(["owl", label], FARM) == (["owl", name], ())


def test_an_exact_name_goes_before_another_spelling_and_one_that_means_two_classes_means_none() -> None:
    assert resolve_labels(["Polish hen", "polish  hen"], FARM)[0] == ["Polish hen", "polish  hen"]
    with pytest.raises(InputError, match=r"'POLISH HEN' \(1 image; close: 'polish  hen', 'Polish hen'"):
        resolve_labels(["POLISH HEN"], FARM)


def test_our_imagenet_vocabulary_has_the_standard_order() -> None:
    classes = load_vocabulary("imagenet").classes
    assert {one: classes[place] for one, (place, _) in WORDNET.items()} == {
        one: name for one, (_, name) in WORDNET.items()
    }


def test_wordnet_ids_are_classes_of_imagenet() -> None:
    labels = [*WORDNET, "n02085620-Chihuahua", "n01440764_tench"]
    expected = [*(name for _, name in WORDNET.values()), "Chihuahua", "tench"]
    assert resolve_labels(labels, load_vocabulary("imagenet")) == (expected, ())


def test_wordnet_ids_are_found_in_other_vocabularies_by_our_name_or_a_word_that_means_nothing_else() -> None:
    mine = vocabulary("Tench", "tiger cat", "tabby", "crane", "missile")
    assert resolve_labels(["n01440764", "n02123045", "n03773504"], mine)[0] == ["Tench", "tabby", "missile"]
    for one in ("n03126707", "n02012849", "n04008634"):  # both cranes; a projectile, which is called missile, too
        with pytest.raises(InputError, match=rf"1 of 1 label, of 2 images, is not a class of .*'{one}' \(2 images"):
            resolve_labels([one] * 2, mine)


def test_the_shipped_names_are_those_of_the_usual_lists() -> None:
    shipped = assets_dir() / "imagenet_names.json"
    assert shipped.read_text(encoding="utf-8") == make_imagenet_names.text()


def test_every_wordnet_id_is_the_class_at_its_place() -> None:
    from timm.data import ImageNetInfo  # noqa: PLC0415

    classes = load_vocabulary("imagenet")
    assert resolve_labels(ImageNetInfo().label_names(), classes)[0] == list(classes.classes)


def test_numbers_are_indices_into_the_vocabulary_and_the_warning_says_so() -> None:
    found, (warning,) = resolve_labels(["1", "0", None, "01"], vocabulary("fox", "owl"))
    assert found == ["owl", "fox", None, "owl"]
    assert warning == "labels are numbers, used as indices into the vocabulary 'farm', counted from 0: 0 is 'fox'"


def test_numbers_that_are_names_are_names() -> None:
    assert resolve_labels(["1", "2"], vocabulary("2", "1")) == (["1", "2"], ())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["2"], r"'2' \(1 image\); indices count from 0 to 1; name the vocabulary with --vocab"),
        (["1", "2"], r"1 of 2 labels, of 1 image, is not a class of the vocabulary 'farm': '2'"),
        (["fox", "1"], r"1 of 2 labels, of 1 image, .*: '1' \(1 image\)"),
        (
            ["fxo", "-1", "fxo", None],
            r"2 of 2 labels, of 3 images, are not classes of .*: 'fxo' \(2 images; close: 'fox'\), '-1' \(1",
        ),
        (["n01440764", "n99999999"], r"'n01440764' .*, 'n99999999'"),
        (["\x1b[31m"], r"'\\x1b\[31m'"),
        ([f"unknown{k}" for k in range(9)], r"9 of 9 labels.*unknown4' \(1 image\), \.\.\.;"),
    ],
)
def test_labels_that_are_not_classes_are_named(labels: list[str | None], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve_labels(labels, vocabulary("fox", "owl"))
    assert "unknown5" not in str(caught.value)


def test_a_data_set_without_labels_has_none() -> None:
    assert resolve_labels([None, None], FARM) == ([None, None], ())
    assert resolve_labels([], FARM) == ([], ())


@given(st.lists(st.sampled_from(["fox", "Fox", "tabby_cat", "owl", None])))
def test_labels_keep_their_order(labels: list[str | None]) -> None:
    found, _ = resolve_labels(labels, FARM)
    assert found == [resolve_labels([label], FARM)[0][0] for label in labels]


def test_labels_of_the_rendered_world_are_classes_of_its_vocabulary() -> None:
    labels = [entry.label for entry in open_dataset("world:test?scenes=60").entries]
    assert resolve_labels(labels, load_vocabulary("world")) == (labels, ())


def _usual_lists() -> dict[str, list[str]]:
    import open_clip  # noqa: PLC0415
    from timm.data import ImageNetInfo  # noqa: PLC0415
    from torchvision.models import get_weight  # noqa: PLC0415

    info = ImageNetInfo()
    whole = [info.index_to_description(index) for index in range(1000)]
    return {
        "OpenAI": list(open_clip.IMAGENET_CLASSNAMES),
        "torchvision": list(get_weight("ResNet50_Weights.IMAGENET1K_V2").meta["categories"]),
        "Keras": [text.split(", ")[0].replace(" ", "_") for text in whole],
        "all words": whole,
        "ids": [f"{one} {text}" for one, text in zip(info.label_names(), whole, strict=True)],
    }


@pytest.mark.parametrize("which", ["OpenAI", "torchvision", "Keras", "all words", "ids"])
def test_every_wordnet_id_is_found_in_any_of_the_usual_lists(which: str, tmp_path: Path) -> None:
    from timm.data import ImageNetInfo  # noqa: PLC0415

    names = _usual_lists()[which]
    (tmp_path / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    listed = parse_classes(str(tmp_path / "classes.txt")).within(load_vocabulary("imagenet"))
    expected = [name.partition(" ")[2] if which == "ids" else name for name in names]
    assert resolve_labels(ImageNetInfo().label_names(), listed)[0] == expected
    told = {
        "OpenAI": "2 classes are repeated and count once: 'missile', 'sunglasses'",
        "Keras": "2 classes are repeated and count once: 'crane', 'maillot'",
        "all words": "1 class is repeated and counts once: 'crane'",
        "ids": "every class begins with a WordNet id, which is left out: 'n01440764 tench, Tinca tinca'",
    }
    assert listed.notes[:1] == ((told[which],) if which in told else ())


def test_numbers_before_names_are_ignored_and_named() -> None:
    mine = vocabulary("Black-footed Albatross", "Laysan albatross", "7 up")
    labels = ["001.Black_footed_Albatross", "2_Laysan Albatross", "7 up"]
    assert resolve_labels(labels, mine) == (
        ["Black-footed Albatross", "Laysan albatross", "7 up"],
        ("2 labels are read without their numbers: '001.Black_footed_Albatross', '2_Laysan Albatross'",),
    )
    with pytest.raises(InputError, match=r"'003\.Crow'"):
        resolve_labels(["003.Crow"], mine)


def test_accents_match_however_they_are_encoded() -> None:
    assert resolve_labels(["cafe\u0301"], vocabulary("Caf\u00e9", "tea"))[0] == ["Caf\u00e9"]
