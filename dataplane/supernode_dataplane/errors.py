"""What can go wrong before anything is computed.

    DataplaneError
    ├── ProfileNotFoundError   reason ProfileNotFound: no such hardware profile
    ├── InvalidFigureError     a figure of a machine that cannot be changed so
    ├── ImpossibleFailureError a failure of what a machine does not have
    ├── StackNotFoundError     reason InvalidObject: no such software stack
    └── ModelError
        ├── ModelNotFoundError     reason ModelNotFound: no such name in the catalogue
        └── InvalidModelError      reason InvalidModel: a config that is not understood

All are permanent: trying again does not help. The mathematics itself never raises on bad input: it returns a Problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

__all__ = [
    "DataplaneError",
    "ImpossibleFailureError",
    "InvalidFigureError",
    "InvalidModelError",
    "ModelError",
    "ModelNotFoundError",
    "ProfileNotFoundError",
    "StackNotFoundError",
    "near_names",
]


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that a person may have meant; all of them when none is near."""
    names = sorted(known)
    return get_close_matches(name.lower()[:128], names, n=3, cutoff=0.5) or names


class DataplaneError(Exception):
    """Base of all errors of this package."""


class ProfileNotFoundError(DataplaneError):
    """There is no such hardware profile."""

    reason = "ProfileNotFound"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"there is no hardware profile {name[:64]!r}; known: {', '.join(known)}")


class InvalidFigureError(DataplaneError):
    """A figure of a machine that is unknown or out of range; ``figure`` names it."""

    def __init__(self, figure: str, message: str) -> None:
        self.figure = figure[:64]
        super().__init__(message)


class ImpossibleFailureError(DataplaneError):
    """A failure of something that the machine does not have.

    ``kind`` is the field of Failures, ``index`` the entry (None: the whole kind), ``part`` the number that is wrong.
    """

    def __init__(self, kind: str, index: int | None, part: str, message: str) -> None:
        self.kind = kind
        self.index = index
        self.part = part
        super().__init__(message)


class StackNotFoundError(DataplaneError):
    """There is no such software stack."""

    reason = "InvalidObject"
    field = "stack"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no software stack {name[:64]!r}; known: {', '.join(known)}")


class ModelError(DataplaneError):
    """A model that cannot be used."""

    reason: Literal["ModelNotFound", "InvalidModel"] = "InvalidModel"
    field = "spec.model"

    @property
    def of_spec(self) -> str:
        """The message for who wrote a spec, which can describe a model too."""
        return str(self)


class ModelNotFoundError(ModelError):
    """The catalogue has no such model; the message names the few that are near."""

    reason = "ModelNotFound"
    field = "spec.model.name"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        near = ", ".join(get_close_matches(name.lower()[:128], sorted(known), n=3, cutoff=0.4))
        super().__init__(
            f"there is no model {name[:128]!r} in the catalogue, which `supernode plan --help` lists"
            + (f"; near: {near}" if near else "")
        )

    @property
    def of_spec(self) -> str:
        """The message, with the config as the other way."""
        return f"{self}; or give its config.json as model.config"


class InvalidModelError(ModelError):
    """A config with a key that is wrong, missing or not understood."""

    field = "spec.model.config"
