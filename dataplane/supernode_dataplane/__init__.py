"""A supernode as mathematics: what its hardware makes of the workloads on it. No I/O, no clock, no Kubernetes.

inputs = machine_inputs(super_node, compute_nodes, workloads)      # API objects as JSON
state = solve_inputs(inputs)                                       # every surface publishes from this
"""

from __future__ import annotations

from supernode_dataplane.baseline import baseline_ratio, ratio_to_baseline
from supernode_dataplane.catalogue import load_model, model_names
from supernode_dataplane.errors import (
    DataplaneError,
    InvalidModelError,
    ModelError,
    ModelNotFoundError,
    ProfileNotFoundError,
)
from supernode_dataplane.failures import Failures, failed_servers
from supernode_dataplane.inputs import Inputs, check_workload, machine_inputs, solve_inputs, whole_server_ranks
from supernode_dataplane.optics import Optics, optics_of
from supernode_dataplane.profile import Profile, load_profile, profile_names
from supernode_dataplane.solving import MODEL_VERSION, solve
from supernode_dataplane.state import DeviceState, FabricState, MachineState, Problem, WorkloadResult

__all__ = [
    "MODEL_VERSION",
    "DataplaneError",
    "DeviceState",
    "FabricState",
    "Failures",
    "Inputs",
    "InvalidModelError",
    "MachineState",
    "ModelError",
    "ModelNotFoundError",
    "Optics",
    "Problem",
    "Profile",
    "ProfileNotFoundError",
    "WorkloadResult",
    "baseline_ratio",
    "check_workload",
    "failed_servers",
    "load_model",
    "load_profile",
    "machine_inputs",
    "model_names",
    "optics_of",
    "profile_names",
    "ratio_to_baseline",
    "solve",
    "solve_inputs",
    "whole_server_ranks",
]
