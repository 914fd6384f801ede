"""What an account may do, beside what the API server's audit log says that it did.

Both are sets of (API group, resource or resource/subresource, verb), so that they can be compared.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.apiserver import ApiServer
from support.chart import RELEASE, remove_namespace, render

__all__ = ["Account", "Call", "calls_of", "chart_account", "granted_by", "refusals_of"]

Call = tuple[str, str, str]
_ROLES = ("Role", "ClusterRole")
_KINDS = ("ServiceAccount", *_ROLES, "RoleBinding", "ClusterRoleBinding")


@dataclass(frozen=True)
class Account:
    """A service account with what one role of the chart grants and no more."""

    user: str
    kubeconfig: Path
    granted: frozenset[Call]


def granted_by(rules: Iterable[Mapping[str, Any]]) -> set[Call]:
    """Return what rules of a Role or ClusterRole grant."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@contextlib.contextmanager
def chart_account(server: ApiServer, component: str) -> Iterator[Account]:
    """Make the account of one part of the chart with its roles as rendered, in a namespace of its own; then remove it.

    What has no namespace gets another name, so that several accounts can be there at once.
    """
    name, suffix = f"{RELEASE}-{component}", uuid.uuid4().hex[:8]
    namespace = f"account-of-{component}-{suffix}"
    objects = [o for o in render() if o["kind"] in _KINDS and o["metadata"]["name"] == name]
    for obj in objects:
        for place in (obj["metadata"], *obj.get("subjects", ())):
            if "namespace" in place:
                place["namespace"] = namespace
        for named in (obj["metadata"], obj.get("roleRef", {"kind": ""})):
            if named.get("kind", obj["kind"]).startswith("Cluster"):
                named["name"] = f"{name}-{suffix}"
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    server.kubectl("create", "namespace", namespace)
    try:
        server.kubectl("apply", "-f", "-", input=document)
        rules = [rule for obj in objects if obj["kind"] in _ROLES for rule in obj["rules"]]
        kubeconfig = server.service_account_kubeconfig(namespace, name)
        yield Account(f"system:serviceaccount:{namespace}:{name}", kubeconfig, frozenset(granted_by(rules)))
    finally:
        server.kubectl("delete", "--ignore-not-found", "-f", "-", input=document)
        remove_namespace(server, namespace)


def calls_of(server: ApiServer, user: str) -> set[Call]:
    """Return what an account has asked for so far, refused or not."""
    return {_call(event) for event in _events(server, user)}


def refusals_of(server: ApiServer, user: str) -> set[tuple[str, str]]:
    """Return verb and address of what an account was refused for want of permission."""
    codes = (401, 403)
    events = _events(server, user)
    return {(e["verb"], e["requestURI"]) for e in events if e.get("responseStatus", {}).get("code") in codes}


def _call(event: Mapping[str, Any]) -> Call:
    reference = event["objectRef"]
    sub = f"/{reference['subresource']}" if "subresource" in reference else ""
    return reference.get("apiGroup", ""), reference["resource"] + sub, event["verb"]


def _events(server: ApiServer, user: str) -> list[dict[str, Any]]:
    """Return the requests of an account for resources; what has been answered before this call is among them."""
    mark = f"/api/v1/namespaces/{uuid.uuid4()}"
    server.request("GET", mark)
    deadline = time.monotonic() + 10
    while mark not in (text := server.audit_log.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, "the audit log is late"
        time.sleep(0.05)
    found = [json.loads(line) for line in text.splitlines(keepends=True) if user in line and line.endswith("\n")]
    return [event for event in found if event["user"].get("username") == user and "objectRef" in event]
