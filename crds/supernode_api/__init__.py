"""The API of SuperNode: kinds as pydantic models, names, conditions, and the CRDs generated from them.

The models are imported on first use: the node agent needs names, conditions and ranges only, and importing the models
costs 15 MiB of its 60.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supernode_api.compute_node import ComputeNode
    from supernode_api.supernode import SuperNode
    from supernode_api.workload import SuperNodeWorkload

    KINDS: tuple[type[SuperNode], type[ComputeNode], type[SuperNodeWorkload]]

__all__ = ["KINDS", "ComputeNode", "SuperNode", "SuperNodeWorkload"]


def __getattr__(name: str) -> Any:
    """Import the models when one is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from supernode_api.compute_node import ComputeNode
    from supernode_api.supernode import SuperNode
    from supernode_api.workload import SuperNodeWorkload

    globals().update(
        SuperNode=SuperNode,
        ComputeNode=ComputeNode,
        SuperNodeWorkload=SuperNodeWorkload,
        KINDS=(SuperNode, ComputeNode, SuperNodeWorkload),
    )
    return globals()[name]
