"""Models by name: the packaged catalogue, and the same for configs of one's own.

Names are those of the Hugging Face repositories in lower case and without the owner (``deepseek-r1``,
``llama-3.1-405b``); the repository's full name and a few short ones are taken as well, in any case.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any, Final

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.errors import ModelNotFoundError
from supernode_dataplane.model_config import longest_context, model_from_config, parse_config
from supernode_dataplane.packaged import data_text, parse_data

__all__ = [
    "Architecture",
    "load_model",
    "model_context",
    "model_from_config",
    "model_names",
    "model_source",
    "parse_config",
]

_NAME: Final = re.compile(r"^  (\S+):\n", re.MULTILINE)
"""The line that begins a model in the file: the names are the keys of the one mapping there, two spaces in."""


def model_names() -> tuple[str, ...]:
    """Return the names in the catalogue, sorted."""
    return tuple(sorted(_entries()))


@lru_cache(maxsize=256)
def load_model(name: str) -> Architecture:
    """Return a model of the catalogue by a name that it is known by; ModelNotFoundError lists near ones."""
    known = _find(name)
    return model_from_config(_entry(known)["config"], known)


def model_context(name: str) -> int | None:
    """Return the tokens of a sequence that a model of the catalogue was made for; None where its config does not say.

    Raises ModelNotFoundError.
    """
    return longest_context(_entry(_find(name))["config"])


def model_source(name: str) -> str:
    """Return where the figures of a model of the catalogue come from."""
    return str(_entry(_find(name))["source"])


def _find(name: str) -> str:
    if name in _entries():
        return name
    found = _aliases().get(name.lower())
    if found is None:
        raise ModelNotFoundError(name, _entries())
    return found


@cache
def _aliases() -> dict[str, str]:
    """Return name in lower case -> name in the catalogue."""
    known = {}
    for name in _entries():
        entry = _entry(name)
        for other in (name, entry["repository"], *entry.get("aliases", ())):
            known[other.lower()] = name
    return known


@cache
def _entry(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = parse_data(_entries()[name])
    return entry


@cache
def _entries() -> dict[str, str]:
    """Return each model's part of the file by name: most of what there is no process reads."""
    _, *parts = _NAME.split(data_text("models.yaml"))
    return dict(zip(parts[::2], parts[1::2], strict=True))
