"""What the fields of our models may be, read off their annotations: for the words of errors."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Kind", "fields_of", "is_model", "kinds_of", "required_of"]

_BOUNDS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length")


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that a field may be: a type, what it is made of, and bounds by their names in annotations."""

    type: Any
    parts: tuple[Any, ...] = ()
    bounds: tuple[tuple[str, Any], ...] = ()

    def bound(self, *names: str) -> Any:
        """Return the first of these bounds that there is, or None."""
        found = dict(self.bounds)
        return next((found[name] for name in names if name in found), None)


@cache
def fields_of(model: type[BaseModel]) -> dict[str, tuple[Kind, ...]]:
    """Return what each field of a model may be, by its name in a file."""
    return {
        info.alias or name: kinds_of(info.annotation, tuple(info.metadata)) for name, info in model.model_fields.items()
    }


def required_of(model: type[BaseModel]) -> frozenset[str]:
    """Return the names in a file of the fields that a model needs."""
    return frozenset(info.alias or name for name, info in model.model_fields.items() if info.is_required())


def kinds_of(annotation: Any, metadata: Sequence[Any] = ()) -> tuple[Kind, ...]:
    """Return what an annotation allows, without None; nothing for plain JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kinds_of(arguments[0], (*metadata, *arguments[1:]))
    if origin in (Union, types.UnionType):
        return tuple(kind for each in arguments if each is not types.NoneType for kind in kinds_of(each, metadata))
    kind = origin or annotation
    if kind not in (bool, int, float, str, list, dict) and not (isinstance(kind, type) and _is_known(kind)):
        return ()
    return (Kind(kind, arguments, tuple(_bounds(metadata))),)


def _is_known(kind: type) -> bool:
    return issubclass(kind, BaseModel | StrEnum)


def is_model(kind: Any) -> bool:
    """Return whether a field that is this is a mapping of fields."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _bounds(metadata: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for entry in metadata:
        if isinstance(entry, FieldInfo):
            yield from _bounds(entry.metadata)
            continue
        for name in _BOUNDS:
            value = getattr(entry, name, None)
            if value is not None:
                yield name, value
