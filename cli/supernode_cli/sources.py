"""Where the figures behind an answer come from: the machine's profile and the constants of the software stack.

Every entry has a value, a unit, a status and a source. Status of a machine's figure: ``primary`` (read in a primary
source), ``secondary``, ``reproduced`` (secondary, and arithmetic gives it again), ``inferred``, ``assumed``, or
``scenario`` where the scenario gives another one. Status of a constant: ``calibrated``, ``derived`` or ``assumed``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from supernode_dataplane.changed_profile import derived_figures, in_camel_case
from supernode_dataplane.profile import profile_figures
from supernode_dataplane.stacks import stack_figures, training_figures

__all__ = ["machine_sources", "source_words", "sources_of", "stack_sources"]

_STATUS: Final = {"V": "primary", "S": "secondary", "S+": "reproduced", "I": "inferred", "M": "assumed"}
Entry = dict[str, Any]


def machine_sources(name: str, changed: Mapping[str, Any] | None = None) -> dict[str, Entry]:
    """Return the figures of a built-in machine by name in camelCase; ``changed`` are those that a scenario gives."""
    entries: dict[str, Entry] = {}
    for key, figure in profile_figures(name).items():
        entry = {"value": figure["value"], "unit": figure["unit"], "status": _STATUS[figure["flag"]]}
        entries[in_camel_case(key)] = {**entry, "source": figure["source"]}
    for key, value in (changed or {}).items():
        unit = entries.get(key, {}).get("unit", "")
        entries[key] = {"value": value, "unit": unit, "status": "scenario", "source": "machine.figures of the scenario"}
    for key, follows in derived_figures(name, changed or {}).items():
        source = f"in proportion to machine.figures of the scenario; built in: {entries[key]['source']}"
        entries[key] |= {"value": float(f"{follows:.6g}"), "status": "scenario", "source": source}
    return entries


def stack_sources(name: str) -> dict[str, Entry]:
    """Return the constants of a stack and of training by name in camelCase, with their errors and the rows that fit."""
    return {
        in_camel_case(figure.name): {
            "value": figure.value,
            "unit": figure.unit,
            "status": figure.status,
            "error": figure.error,
            "source": figure.source,
            **({"rows": list(figure.rows)} if figure.rows else {}),
        }
        for figure in (*stack_figures(name), *training_figures(name))
    }


def sources_of(machine: str, stacks: Iterable[str], changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all that an answer's figures rest on, as JSON values."""
    names = sorted(set(stacks))
    return {"machine": machine_sources(machine, changed), "stacks": {name: stack_sources(name) for name in names}}


def source_words(sources: Mapping[str, Any]) -> str:
    """Return how many figures have which status, for people."""
    parts = [f"{_counted(sources['machine'])} of the machine"]
    parts += [f"{_counted(entries)} of the stack {name}" for name, entries in sources["stacks"].items()]
    return f"sources: figures {'; '.join(parts)}; -o json lists them"


def _counted(entries: Mapping[str, Entry]) -> str:
    counts = Counter(entry["status"] for entry in entries.values())
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())
