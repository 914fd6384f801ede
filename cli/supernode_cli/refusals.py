"""A document as one of our models, or one error in our own words: the field, what was given, what is wanted.

What is wanted is read off the models themselves, so the words never differ from the bounds. Stricter than the models
where leniency would hide a mistake: null is not absence (a line whose value was forgotten is null), true and false are
not 1 and 0, and 1 is not true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from supernode_cli.errors import ScenarioError
from supernode_cli.model_kinds import Kind, fields_of, is_model, kinds_of, required_of
from supernode_dataplane import wording

__all__ = ["checked", "field_paths"]

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]
_MOST_PATH: Final = 200


def checked(model: type[M], document: Any) -> M:
    """Return a document as a model; ScenarioError for what is missing, unknown, of another kind or out of range."""
    if not isinstance(document, Mapping):
        raise ScenarioError("", wording.must_be(_wanted((Kind(model),)), document))
    problem = _problem((Kind(model),), document, ())
    if problem is not None:
        raise problem
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _explained(model, error) from None


def _problem(kinds: tuple[Kind, ...], value: Any, at: Place) -> ScenarioError | None:
    """Return what models would let pass: unknown keys, null, and true or false for a number."""
    if value is None:
        return ScenarioError(_path(at), f"is null: give {_wanted(kinds)}, or leave it out")
    of_types = {kind.type for kind in kinds}
    if isinstance(value, bool) != (bool in of_types) and (isinstance(value, bool) or of_types == {bool}):
        return ScenarioError(_path(at), wording.must_be(_wanted(kinds), value))
    inner: Iterator[ScenarioError | None]
    if isinstance(value, Mapping):
        inner = (_of_entry(kinds, value, key, at) for key in value)
    elif isinstance(value, list):
        parts = next((kinds_of(kind.parts[0]) for kind in kinds if kind.type is list), ())
        inner = (_problem(parts, item, (*at, number)) for number, item in enumerate(value) if parts)
    else:
        return None
    return next((problem for problem in inner if problem is not None), None)


def _of_entry(kinds: tuple[Kind, ...], owner: Mapping[Any, Any], key: Any, at: Place) -> ScenarioError | None:
    for kind in kinds:
        if kind.type is dict:
            # What is plain JSON is its reader's to judge.
            return _problem(parts, owner[key], (*at, str(key))) if (parts := kinds_of(kind.parts[1])) else None
        if is_model(kind.type):
            fields = fields_of(kind.type)
            if key not in fields:
                return _unknown(key, owner[key], fields, at)
            if owner[key] is None and key in required_of(kind.type):
                return ScenarioError(_path((*at, key)), f"is null: give {_wanted(fields[key])}")
            return _problem(fields[key], owner[key], (*at, key))
    return None


def _unknown(key: Any, value: Any, fields: Mapping[str, Any], at: Place) -> ScenarioError:
    """Return the error of a key that is not known at a place: the one that is meant, or where it belongs."""
    name = str(key)
    near = wording.nearest(name, fields)
    hint = f"did you mean {near}? " if near else _elsewhere(name, value)
    here = f"nown here are {', '.join(sorted(fields))}"
    return ScenarioError("", f"unknown field {_path((*at, name))}: {hint}{'K' if hint else 'k'}{here}")


def _elsewhere(name: str, value: Any) -> str:
    """Return where a scenario has a field of this name for such a value, as a sentence; empty where it has none."""
    from supernode_cli.scenario import Scenario  # late: its own modules are checked with this one

    paths = set(field_paths(Scenario))
    above = {path[:-1] for path in paths}
    places = [path for path in paths if path[-1] == name and (path in above) == isinstance(value, Mapping)]
    shown = " or ".join(_path(path) for path in sorted(places, key=lambda path: (len(path), path))[:3])
    return f"there is {shown}. " if places else ""


def field_paths(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field of a model by its names in a file, those of lists' entries left out."""
    for key, kinds in fields_of(model).items():
        yield (*at, key)
        for kind in kinds:
            if is_model(kind.type):
                yield from field_paths(kind.type, (*at, key))


def _explained(model: type[BaseModel], error: ValidationError) -> ScenarioError:
    first = error.errors()[0]
    kinds: tuple[Kind, ...] = (Kind(model),)
    at: Place = ()
    for part in first["loc"]:
        found = _below(kinds, part)
        if not found:
            break  # what follows are names of the alternatives that were tried
        kinds, at = found, (*at, part)
    wanted = _wanted(kinds)
    return ScenarioError(
        _path(at), wording.missing(wanted) if first["type"] == "missing" else wording.must_be(wanted, first["input"])
    )


def _below(kinds: tuple[Kind, ...], part: str | int) -> tuple[Kind, ...]:
    """Return what may stand at a key or an index of one of these kinds; nothing where there is none."""
    for kind in kinds:
        if kind.type is list and isinstance(part, int):
            return kinds_of(kind.parts[0])
        if kind.type is dict and isinstance(part, str):
            return kinds_of(kind.parts[1])
        if is_model(kind.type) and part in fields_of(kind.type):
            return fields_of(kind.type)[str(part)]
    return ()


def _wanted(kinds: tuple[Kind, ...]) -> str:
    if {int, float, str} <= {kind.type for kind in kinds}:
        return "a number or a word"
    return " or ".join(dict.fromkeys(_words(kind) for kind in kinds)) or "a plain value"


def _words(kind: Kind) -> str:
    least, most = kind.bound("ge", "gt"), kind.bound("le", "lt")
    if kind.type is bool:
        return "true or false"
    if kind.type is int and least is not None and most is not None:
        return wording.whole_number(least, most)
    if kind.type is float and least is not None and most is not None:
        return wording.number(least, most, above=kind.bound("ge") is None)
    if kind.type in (int, float):
        return "a whole number" if kind.type is int else "a number"
    if kind.type is str:
        return f"text{_length(kind, 'characters')}"
    if kind.type is list:
        return f"a list{_length(kind, 'entries')}, each {_wanted(kinds_of(kind.parts[0]))}"
    if is_model(kind.type):
        return f"a mapping of {', '.join(sorted(fields_of(kind.type)))}"
    return f"a mapping{_length(kind, 'entries')}" if kind.type is dict else wording.one_of(kind.type)


def _length(kind: Kind, of: str) -> str:
    least, most = kind.bound("min_length"), kind.bound("max_length")
    if most is None:
        return ""
    return f" of {least} to {most} {of}" if least else f" of at most {most} {of}"


def _path(at: Place) -> str:
    return ".".join(str(part) for part in at)[:_MOST_PATH]
