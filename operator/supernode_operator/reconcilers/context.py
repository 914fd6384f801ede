"""What every reconciler has at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from supernode_api.names import SUPERNODE_LABEL
from supernode_operator.config import Config
from supernode_operator.domain.cabinets import PodSettings
from supernode_operator.domain.objects import Object, age_key, labels, name
from supernode_operator.domain.telemetry import SignalHealth
from supernode_operator.engine.client import Client
from supernode_operator.engine.kinds import COMPUTE_NODE, NODE, POD, SUPER_NODE, WORKLOAD, Key
from supernode_operator.engine.store import Store
from supernode_operator.reconcilers.solver import Solver

__all__ = ["Context"]


@dataclass(slots=True)
class Context:
    """The cache, the client, the settings and the clock; the same for all reconciles."""

    store: Store
    client: Client
    config: Config
    requeue: Callable[[Key, float, str], None]
    """(key, seconds, CamelCase reason): look again then."""
    clock: Callable[[], float] = time.time
    telemetry: Callable[[], Sequence[SignalHealth]] = tuple
    """What is known of the OTLP endpoint now."""
    solver: Solver = field(default_factory=Solver)
    status_written: dict[Key, float] = field(default_factory=dict)
    """When each status was last written (monotonic seconds): at most once a second."""
    reported: dict[Key, set[tuple[str, str, str]]] = field(default_factory=dict)
    """Transitions (condition, reason, Normal or Warning) with an Event, for statuses that are still to be written."""

    def now(self) -> str:
        """The moment as RFC 3339 to the second, as conditions have it."""
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def pod_settings(self) -> PodSettings:
        """The configuration of the pods that we create."""
        config = self.config
        return PodSettings(
            namespace=config.namespace,
            image=config.image,
            image_pull_policy=config.image_pull_policy,
            service_account=config.cabinet_service_account,
            telemetry=config.telemetry,
        )

    def super_nodes(self) -> list[Object]:
        """All SuperNodes, oldest first."""
        return sorted(self.store.list(SUPER_NODE), key=age_key)

    def compute_nodes(self, super_node: str) -> list[Object]:
        """The ComputeNodes of a SuperNode, in order."""
        return self.store.find(COMPUTE_NODE, "superNode", super_node)

    def compute_nodes_on(self, nodes: Iterable[Object]) -> list[Object]:
        """The ComputeNodes on some Kubernetes nodes, of all SuperNodes."""
        return [cn for node in nodes for cn in self.store.find(COMPUTE_NODE, "nodeName", name(node))]

    def nodes(self) -> Mapping[str, Object]:
        """All Kubernetes nodes by name."""
        return {name(node): node for node in self.store.list(NODE)}

    def workloads(self, super_node: str) -> list[Object]:
        """The workloads of a SuperNode."""
        return self.store.find(WORKLOAD, "superNode", super_node)

    def find_pod(self, namespace: str, pod: str) -> Object | None:
        """Return a pod, or None."""
        return self.store.get(POD, pod, namespace)

    def labelled_nodes(self, super_node: str) -> list[Object]:
        """The Kubernetes nodes that carry our label for a SuperNode."""
        return [node for node in self.store.list(NODE) if labels(node).get(SUPERNODE_LABEL) == super_node]
