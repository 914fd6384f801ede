"""Frozen dataclasses with slots that are quick to define; everything else about them is as of :mod:`dataclasses`.

The standard library compiles six functions of source for each such class: a millisecond, and a cold start defines a
hundred of them, of which it makes instances of a third. Here they share what does not depend on the class, and only
``__init__`` is compiled, when the first instance is made. ``fields``, ``replace``, ``asdict``, pickling, matching and
inheritance work as they do there, and to type checkers it is the standard library's decorator. A class that is not both
frozen and slotted is left to that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, field
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Final

__all__ = ["dataclass", "field"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    """One that the standard library makes, for what it marks classes and fields with."""

    value: int


_PARAMS: Final[Any] = _Sample.__dataclass_params__  # type: ignore[attr-defined]
_FIELD: Final[Any] = dataclasses.fields(_Sample)[0]._field_type  # type: ignore[attr-defined]
_NOT_GIVEN: Final = object()
_NOT_COPIED: Final = frozenset({"__dict__", "__weakref__"})


def _dataclass(*, frozen: bool = False, slots: bool = False, kw_only: bool = False, eq: bool = True) -> Any:
    if not (frozen and slots):
        return dataclasses.dataclass(frozen=frozen, slots=slots, kw_only=kw_only, eq=eq)
    return lambda cls: _record(cls, kw_only=kw_only, eq=eq)


def _record(cls: type[Any], *, kw_only: bool, eq: bool) -> type[Any]:
    """Return the class with slots and methods; a class cannot be given slots, so it is another one."""
    fields: dict[str, Field[Any]] = {}
    for base in cls.__mro__[-1:0:-1]:
        fields |= getattr(base, "__dataclass_fields__", {})
    own = _own_fields(cls, kw_only=kw_only)
    fields |= own
    taken = {slot for base in cls.__mro__[1:] for slot in base.__dict__.get("__slots__", ())}
    body = {name: value for name, value in vars(cls).items() if name not in own and name not in _NOT_COPIED}
    shown = [one.name for one in fields.values() if one.repr]
    methods = {
        "__repr__": _repr_of(cls.__qualname__, shown),
        "__setattr__": _no_setting,
        "__delattr__": _no_deleting,
        "__getstate__": _state,
        "__setstate__": _restore,
        "__match_args__": tuple(one.name for one in fields.values() if one.init and not one.kw_only),
    }
    if eq:
        compared = _values_of([one.name for one in fields.values() if one.compare])
        methods |= {"__eq__": _eq_of(compared), "__hash__": lambda self: hash(compared(self))}
    slots = tuple(name for name in fields if name not in taken)
    marks = {"__slots__": slots, "__dataclass_fields__": fields, "__dataclass_params__": _PARAMS}
    metaclass: Any = type(cls)
    made: type[Any] = metaclass(cls.__name__, cls.__bases__, {**methods, **body, **marks})
    made.__qualname__ = cls.__qualname__
    if "__init__" not in body:
        made.__init__ = _first_init_of(made)
    return made


def _own_fields(cls: type[Any], *, kw_only: bool) -> dict[str, Field[Any]]:
    fields = {}
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if str(annotation).startswith(("ClassVar", "typing.ClassVar")):
            continue
        default = vars(cls).get(name, MISSING)
        one: Any = default if isinstance(default, Field) else field(default=default)
        if one.default.__class__.__hash__ is None:
            raise ValueError(f"{cls.__qualname__}.{name}: a mutable default is shared, give a default_factory")
        one.name, one.type, one._field_type = name, annotation, _FIELD
        one.kw_only = kw_only if one.kw_only is MISSING else one.kw_only
        fields[name] = one
    return fields


def _values_of(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _eq_of(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, object], Any]:
    def __eq__(self: Any, other: object) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _repr_of(name: str, shown: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{name}({', '.join(f'{each}={getattr(self, each)!r}' for each in shown)})"

    return recursive_repr()(__repr__)


def _first_init_of(cls: Any) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _init_of(cls)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _init_of(cls: type[Any]) -> Callable[..., None]:
    fields: Mapping[str, Field[Any]] = cls.__dataclass_fields__
    scope: dict[str, Any] = {"_set": object.__setattr__, "_NOT_GIVEN": _NOT_GIVEN}
    lines = []
    for name, one in fields.items():
        value = name
        if one.default is not MISSING:
            scope[f"_default_{name}"] = one.default
            value = name if one.init else f"_default_{name}"
        elif one.default_factory is not MISSING:
            scope[f"_make_{name}"] = one.default_factory
            value = f"_make_{name}() if {name} is _NOT_GIVEN else {name}" if one.init else f"_make_{name}()"
        elif not one.init:
            continue
        lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    given = [one for one in fields.values() if one.init]
    last = [_parameter(one) for one in given if one.kw_only]
    first = [_parameter(one) for one in given if not one.kw_only]
    parameters = ", ".join(["self", *first, *(["*", *last] if last else [])])
    exec("\n".join([f"def __init__({parameters}):", *(lines or [" pass"])]), scope)  # noqa: S102 - names of fields
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _parameter(one: Field[Any]) -> str:
    if one.default is not MISSING:
        return f"{one.name}=_default_{one.name}"
    return one.name if one.default_factory is MISSING else f"{one.name}=_NOT_GIVEN"


def _no_setting(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _no_deleting(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _restore(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, state, strict=True):
        object.__setattr__(self, name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass
