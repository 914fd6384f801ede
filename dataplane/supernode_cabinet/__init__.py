"""Cabinets of a SuperNode as processes: watch the inputs, solve the machine, publish one's own shard of it.

No cabinet talks to another; all state is in the API server, and the mathematics is in ``supernode_dataplane``.
"""

__all__: list[str] = []
