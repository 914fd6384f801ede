"""Valid objects that together use every field of every kind; tests break them one field at a time."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

__all__ = ["API", "SAMPLES", "compute_node", "super_node", "workload"]

API = "supernode.io/v1alpha1"
_TIME = "2026-11-21T04:00:00Z"
_SELECTOR = {
    "matchLabels": {"supernode.io/pool": "cm384"},
    "matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}],
}
_CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "AsExpected",
    "message": "all is well",
    "lastTransitionTime": _TIME,
    "observedGeneration": 1,
}
_STAMP = {"digest": "0" * 64, "version": "1"}
_COUNTS = {"dies": 768, "busLinks": 5376}


def super_node(name: str = "cm384") -> dict[str, Any]:
    """A SuperNode with every field."""
    return {
        "apiVersion": API,
        "kind": "SuperNode",
        "metadata": {"name": name},
        "spec": {
            "profile": "cloudmatrix-384",
            "superPodID": 0,
            "nodes": {"selector": deepcopy(_SELECTOR), "placement": "Packed"},
            "resources": {"npu": "huawei.com/Ascend910", "busLink": "supernode.io/bus-link"},
            "cabinetsPerPod": 1,
            "telemetry": {"intervalSeconds": 5, "detail": "Device"},
        },
        "status": {
            "conditions": [deepcopy(_CONDITION)],
            "observedGeneration": 1,
            "capacity": {
                "computeCabinets": 12,
                "busCabinets": 4,
                "nodes": 48,
                "packages": 384,
                "dies": 768,
                "busLinks": 5376,
                "l1Chips": 336,
                "l2Chips": 112,
                "uplinks": 5376,
            },
            "kubernetesNodes": 1,
            "placedNodes": 48,
            "readyCabinets": 16,
            "allocatable": dict(_COUNTS),
            "allocated": dict(_COUNTS),
            "performance": {
                "ratedPetaflops": "288.8",
                "bf16Petaflops": "271.8",
                "hbmTebibytes": "48",
                "hbmBandwidthTerabytesPerSecond": "1229",
                "busBandwidthTerabytesPerSecond": "150.5",
                "powerKilowatts": "559",
                "tokensPerSecond": "51070",
            },
            "model": dict(_STAMP),
        },
    }


def compute_node(name: str = "cm384-07") -> dict[str, Any]:
    """A ComputeNode with every field and each sort of fault."""
    return {
        "apiVersion": API,
        "kind": "ComputeNode",
        "metadata": {"name": name},
        "spec": {
            "superNode": "cm384",
            "cabinet": 1,
            "serverIndex": 7,
            "nodeName": "node-1",
            "devices": {
                "npuResource": "huawei.com/Ascend910",
                "busLinkResource": "supernode.io/bus-link",
                "firstDie": 112,
                "dies": 16,
                "planes": 7,
            },
            "faults": [
                {"name": "die-3", "level": "SeparateNPU", "code": "80E18402", "die": 3},
                {"name": "port", "level": "SubHealthFault", "code": "", "diePort": {"die": 3, "plane": 6}},
                {"name": "uplink", "level": "SeparateNPU", "code": "", "uplink": {"plane": 0, "port": 15}},
                {"name": "l1", "level": "SeparateNPU", "code": "", "l1": {"plane": 2}},
            ],
        },
        "status": {
            "conditions": [deepcopy(_CONDITION)],
            "observedGeneration": 1,
            "resources": [{"name": "huawei.com/Ascend910", "devices": 16, "unhealthy": 1}],
            "allocations": [
                {"namespace": "default", "pod": "p-0", "container": "main", "dies": "0-2,4", "links": "0-27"},
            ],
        },
    }


def workload(name: str = "llama") -> dict[str, Any]:
    """A managed SuperNodeWorkload with every field but those of the other variants."""
    return {
        "apiVersion": API,
        "kind": "SuperNodeWorkload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "superNode": "cm384",
            "model": {"name": "llama-3.1-405b"},
            "stack": "vendor-tuned",
            "training": {
                "sequenceLength": 8192,
                "globalBatchSize": 192,
                "microBatchSize": 1,
                "parallelism": {"tensor": 16, "pipeline": 8, "virtualPipeline": 4},
                "tokens": 200000000,
            },
            "pods": {"managed": {"nodes": 48}},
        },
        "status": {
            "conditions": [deepcopy(_CONDITION)],
            "observedGeneration": 1,
            "placement": {
                "nodes": 1,
                "dies": 16,
                "cabinets": 1,
                "ranks": [
                    {
                        "rank": 0,
                        "pod": "llama-0-abcde",
                        "running": True,
                        "parts": [{"server": 7, "dies": "0-15", "links": "all"}],
                    },
                ],
            },
            "performance": {
                "tokensPerSecond": "51070",
                "tokensPerSecondPerCard": "133",
                "mfu": "0.4501",
                "stepTimeSeconds": "30.8",
                "ttftSeconds": "0",
                "tpotSeconds": "0",
                "promptTokensPerSecond": "0",
                "bound": "Compute",
                "expectedErrorPercent": "15",
                "recomputePercent": "0",
                "hbmGibibytesPerDie": "57.2",
                "linkUtilisationPercent": "12.5",
                "powerKilowatts": "400",
            },
            "progress": {"tokens": 1, "steps": 0, "at": "2026-11-21T04:00:00.000001Z", "tokensPerSecond": "51070"},
            "completionTime": _TIME,
            "model": dict(_STAMP),
        },
    }


def _other_workload() -> dict[str, Any]:
    """The other variant of everything: adopted pods, a config, steps, a data parallel degree."""
    value = workload("other")
    value["spec"]["model"] = {"config": '{"model_type": "llama"}'}
    value["spec"]["pods"] = {"selector": deepcopy(_SELECTOR)}
    training = value["spec"]["training"]
    del training["tokens"]
    training["steps"] = 10
    training["parallelism"] |= {"data": 6, "expert": 2}
    return value


def _serving(name: str, nodes: int = 14) -> dict[str, Any]:
    """A disaggregated deployment with every field but those of the other variants."""
    value = workload(name)
    del value["spec"]["training"]
    pool = {
        "parallelism": {"tensor": 1, "expert": 160},
        "experts": {"redundant": 64, "sharedRanks": 0, "imbalancePercent": 120},
        "microBatches": "auto",
    }
    value["spec"]["model"] = {"name": "deepseek-r1"}
    value["spec"]["inference"] = {
        "mode": "Disaggregated",
        "inputTokens": 3500,
        "outputTokens": 1500,
        "precision": {"weights": "int8", "attention": "int8", "experts": "int4", "activations": "int8"}
        | {"kvCache": "bf16", "head": "bf16"},
        "decode": pool,
        "prefill": {**deepcopy(pool), "parallelism": {"tensor": 1, "expert": 32}, "nodes": 4},
        "load": {"concurrency": 8000},
        "promptsPerBatch": 2,
        "speculation": {"drafts": 2, "acceptancePercent": [70, 50]},
        "cache": {"reusePercent": 30, "memoryFractionPercent": 90},
        "tokens": 1000000,
    }
    value["spec"]["pods"] = {"managed": {"nodes": nodes}}
    value["status"]["performance"] |= {"ttftSeconds": "1.2", "tpotSeconds": "0.05", "promptTokensPerSecond": "9"}
    return value


def _generating() -> dict[str, Any]:
    """Decode only: a fixed batch, requests, no default that the API fills in."""
    value = _serving("generating")
    value["spec"]["inference"] = {
        "mode": "Decode",
        "inputTokens": 4096,
        "outputTokens": 256,
        "batch": {"sequencesPerCard": 96},
        "requests": 10,
    }
    return value


def _reading() -> dict[str, Any]:
    """Prefill only."""
    value = _serving("reading")
    value["spec"]["inference"] = {"mode": "Prefill", "inputTokens": 4096}
    return value


SAMPLES: dict[str, tuple[dict[str, Any], ...]] = {
    "SuperNode": (super_node(),),
    "ComputeNode": (compute_node(),),
    "SuperNodeWorkload": (workload(), _other_workload(), _serving("serving"), _generating(), _reading()),
}
