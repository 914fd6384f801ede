"""Models by name: the packaged catalogue, and the same for configs of one's own.

Names are those of the Hugging Face repositories in lower case and without the owner (``deepseek-r1``,
``llama-3.1-405b``); the repository's full name and a few short ones are taken as well, in any case.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.errors import ModelNotFoundError
from supernode_dataplane.model_config import model_from_config, parse_config

__all__ = ["Architecture", "load_model", "model_from_config", "model_names", "model_source", "parse_config"]


def model_names() -> tuple[str, ...]:
    """Return the names in the catalogue, sorted."""
    return tuple(sorted(_catalogue()))


@lru_cache(maxsize=256)
def load_model(name: str) -> Architecture:
    """Return a model of the catalogue by a name that it is known by; ModelNotFoundError lists near ones."""
    known = _find(name)
    return model_from_config(_catalogue()[known]["config"], known)


def model_source(name: str) -> str:
    """Return where the figures of a model of the catalogue come from."""
    return str(_catalogue()[_find(name)]["source"])


def _find(name: str) -> str:
    found = _aliases().get(name.lower())
    if found is None:
        raise ModelNotFoundError(name, _catalogue())
    return found


@cache
def _aliases() -> dict[str, str]:
    """Return name in lower case -> name in the catalogue."""
    known = {}
    for name, entry in _catalogue().items():
        for other in (name, entry["repository"], *entry.get("aliases", ())):
            known[other.lower()] = name
    return known


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    import yaml  # late: only the first use of the catalogue pays for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = files("supernode_dataplane").joinpath("data", "models.yaml").read_text(encoding="utf-8")
    models: dict[str, dict[str, Any]] = yaml.load(text, Loader=loader)["models"]  # noqa: S506 - a safe loader
    return models
