"""Certificates, the service account key and kubeconfigs, made once per instance by `openssl`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from errors import run
from instance import NODE, Instance

__all__ = ["create", "write"]

_CLIENTS = {
    "apiserver-kubelet": "/O=system:masters/CN=apiserver-kubelet-client",
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/O=system:masters/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE}",
}
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.touch(mode)
    partial.write_text(text)
    partial.chmod(mode)
    partial.replace(path)


def create(instance: Instance, server: str) -> None:
    """Make everything that proves an identity, unless it is there; `server` is the API server's URL."""
    folder = instance.state / "pki"
    if (folder / "server").exists() and (folder / "server").read_text() == server:
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority = ("-x509", "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650", "-subj", "/CN=devcluster")
    run("openssl", "req", *_KEY, *authority, cwd=folder)
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "sa.key", cwd=folder)
    run("openssl", "pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub", cwd=folder)
    service = "kubernetes.default.svc"
    names = ["localhost", NODE, "kubernetes", "kubernetes.default", service, f"{service}.cluster.local"]
    addresses = ["127.0.0.1", instance.node_address, instance.api_service_address]
    _sign(folder, "apiserver", "/CN=kube-apiserver", "serverAuth", names=names, addresses=addresses)
    _sign(folder, "kubelet-server", f"/CN={NODE}", "serverAuth", names=[NODE], addresses=addresses[1:2])
    for name, subject in _CLIENTS.items():
        _sign(folder, name, subject, "clientAuth")
        if name != "apiserver-kubelet":
            target = instance.kubeconfig if name == "admin" else folder / f"{name}.kubeconfig"
            write(target, _kubeconfig(folder, name, server, instance.name), 0o600)
    write(folder / "server", server)  # last: the sign that everything is there


def _sign(
    folder: Path, name: str, subject: str, usage: str, *, names: Iterable[str] = (), addresses: Iterable[str] = ()
) -> None:
    alternatives = ",".join([*(f"DNS:{item}" for item in names), *(f"IP:{item}" for item in addresses)])
    extension = f"extendedKeyUsage={usage}\n" + (f"subjectAltName={alternatives}\n" if alternatives else "")
    write(folder / f"{name}.ext", extension)
    run("openssl", "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject, cwd=folder)
    authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650")
    run(
        *("openssl", "x509", "-req", "-in", f"{name}.csr", *authority),
        *("-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        cwd=folder,
    )


def _kubeconfig(folder: Path, name: str, server: str, context: str) -> str:
    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": name}}],
        "users": [{"name": name, "user": user}],
    }
    return json.dumps(document, indent=1) + "\n"
