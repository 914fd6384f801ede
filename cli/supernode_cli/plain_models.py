"""Documents as models, and back, without what pydantic builds to validate and to dump them.

A validator is built from all that a document may say, when it is first used: a tenth of a cold start, for one document
that says little. Most documents have nothing but plain values of just the right type within their bounds, and their
models are made of these here. Whatever else stands in one (a number in quotes, a word that is none of those known, one
field too many or too few) is the validator's to judge. Where many documents come, the validator is the faster way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from enum import Enum, StrEnum
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from supernode_cli.model_kinds import Kind, fields_of, is_model, kinds_of

__all__ = ["constructed", "dumped"]

M = TypeVar("M", bound=BaseModel)
_MOST_EXACT: Final = 2**53
_FEW: Final = 8
"""Documents of one kind for which a validator is not worth its while."""
_made: Counter[type[BaseModel]] = Counter()


class _NotPlainError(Exception):
    """Something that a validator has to judge."""


def constructed(model: type[M], document: Mapping[Any, Any]) -> M | None:
    """Return a document as a model; None when a validator has to say whether it is one, or is quicker at it."""
    _made[model] += 1
    if model.__pydantic_complete__ or _made[model] > _FEW:
        return None
    try:
        return _model(model, document)
    except _NotPlainError:
        return None


def dumped(model: BaseModel, without: Collection[str] = ()) -> dict[str, Any]:
    """Return a model as JSON values by its fields' names in a file, those that are None left out; not ``without``."""
    return {
        info.alias or name: _json(value)
        for name, info in type(model).model_fields.items()
        if name not in without and (value := getattr(model, name)) is not None
    }


def _json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return dumped(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_json(each) for each in value]
    return {key: _json(each) for key, each in value.items()} if isinstance(value, dict) else value


def _model(model: type[M], document: Mapping[Any, Any]) -> M:
    """Return a model as its validator would make it; ``model_construct`` takes the values that it is given as right."""
    checks = model.__pydantic_decorators__
    if checks.field_validators or checks.model_validators or checks.validators or checks.root_validators:
        raise _NotPlainError
    kinds, values, given = fields_of(model), {}, set()
    for name, info in model.model_fields.items():
        key = info.alias or name
        if key in document:
            values[name] = _value(kinds[key], document[key])
            given.add(name)
        elif info.is_required():
            raise _NotPlainError
        elif is_model(info.default_factory):
            values[name] = _model(info.default_factory, {})  # type: ignore[arg-type]
        elif info.default_factory in (list, dict):  # to call it through pydantic costs more than all the others
            values[name] = info.default_factory()
        else:
            values[name] = info.get_default(call_default_factory=True, validated_data={})
    if len(given) < len(document):
        raise _NotPlainError
    return model.model_construct(given, **values)


def _value(kinds: tuple[Kind, ...], value: Any) -> Any:
    """Return what a value of one of these kinds becomes; of plain JSON, which has none, the value itself."""
    if not kinds:
        return _plain(value)
    # A whole number is as good as another, but in a field that may be either it stays what it is.
    for kind in sorted(kinds, key=lambda kind: kind.type is not type(value)):
        taken, read = _READERS[next(known for known in _READERS if issubclass(kind.type, known))]
        if type(value) in taken and kind.exact:
            return read(kind, value)
    raise _NotPlainError


def _model_of(kind: Kind, value: Any) -> Any:
    return _model(kind.type, value)


def _number(kind: Kind, value: Any) -> Any:
    bounds = dict(kind.bounds)
    if (
        (kind.type is float and not -_MOST_EXACT <= value <= _MOST_EXACT)
        or not bounds.get("ge", value) <= value <= bounds.get("le", value)
        or ("gt" in bounds and value <= bounds["gt"])
        or ("lt" in bounds and value >= bounds["lt"])
    ):
        raise _NotPlainError
    return kind.type(value)


def _text(kind: Kind, value: Any) -> Any:
    _check_length(kind, value)
    return _plain(value)


def _word(kind: Kind, value: Any) -> Any:
    if value not in kind.type._value2member_map_:
        raise _NotPlainError
    return kind.type(value)


def _list(kind: Kind, value: Any) -> Any:
    _check_length(kind, value)
    kinds = kinds_of(kind.parts[0])
    return [_value(kinds, each) for each in value]


def _mapping(kind: Kind, value: Any) -> Any:
    _check_length(kind, value)
    kinds = kinds_of(kind.parts[1])
    if any(type(key) is not str for key in value):
        raise _NotPlainError
    return {_plain(key): _value(kinds, each) for key, each in value.items()}


def _check_length(kind: Kind, value: Any) -> None:
    bounds = dict(kind.bounds)
    if not bounds.get("min_length", 0) <= len(value) <= bounds.get("max_length", len(value)):
        raise _NotPlainError


def _plain(value: Any) -> Any:
    """Return a JSON value, if it is one; text that no file can hold is none."""
    if type(value) is str:
        if not value.isascii():
            _encoded(value)
    elif type(value) is list:
        return [_plain(each) for each in value]
    elif type(value) is dict:
        return {_plain(key) if type(key) is str else _refuse(): _plain(each) for key, each in value.items()}
    elif value is not None and type(value) not in (bool, int, float):
        _refuse()
    return value


def _encoded(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse()


def _refuse() -> Any:
    raise _NotPlainError


def _as_it_is(kind: Kind, value: Any) -> Any:
    return value


_READERS: Final[Mapping[type, tuple[tuple[type, ...], Callable[[Kind, Any], Any]]]] = {
    bool: ((bool,), _as_it_is),
    int: ((int,), _number),
    float: ((float, int), _number),
    StrEnum: ((str,), _word),
    str: ((str,), _text),
    list: ((list,), _list),
    dict: ((dict,), _mapping),
    BaseModel: ((dict,), _model_of),
}
"""Kind of thing -> types of values that are plainly such, and how they are taken."""
