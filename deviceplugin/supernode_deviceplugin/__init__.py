"""The node agent: the devices of one Kubernetes node's compute servers, offered to its kubelet.

ComputeNodes of the node come in from the API server, device lists go out to the kubelet (device plugin API v1beta1),
and what the kubelet's PodResources API says goes back into ComputeNode.status. Decisions are in ``domain``.
"""

import os

__all__ = ["__version__"]

__version__ = "0.1.0"

# gRPC's core writes lines of its own to stderr, between our structured ones; it reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
