"""Read our objects from a cluster with the official client, as raw JSON."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from supernode_api.names import GROUP, PLURALS, VERSION
from supernode_cli.errors import CliError

__all__ = ["ClusterObjects", "read_objects"]

TIMEOUT_SECONDS = 15
_MOST_SAID: Final = 300
"""Characters of what a login program says that an error repeats."""


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """All SuperNodes, ComputeNodes and workloads of a cluster, as the API server gives them."""

    super_nodes: list[dict[str, Any]]
    compute_nodes: list[dict[str, Any]]
    workloads: list[dict[str, Any]]


def read_objects(kubeconfig: str | None, context: str | None) -> ClusterObjects:
    """List the three kinds; CliError when the cluster cannot be reached or does not know them."""
    with _quiet() as errors:
        api = _client(kubeconfig, context, errors)
        lists = [_list(api, kind) for kind in PLURALS]
    return ClusterObjects(*lists)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep what libraries log and warn of off standard error, and yield the errors that are logged at the root.

    The client logs a login that failed there and goes on without one; urllib3 logs every attempt at an address.
    """
    errors: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "root" and record.levelno >= logging.ERROR:
                errors.append(record.getMessage())

    root, listener = logging.getLogger(), Listener()
    root.addHandler(listener)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield errors
    finally:
        root.removeHandler(listener)


def _client(kubeconfig: str | None, context: str | None, errors: list[str]) -> Any:
    """Return a client for a context; CliError for a kubeconfig that is none, or whose login program failed."""
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException
    from yaml import YAMLError

    try:
        config.load_config(config_file=kubeconfig, context=context)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, YAMLError) as error:
        raise CliError(_unusable(_one_line(error))) from None
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # What Python says of it is about the client's code, not about the file.
        wanted = "a mapping with the lists clusters, contexts and users, and certificates in base64"
        raise CliError(_unusable(f"it is not what `kubectl config view --raw` prints, {wanted}")) from None
    api = client.ApiClient()
    if not api.configuration.host:
        raise CliError(_unusable("the cluster of this context has no server"))
    if errors and not (api.configuration.api_key or api.configuration.cert_file):
        raise CliError(_failed_login(_login_program(kubeconfig, context), errors[-1]))
    return api


def _unusable(why: str) -> str:
    return f"no usable kubeconfig: {why}; set KUBECONFIG, or pass --kubeconfig or --context"


def _login_program(kubeconfig: str | None, context: str | None) -> str:
    """Return the program that the user of a context logs in with (``exec``), empty when none is named."""
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, KubeConfigLoader, KubeConfigMerger

    try:
        merged = KubeConfigMerger(kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION).config  # type: ignore[no-untyped-call]
        chosen = KubeConfigLoader(merged, active_context=context).current_context  # type: ignore[no-untyped-call]
        return str(merged["users"].get_with_name(chosen["context"]["user"])["user"]["exec"]["command"])
    except (ConfigException, TypeError):
        return ""


def _failed_login(program: str, said: str) -> str:
    words = re.sub(r"^(exec: |\[Errno \d+\] )", "", _one_line(said))
    words = re.sub(r"^process returned (\d+)\. ", r"exit status \1: ", words)
    words = re.sub(r"^process returned", "exit status", words)
    name = f"login program {program!r}" if program else "login program (exec)"
    remedy = "install it or log in again until `kubectl get nodes` answers, or pass another --context"
    return f"the kubeconfig's {name} failed: {words[:_MOST_SAID]}; {remedy}"


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
