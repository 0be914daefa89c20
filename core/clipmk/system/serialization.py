"""Records to JSON-ready plain data and back, checked against the records' own types."""

import dataclasses
import sys
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from clipmk.errors import ClipmkError

Record = TypeVar("Record")

_LARGEST = {int: 2**63 - 1, float: sys.float_info.max}
"""Largest magnitude of a number in a record; infinity and NaN are refused, too."""

WRITTEN_AS = {"class_name": "class", "share": "transport"}
"""Field -> its name in JSON, which stays for the readers of the format."""


def plain(value: Any) -> Any:
    """Turn records into JSON-ready dicts and lists; a few fields have another name there (`WRITTEN_AS`)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            WRITTEN_AS.get(f.name, f.name): plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("written", True)
        }
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


class MalformedRecordError(ValueError):
    """Data that does not match a record's types; the message names the place and repeats the value."""


def from_plain(kind: type[Record], data: Any) -> Record:
    """Make a record of the given dataclass from what `plain` and JSON made of it; else `MalformedRecordError`."""
    record: Record = _read(kind, data, kind.__name__)
    return record


def _read(hint: Any, data: Any, place: str) -> Any:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _read_union(hint, data, place)
    if origin is tuple:
        return _read_tuple(get_args(hint), data, place)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _read_record(hint, data, place)
    if not _fits(hint, data):
        raise _malformed(data, place, getattr(hint, "__name__", hint))
    return float(data) if hint is float else data


def _fits(hint: Any, data: Any) -> bool:
    """Whether a JSON value has a type that is not a record; an integer is a number too, a boolean is neither."""
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return data in get_args(hint)
    if hint is int or hint is float:
        return isinstance(data, hint | int) and not isinstance(data, bool) and abs(data) <= _LARGEST[hint]
    return isinstance(data, get_origin(hint) or hint)


def _read_union(hint: Any, data: Any, place: str) -> Any:
    """A value of the first alternative that fits; None first, for it fits nothing else."""
    choices = get_args(hint)
    if data is None and types.NoneType in choices:
        return None
    for choice in choices:
        try:
            return _read(choice, data, place)
        except MalformedRecordError:
            continue
    raise _malformed(data, place, hint)


def _read_tuple(hints: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise _malformed(data, place, "a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = hints[:1] * len(data)
    if len(hints) != len(data):
        raise MalformedRecordError(f"{place} has {len(data)} members; it must have {len(hints)}")
    pairs = enumerate(zip(hints, data, strict=True))
    return tuple(_read(hint, item, f"{place}[{index}]") for index, (hint, item) in pairs)


def _read_record(kind: type[Any], data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise _malformed(data, place, "an object")
    hints, needed = _fields(kind)  # type: ignore[arg-type]
    fields = {written: name for name, written in WRITTEN_AS.items() if name in hints}
    values: dict[str, Any] = {fields.get(key, str(key)): data[key] for key in data}
    unknown = sorted(set(values) - set(hints))
    missing = sorted(needed - set(values))
    if unknown or missing:
        raise MalformedRecordError(f"{place} lacks {missing} and has the unknown fields {unknown}")
    try:
        return kind(**{name: _read(hints[name], value, f"{place}.{name}") for name, value in values.items()})
    except ClipmkError as error:  # settings check themselves
        raise MalformedRecordError(f"{place}: {error}") from error


def _malformed(data: Any, place: str, needed: object) -> MalformedRecordError:
    return MalformedRecordError(f"{place} is {data!r:.80}; it must be {needed}")


@cache
def _fields(kind: type[Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Type of every field that is written, and the names of those that have no default."""
    written = [field for field in dataclasses.fields(kind) if field.init and field.metadata.get("written", True)]
    hints = get_type_hints(kind, None, {"Image": types.SimpleNamespace(Image=object)})  # known to type checkers only
    required = {
        field.name
        for field in written
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return {field.name: hints[field.name] for field in written}, frozenset(required)
