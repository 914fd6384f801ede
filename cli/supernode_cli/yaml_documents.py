"""YAML text as plain documents; a key that stands twice in a mapping is an error, where YAML readers keep the last."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

__all__ = ["DuplicateKeyError", "read_yaml"]

_DEEPEST: Final = 100


class DuplicateKeyError(Exception):
    """A key that stands twice in one mapping; the message names it, its line and the first one's."""


def read_yaml(text: str) -> list[Any]:
    """Return the documents of a text that are not empty.

    :raises DuplicateKeyError: a key stands twice in a mapping.
    :raises yaml.YAMLError: the text is no YAML; RecursionError, ValueError: it is nested too deeply, or has a number
        that is none.
    """
    import yaml

    documents = [document for document in yaml.load_all(text, Loader=_loader()) if document is not None]
    if any(_is_deep(document) for document in documents):
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels, which no scenario is")
    return documents


def _is_deep(document: Any) -> bool:
    """Say whether a document has more levels than any scenario; by levels, for recursion would not survive it."""
    level = [document]
    for _ in range(_DEEPEST):
        # Aliases may make a level of very many equal things.
        level = list({id(part): part for parent in level for part in _parts(parent)}.values())
        if not level:
            return False
    return True


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


@cache
def _loader() -> Any:
    import yaml

    # In C where there is one; both build values with the same class.
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            lines: dict[tuple[str, str], int] = {}
            # Before merge keys (<<) are unfolded: what they bring in may be said again.
            for key, _value in node.value if isinstance(node, yaml.MappingNode) else ():
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                line, first = key.start_mark.line + 1, lines.get((key.tag, key.value))
                if first is not None:
                    raise DuplicateKeyError(
                        f"line {line}: key {key.value[:64]!r} stands twice, first on line {first}; leave one out"
                    )
                lines[key.tag, key.value] = line
            return super().construct_mapping(node, deep=deep)

    return Loader
