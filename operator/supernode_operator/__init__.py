"""The operator: desired state (SuperNode, SuperNodeWorkload) to Kubernetes objects and status.

``domain`` decides (values in, values out), ``engine`` talks (queue, cache, client, leader, health), ``reconcilers``
order the steps. Nothing is remembered between two runs but what the API server holds.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
