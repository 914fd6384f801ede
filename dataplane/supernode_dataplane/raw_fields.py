"""Fields of raw JSON objects, read with the API's bounds: a reader returns the value or raises with its path.

The API server validates objects with the same bounds; scenario files and objects from elsewhere meet them here. No
pydantic: building the API's models would double the cold start of every process that only computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.catalogue import load_model, parse_config
from supernode_dataplane.state import Problem
from supernode_dataplane.wording import missing, must_be, number, one_of, whole_number

__all__ = ["FieldError", "read_choice", "read_mapping", "read_model", "read_number", "read_whole"]

_MAX_CONFIG: Final = 16384
T = TypeVar("T", bound=str)


class FieldError(Exception):
    """A field that cannot be read; ``problem`` says which and what to do."""

    def __init__(self, field: str, message: str) -> None:
        self.problem = Problem("InvalidObject", field, f"{field} {message}")
        super().__init__(message)


def read_mapping(
    owner: Mapping[str, Any], key: str, path: str, default: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Return an object of ``owner``, which is at ``path``; FieldError when it is missing without a default."""
    value = owner.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, Mapping):
        raise FieldError(f"{path}.{key}", missing("a mapping") if value is None else must_be("a mapping", value))
    return value


def read_choice(owner: Mapping[str, Any], key: str, path: str, known: tuple[T, ...], default: T | None = None) -> T:
    """Return one of the known words; FieldError lists them."""
    value = owner.get(key)
    if value is None and default is not None:
        return default
    for choice in known:
        if value == choice:
            return choice
    wanted = one_of(known)
    raise FieldError(f"{path}.{key}", missing(wanted) if value is None else must_be(wanted, value))


def read_whole(
    owner: Mapping[str, Any], key: str, path: str, most: int, default: int | None = None, *, least: int = 1
) -> int:
    """Return a whole number from ``least`` to ``most``."""
    value = owner.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        wanted = whole_number(least, most)
        raise FieldError(f"{path}.{key}", missing(wanted) if value is None else must_be(wanted, value))
    return value


def read_number(owner: Mapping[str, Any], key: str, path: str, most: float, *, least: float) -> float:
    """Return a number from ``least`` to ``most``."""
    value = owner.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise FieldError(f"{path}.{key}", must_be(number(least, most), value))
    return float(value)


def read_model(ref: Mapping[str, Any]) -> Architecture:
    """Return the model that a spec.model names or describes; ModelError when there is none such."""
    name, config = ref.get("name"), ref.get("config")
    if (name is None) == (config is None):
        raise FieldError("spec.model", "needs exactly one of name and config")
    if name is not None:
        if not isinstance(name, str):
            raise FieldError("spec.model.name", must_be("text", name))
        return load_model(name)
    if not isinstance(config, str) or len(config) > _MAX_CONFIG:
        raise FieldError("spec.model.config", f"must be a config.json as text of at most {_MAX_CONFIG} characters")
    return parse_config(config)
