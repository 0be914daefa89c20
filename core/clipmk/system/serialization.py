"""Plain data back into frozen records: the inverse of `plain`, checked against the records' own types."""

from __future__ import annotations

import dataclasses
import sys
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

_LARGEST = {int: 2**63 - 1, float: sys.float_info.max}
"""Numbers beyond, infinite ones and NaN are not in any record."""


def plain(value: Any) -> Any:
    """Turn records into JSON-ready dicts and lists; the field `class_name` is written as "class"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "class" if f.name == "class_name" else f.name: plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("written", True)
        }
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


class MalformedRecordError(ValueError):
    """Data that is not what a record's types say; the message names the place and what stands there."""


def from_plain(kind: type[Record], data: Any) -> Record:
    """Make a record of the given dataclass from what `plain` and JSON made of it.

    Raises:
        MalformedRecordError: a field is missing, unknown or of another type.
    """
    made: Record = _restored(kind, data, kind.__name__)
    return made


def _restored(hint: Any, data: Any, place: str) -> Any:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _one_of(hint, data, place)
    if origin is tuple:
        return _tuple(get_args(hint), data, place)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _record(hint, data, place)
    if not _fits(hint, data):
        raise MalformedRecordError(f"{place} is {data!r:.80}; it must be {getattr(hint, '__name__', hint)}")
    return float(data) if hint is float else data


def _fits(hint: Any, data: Any) -> bool:
    """Whether a JSON value that holds no record has the type; an integer is a number too, a boolean is neither."""
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return data in get_args(hint)
    if hint is int or hint is float:
        return isinstance(data, hint | int) and not isinstance(data, bool) and abs(data) <= _LARGEST[hint]
    return isinstance(data, get_origin(hint) or hint)


def _one_of(hint: Any, data: Any, place: str) -> Any:
    """A value of the first alternative that fits; None first, for it fits nothing else."""
    choices = get_args(hint)
    if data is None and type(None) in choices:
        return None
    for choice in choices:
        try:
            return _restored(choice, data, place)
        except MalformedRecordError:
            continue
    raise MalformedRecordError(f"{place} is {data!r:.80}; it must be {hint}")


def _tuple(hints: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise MalformedRecordError(f"{place} is {data!r:.80}; it must be a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        return tuple(_restored(hints[0], item, f"{place}[{index}]") for index, item in enumerate(data))
    if len(hints) != len(data):
        raise MalformedRecordError(f"{place} has {len(data)} members; it must have {len(hints)}")
    return tuple(
        _restored(hint, item, f"{place}[{index}]") for index, (hint, item) in enumerate(zip(hints, data, strict=True))
    )


def _record(kind: type[Any], data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise MalformedRecordError(f"{place} is {data!r:.80}; it must be an object")
    hints, needed = _fields(kind)  # type: ignore[arg-type]
    values = {("class_name" if key == "class" and "class_name" in hints else key): data[key] for key in data}
    unknown = sorted(set(values) - set(hints))
    missing = sorted(needed - set(values))
    if unknown or missing:
        raise MalformedRecordError(f"{place} lacks {missing} and does not know {unknown}")
    return kind(**{name: _restored(hints[name], value, f"{place}.{name}") for name, value in values.items()})


@cache
def _fields(kind: type[Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Type of every field that is written out, and which of them must be there."""
    written = [field for field in dataclasses.fields(kind) if field.init and field.metadata.get("written", True)]
    names = {field.name for field in written}
    hints = {name: hint for name, hint in get_type_hints(kind, None, _namespace()).items() if name in names}
    optional = {
        field.name
        for field in written
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }
    return hints, frozenset(names - optional)


def _namespace() -> dict[str, Any]:
    """Names that records know only for type checkers: the picture is no plain data and is never restored."""
    return {"Image": types.SimpleNamespace(Image=object)}
