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
    from yaml import YAMLError

    try:
        config.load_config(config_file=kubeconfig, context=context)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, TypeError, ValueError, YAMLError) as error:
        remedy = "set KUBECONFIG, or pass --kubeconfig or --context"
        raise CliError(f"no usable kubeconfig: {_one_line(error)}; {remedy}") from None
    api = client.ApiClient()
    lists = [_list(api, kind) for kind in PLURALS]
    return ClusterObjects(*lists)


def _list(api: Any, kind: str) -> list[dict[str, Any]]:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    host = api.configuration.host
    try:
        response = api.call_api(
            *api.param_serialize(
                "GET",
                f"/apis/{GROUP}/{VERSION}/{PLURALS[kind]}",
                auth_settings=["BearerToken"],
                header_params={"Accept": "application/json"},
            ),
            _request_timeout=TIMEOUT_SECONDS,
        )
        body = response.read()
    except HTTPError as error:
        reason = _one_line(getattr(error, "reason", error))
        remedy = "is it up, and is this the right --context?"
        raise CliError(f"the cluster at {host} does not answer: {reason}; {remedy}") from None
    except ApiException as error:
        raise CliError(_refusal(kind, error.status, error.reason, host)) from None
    if response.status != 200:
        raise CliError(_refusal(kind, response.status, response.reason, host))
    try:
        items: list[dict[str, Any]] = json.loads(body)["items"]
    except (ValueError, KeyError, TypeError):
        raise CliError(f"what answers at {host} is no Kubernetes API server: is this the right --context?") from None
    return items


def _refusal(kind: str, status: int, reason: str, host: str) -> str:
    resource = f"{PLURALS[kind]}.{GROUP}"
    if status == 404:
        return f"this cluster does not know {resource}: install the chart (helm install supernode helm/supernode)"
    if status == 401:
        return f"the cluster at {host} does not know who asks (401 {reason}): log in again, or pass another --context"
    if status == 403:
        return f"not allowed to list {resource} (403 {reason}): ask for the verb list on it"
    return f"listing {resource} failed: {status} {reason}; ask again, or look at the API server at {host}"


def _one_line(error: object) -> str:
    """Return an error of a library in one line, without the object that it is about and without a full stop."""
    words = " ".join(str(error).split()).rstrip(".")
    return words.split("): ", 1)[1] if words.startswith("HTTP") and "): " in words else words
