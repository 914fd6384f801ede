"""What the chart's two hooks share: a small, patient view of SuperNodes, and words for a person who waits.

The hooks are short programs beside the operator, with accounts of their own that may do little. They know nothing of
how the operator is built: they create, read and delete SuperNodes as a user would. What they print, helm shows.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from supernode_api.names import GROUP, PLURALS, VERSION
from supernode_operator.engine.trim import trim

__all__ = ["HookError", "Nodes", "SuperNodes", "describe_conditions", "list_reasons", "poll", "run_hook", "say"]

_PLURAL: Final = PLURALS["SuperNode"]
_REQUEST_SECONDS: Final = 10
_POLL_SECONDS: Final = 1.0
_PAGE: Final = 100
"""Nodes in one answer: a node is tens of kilobytes, and a hook has little memory."""


class HookError(Exception):
    """The hook failed; the message says why and what to do."""


class _BusyError(Exception):
    """The API server did not answer or asked for patience: worth another try."""


class SuperNodes:
    """The SuperNodes of the cluster. Refusals are :class:`HookError`, with what the API server says."""

    def __init__(self) -> None:
        """Connect by KUBECONFIG if it is set, else as the pod's service account."""
        _connect()
        self._api = client.CustomObjectsApi()

    def list(self) -> list[dict[str, Any]]:
        """Return all; none when the API does not know the kind (any more)."""
        found = self._call(self._api.list_cluster_custom_object)
        return [] if found is None else list(found["items"])

    def get(self, name: str) -> dict[str, Any] | None:
        """Return one, or None."""
        found: dict[str, Any] | None = self._call(self._api.get_cluster_custom_object, name)
        return found

    def create(self, body: dict[str, Any]) -> None:
        """Create one."""
        if self._call(self._api.create_cluster_custom_object, body) is None:
            raise HookError("the API server does not know SuperNodes; install with crds.install=true, or apply crds/")

    def delete(self, name: str) -> None:
        """Ask for the deletion of one; gone already is fine."""
        self._call(self._api.delete_cluster_custom_object, name)

    @staticmethod
    def _call(request: Callable[..., Any], *arguments: Any) -> Any:
        return _ask(request, GROUP, VERSION, _PLURAL, *arguments)


class Nodes:
    """The Kubernetes nodes of the cluster, as far as choosing one needs them."""

    def __init__(self) -> None:
        """Connect by KUBECONFIG if it is set, else as the pod's service account."""
        _connect()
        self._api = client.ApiClient()

    def list(self) -> list[dict[str, Any]]:
        """Return all: metadata, taints, ``unschedulable``, the condition Ready and extended resources."""
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            page = _ask(self._read, [("limit", str(_PAGE)), *([("continue", token)] if token else [])])
            found += [{**trim("Node", node), "spec": _scheduling(node)} for node in page["items"]]
            token = page["metadata"].get("continue") or None
            if token is None:
                return found

    def _read(self, query: Sequence[tuple[str, str]], *, _request_timeout: float) -> Any:
        """Read one page as plain JSON: the client's models of the core API would take 100 MiB."""
        method, url, headers, _, _ = self._api.param_serialize(
            "GET",
            "/api/v1/nodes",
            query_params=list(query),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = self._api.call_api(method, url, headers, _request_timeout=_request_timeout)
        body = answer.read()  # type: ignore[no-untyped-call]
        if answer.status >= 400:
            raise ApiException(status=answer.status, reason=answer.reason, body=body)
        return json.loads(body)


def poll(look: Callable[[], bool], seconds: float) -> Iterator[float]:
    """Yield the seconds gone by until ``look`` is true or the time is up; an API server that is busy is asked again.

    The caller learns which of the two by asking its own state; nothing is raised for a time-out.
    """
    start = time.monotonic()
    last = ""
    while True:
        try:
            if look():
                return
        except _BusyError as error:
            if str(error) != last:
                say(f"the API server does not answer, trying again: {error}")
            last = str(error)
        elapsed = time.monotonic() - start
        if elapsed >= seconds:
            return
        yield elapsed
        time.sleep(min(_POLL_SECONDS, seconds - elapsed))


def describe_conditions(super_node: dict[str, Any]) -> str:
    """Return what keeps a SuperNode from being Ready or gone: its conditions with something to say.

    ``DeletionBlocked`` and ``Degraded`` speak when True, all others when they are not; deletion comes first. What two
    conditions say in the same words, as the summary does, is said once.
    """
    if not (super_node.get("status") or {}).get("conditions"):
        return "it has no conditions: does the operator run?"
    conditions = sorted(_speaking(super_node), key=_importance, reverse=True)
    told = {(c.get("reason"), c.get("message")): c for c in conditions}
    words = [_words(condition) for condition in sorted(told.values(), key=_importance)]
    return "; ".join(words) or "no condition says why"


def list_reasons(super_node: dict[str, Any]) -> list[str]:
    """Return the reasons behind :func:`describe_conditions`; when they are the same, nothing new is to be told."""
    return sorted({str(condition.get("reason")) for condition in _speaking(super_node)})


def say(text: str) -> None:
    """Print a line that helm shows."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_hook(work: Callable[[], None]) -> int:
    """Do the work of a hook; return the exit status, 1 with the message when it fails."""
    try:
        work()
    except (HookError, _BusyError) as error:
        say(f"failed: {error}")
        return 1
    return 0


def _connect() -> None:
    try:
        if kubeconfig := os.environ.get("KUBECONFIG"):
            config.load_kube_config(config_file=kubeconfig)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
    except Exception as error:  # the client raises several unrelated types here
        raise HookError(f"no way to the API server: {error} (run in a pod, or set KUBECONFIG)") from error


def _ask(request: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Return what the API server answers, None for what does not exist."""
    try:
        return request(*arguments, **more, _request_timeout=_REQUEST_SECONDS)
    except ApiException as error:
        if error.status == 404:
            return None
        message = _message(error)
        if 400 <= (error.status or 0) < 429:
            raise HookError(f"the API server refuses: {message}") from error
        raise _BusyError(message) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _BusyError(f"{type(error).__name__}: {error}") from error


def _scheduling(node: dict[str, Any]) -> dict[str, Any]:
    spec = node.get("spec") or {}
    return {"taints": spec.get("taints") or [], "unschedulable": bool(spec.get("unschedulable"))}


def _speaking(super_node: dict[str, Any]) -> list[dict[str, Any]]:
    conditions = (super_node.get("status") or {}).get("conditions") or []
    return [
        c
        for c in conditions
        if (c.get("status") == "True") == (c.get("type") in ("DeletionBlocked", "Degraded"))
        and c.get("type") not in ("Progressing", "TelemetryExported")
    ]


def _importance(condition: dict[str, Any]) -> tuple[bool, bool, str]:
    type_ = str(condition.get("type"))
    return type_ != "DeletionBlocked", type_ == "Ready", type_


def _words(condition: dict[str, Any]) -> str:
    message = condition.get("message") or ""
    return f"{condition.get('type')} is {condition.get('status')}, {condition.get('reason')}" + (
        f" ({message})" if message else ""
    )


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
