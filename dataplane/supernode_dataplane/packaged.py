"""The packaged data files, ``data/**.yaml``: read in C, built here.

A cold start reads four of them. PyYAML's own way from nodes to values serves every tag, and takes most of the time;
what these files are made of, plain scalars in lists and mappings, needs a fraction of it. The values are the same as
those of ``yaml.safe_load`` (a test says so, for every file).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["data_names", "data_text", "parse_data", "read_data"]


def read_data(*path: str) -> Any:
    """Return the values of a file by its path below ``data``."""
    return parse_data(data_text(*path))


def data_text(*path: str) -> str:
    """Return the text of a file by its path below ``data``."""
    return files("supernode_dataplane").joinpath("data", *path).read_text(encoding="utf-8")


def data_names(folder: str) -> tuple[str, ...]:
    """Return the names of the files in a folder of ``data``, without their suffix, sorted."""
    found = files("supernode_dataplane").joinpath("data", folder).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml")))


def parse_data(text: str) -> Any:
    """Return the values of a YAML text without tags."""
    loader = _loader()(text)
    try:
        return loader.values()
    finally:
        loader.dispose()


@cache
def _loader() -> Any:
    import yaml  # late: a process that has its values from caches never pays for the reader

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    constructors = yaml.SafeLoader.yaml_constructors
    text, mapping, sequence, merge = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq", "merge"))
    tags: dict[tuple[str, bool], str] = {}

    class Loader(base):  # type: ignore[misc]
        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            if kind is not yaml.ScalarNode:
                return mapping if kind is yaml.MappingNode else sequence
            key = value, implicit[0]
            if key not in tags:
                tags[key] = super().resolve(kind, value, implicit)
            return tags[key]

        def descend_resolver(self, current_node: Any, current_index: Any) -> None:
            pass  # nothing here is resolved by its path

        def ascend_resolver(self) -> None:
            pass

        def values(self) -> Any:
            return self.value_of(self.get_single_node())

        def value_of(self, node: Any) -> Any:
            value = node.value
            if node.tag == text:
                return value
            if node.tag == mapping:
                if any(key.tag == merge for key, _ in value):
                    self.flatten_mapping(node)
                return {self.value_of(key): self.value_of(each) for key, each in node.value}
            if node.tag == sequence:
                return [self.value_of(each) for each in value]
            return constructors[node.tag](self, node)

    return Loader
