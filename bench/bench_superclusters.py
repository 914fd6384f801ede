"""64 supernodes on an RDMA network: time of one solution, and memory of the process that has it."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

from rows import Row

SUPERNODES = 64


def measure() -> Iterator[Row]:
    """Solve 49,152 dies with a fault in every supernode, so that no two are alike, and three runs across all."""
    from supernode_dataplane import load_model, load_profile
    from supernode_dataplane.machine import ServerInput, TrainingSpec
    from supernode_dataplane.superclusters import (
        Member,
        SpanningWorkload,
        Supercluster,
        build_cluster_fabric,
        solve_supercluster,
    )

    profile, model = load_profile("cloudmatrix-384"), load_model("llama-3.1-405b")
    fabric = build_cluster_fabric(Supercluster(profile=profile, supernodes=SUPERNODES, oversubscription=4))
    training = TrainingSpec(model, "vendor-tuned", 8192, 48 * SUPERNODES, tensor=16, pipeline=8, virtual_pipeline=4)
    workloads = [
        SpanningWorkload(
            key=f"run-{index}",
            training=training,
            members=tuple(Member(s, tuple(range(16 * index, 16 * index + 16))) for s in range(SUPERNODES)),
        )
        for index in range(3)
    ]
    faults = {s: [ServerInput(s % 48, ports=((0, s % 7),))] for s in range(SUPERNODES)}
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        solve_supercluster(fabric, workloads, faults)
        best = min(best, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    how = f"{SUPERNODES} supernodes, 49,152 dies, a fault in each, 3 runs across all; best of 3"
    yield Row("solve 64 supernodes", best, "s", 1, how)
    yield Row("memory of that process", peak, "MiB", 1024, "peak resident set, imports and what ran before included")
