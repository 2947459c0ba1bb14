"""Check what a JSON file says before anything is built from it: a dataclass is the schema.

    unet = read(UNetConfig, card["unet"], "runs/a/config.json: unet", {"blocks": (1, 16)})

Each field is there or has a default, is of the annotated type (int, float, bool, str, Any, Literal, tuple[X, ...],
X | Y, or a dataclass again), and lies in its limits. Numbers are finite, texts have at most `MOST_TEXT` characters,
lists at most `MOST_ITEMS` items. What fails is a ValueError that names the file, the field and the value.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Limits = Mapping[str, tuple[float, float]]  # by the name of the field: the least and the greatest number

MOST_TEXT, MOST_ITEMS = 100_000, 100_000
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def read(kind: type[T], values: Any, where: str, limits: Limits | None = None, strict: bool = False) -> T:
    """Build the dataclass `kind` from a JSON object, or say which field cannot be.

    where: how messages begin, such as the name of the file. strict: unknown fields are refused too.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {show(values)}; wanted an object {{…}}")
    hints, limits = typing.get_type_hints(kind), limits or {}
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if strict and (unknown := sorted(values.keys() - fields.keys())):
        raise ValueError(f"{where}: {show(unknown[0])} is not a field of it. Known: {', '.join(fields)}")
    found = {}
    for name, field in fields.items():
        if name in values:
            found[name] = _fit(hints[name], values[name], f"{where}: {name}", name, limits)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: {name} is missing")
    try:
        return kind(**found)
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None


def show(value: Any) -> str:
    """Return `repr(value)`, shortened."""
    return reprlib.repr(value)


def _fit(hint: Any, value: Any, where: str, name: str, limits: Limits) -> Any:
    """Return the value as the annotated type, or raise a ValueError that begins with `where`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    # one of several types: the first that fits, else the message of the last
    if origin in (types.UnionType, typing.Union):
        kinds = [k for k in inner if _alike(k, value)] or [k for k in inner if k is not type(None)]
        return _fit(kinds[0], value, where, name, limits)
    if dataclasses.is_dataclass(hint):
        return read(typing.cast(type, hint), value, where, limits)
    if origin is typing.Literal:
        if not any(type(value) is type(k) and value == k for k in inner):
            raise ValueError(f"{where} is {show(value)}; wanted one of {', '.join(map(str, inner))}")
        return value
    if not _alike(hint, value):
        raise ValueError(f"{where} is {show(value)}; wanted {'a list' if origin is tuple else NAMES[hint]}")
    # limits
    if origin is tuple:
        if len(value) > MOST_ITEMS:
            raise ValueError(f"{where} has {len(value):,} items; at most {MOST_ITEMS:,} are read")
        return tuple(_fit(inner[0], v, f"{where}[{i}]", name, limits) for i, v in enumerate(value))
    if hint is str and len(value) > MOST_TEXT:
        raise ValueError(f"{where} has {len(value):,} characters; at most {MOST_TEXT:,} are read")
    if hint in (int, float):
        low, high = limits.get(name, (-(2**63), 2**63 - 1) if hint is int else (-math.inf, math.inf))
        if not low <= value <= high or not math.isfinite(value):
            bounds = "" if name not in limits else f" in {low:,} to {high:,}"
            raise ValueError(f"{where} is {show(value)}; wanted {NAMES[hint]}{bounds}")
    return float(value) if hint is float else value


def _alike(hint: Any, value: Any) -> bool:
    """True if a JSON value is of the annotated type; an int is also a float."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, (list, tuple))
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
