"""Records to plain data and back; what does not match their types is refused by place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from clipmk.settings import Settings, preset
from clipmk.system.serialization import MalformedRecordError, from_plain, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    class_name: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    rows: tuple[Inner, ...]
    size: tuple[int, int]
    kind: Literal["a", "b"]
    best: Inner | None = None
    note: str | None = None


OUTER = Outer(
    rows=(Inner(class_name="cat", score=1.0),), size=(3, 4), kind="a", best=Inner(class_name="dog", score=0.5)
)
GOOD: dict[str, Any] = {"rows": [{"class": "cat", "score": 1}], "size": [3, 4], "kind": "a"}


@pytest.mark.parametrize("record", [OUTER, preset("paper", soft_threshold=0.5, language_count=7)])
def test_records_survive_json(record: Any) -> None:
    assert from_plain(type(record), json.loads(json.dumps(plain(record)))) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [3]}, "Outer.size has 1 members; it must have 2"),
        ({"size": [3, True]}, r"Outer.size\[1\] is True; it must be int"),
        ({"size": [3, 2**63]}, r"Outer.size\[1\] is 9223372036854775808; it must be int"),
        ({"size": 3}, "Outer.size is 3; it must be a list"),
        ({"kind": "c"}, "Outer.kind is 'c'; it must be"),
        ({"rows": [{"class": "cat"}]}, r"Outer.rows\[0\] lacks \['score'\] and has the unknown fields \[\]"),
        ({"rows": [{"class": "cat", "score": float("nan")}]}, r"Outer.rows\[0\].score is nan; it must be float"),
        ({"rows": ["cat"]}, r"Outer.rows\[0\] is 'cat'; it must be an object"),
        ({"best": 3}, "Outer.best is 3; it must be"),
        ({"more": 3}, r"Outer lacks \[\] and has the unknown fields \['more'\]"),
    ],
)
def test_data_of_another_type_is_refused_by_its_place(change: dict[str, Any], message: str) -> None:
    assert from_plain(Outer, GOOD).rows[0].score == 1.0
    with pytest.raises(MalformedRecordError, match=message):
        from_plain(Outer, GOOD | change)


def test_settings_that_refuse_their_values_are_malformed() -> None:
    with pytest.raises(MalformedRecordError, match="Settings: seed is -1; it must be at least 0"):
        from_plain(Settings, plain(Settings()) | {"seed": -1})
