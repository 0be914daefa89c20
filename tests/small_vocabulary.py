"""A small vocabulary written by hand, and words to make others of."""

from __future__ import annotations

from hypothesis import strategies as st

from clipmk.vocabulary.vocabulary import Vocabulary

FARM = Vocabulary(
    name="farm",
    classes=("hen", "barn owl", "cat"),
    templates=("a photo of a {}.", "art of the {}."),
    descriptors=("a red comb", "round eyes", "a small beak"),
    by_class={"hen": ("a red comb", "a small beak"), "barn owl": ("round eyes", "a small beak")},
)
WORDS = st.text(st.characters(min_codepoint=33, exclude_categories=("C", "Z")), min_size=1, max_size=12)
