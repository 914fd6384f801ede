"""Read our objects from a cluster with the official client, as raw JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from supernode_api.names import GROUP, PLURALS, VERSION
from supernode_cli.errors import CliError

__all__ = ["ClusterObjects", "read_objects"]

TIMEOUT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """All SuperNodes, ComputeNodes and workloads of a cluster, as the API server gives them."""

    super_nodes: list[dict[str, Any]]
    compute_nodes: list[dict[str, Any]]
    workloads: list[dict[str, Any]]


def read_objects(kubeconfig: str | None, context: str | None) -> ClusterObjects:
    """List the three kinds; CliError when the cluster cannot be reached or does not know them."""
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    try:
        config.load_config(config_file=kubeconfig, context=context)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, TypeError) as error:
        raise CliError(f"no usable kubeconfig: {error}. Set KUBECONFIG or pass --kubeconfig") from None
    api = client.ApiClient()
    lists = [_list(api, kind) for kind in PLURALS]
    return ClusterObjects(*lists)


def _list(api: Any, kind: str) -> list[dict[str, Any]]:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    path = f"/apis/{GROUP}/{VERSION}/{PLURALS[kind]}"
    try:
        response = api.call_api(
            *api.param_serialize(
                "GET", path, auth_settings=["BearerToken"], header_params={"Accept": "application/json"}
            ),
            _request_timeout=TIMEOUT_SECONDS,
        )
        body = response.read()
    except HTTPError as error:
        reason = getattr(error, "reason", error)
        raise CliError(f"the cluster at {api.configuration.host} does not answer: {reason}") from None
    except ApiException as error:
        raise CliError(_refusal(kind, error.status, error.reason)) from None
    if response.status != 200:
        raise CliError(_refusal(kind, response.status, response.reason))
    items: list[dict[str, Any]] = json.loads(body)["items"]
    return items


def _refusal(kind: str, status: int, reason: str) -> str:
    if status == 404:
        return f"this cluster does not know {kind}: install the chart first (helm install supernode helm/supernode)"
    if status in (401, 403):
        return f"not allowed to list {kind} ({status} {reason}): ask for get and list on {PLURALS[kind]}.{GROUP}"
    return f"listing {kind} failed: {status} {reason}"
