"""JSON into dataclasses, strictly: every field there, of its type, and no other."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mskt.core.errors import InputError

T = TypeVar("T")
_REMEDY = "Give the file as mskt wrote it, or make it again."
_WORDS = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}


def read(kind: type[T], text: str, file: str, schema: int) -> T:
    """Build a dataclass out of the text of a JSON document.

    Args:
        kind: a dataclass whose fields are numbers, text, None, tuples or such dataclasses.
        text: of the document.
        file: its name, for errors.
        schema: that its field ``schema`` must have; looked at first, as another one explains what
            else is unlike.

    Raises:
        InputError: the text is no JSON, the schema is another, a field is missing, unknown or of
            another type, or a number is not finite.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(file, f"is no JSON ({error})", _REMEDY) from error
    found = content.get("schema", schema) if isinstance(content, dict) else schema
    if found != schema:
        raise InputError(
            file,
            f"has schema {found}, this mskt reads {schema}",
            "Another version of mskt wrote it. Make it again from the same runs.",
        )
    built: T = _build(kind, content, "", file)
    return built


def _build(kind: Any, value: Any, place: str, file: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        (other,) = (arg for arg in get_args(kind) if arg is not NoneType)
        return _build(other, value, place, file)
    if is_dataclass(kind):
        return _dataclass(kind, value, place, file)
    if origin is tuple:
        return _tuple(get_args(kind), value, place, file)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not right or (kind is float and not math.isfinite(value)):
        raise InputError(file, f"{place or 'it'} is {value!r}, not {_WORDS[kind]}", _REMEDY)
    return value


def _dataclass(kind: Any, value: Any, place: str, file: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(file, f"{place or 'it'} is no object", _REMEDY)
    names = [field.name for field in fields(kind)]
    for problem, odd in (
        ("lacks", [name for name in names if name not in value]),
        ("has unknown", [name for name in value if name not in names]),
    ):
        if odd:
            raise InputError(file, f"{place or 'it'} {problem} {', '.join(odd)}", _REMEDY)
    hints = get_type_hints(kind)
    built = {
        name: _build(hints[name], value[name], f"{place}.{name}".lstrip("."), file)
        for name in names
    }
    try:
        return kind(**built)
    except ValueError as error:
        raise InputError(file, f"{place or 'it'}: {error}", _REMEDY) from error


def _tuple(kinds: tuple[Any, ...], value: Any, place: str, file: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InputError(file, f"{place} is no list", _REMEDY)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise InputError(file, f"{place} has {len(value)} entries, not {len(kinds)}", _REMEDY)
    return tuple(
        _build(kind, entry, f"{place}[{number}]", file)
        for number, (kind, entry) in enumerate(zip(kinds, value, strict=True))
    )
