"""The API of SuperNode: kinds as pydantic models, names, conditions, and the CRDs generated from them."""

from supernode_api.compute_node import ComputeNode
from supernode_api.supernode import SuperNode
from supernode_api.workload import SuperNodeWorkload

__all__ = ["KINDS", "ComputeNode", "SuperNode", "SuperNodeWorkload"]

KINDS = (SuperNode, ComputeNode, SuperNodeWorkload)
