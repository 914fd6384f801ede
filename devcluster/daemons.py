"""The command line of every daemon, and the plan that `init` carries out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from instance import NODE, Instance
from system import PRIVATE_FOLDERS

__all__ = ["COMPONENTS", "Daemon", "Options", "Plan", "build_plan", "server_url"]

COMPONENTS: Final = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What `up` was asked for."""

    api_only: bool = False
    with_controllers: bool = False
    node_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program to keep running, from the start or once the API server is ready."""

    name: str
    argv: list[str]
    after_api: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that init needs to know; written as JSON."""

    state: str
    server: str
    path: str
    daemons: list[Daemon]
    binds: dict[str, str] = field(default_factory=dict)
    network: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what is written to the file."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return what was written by `to_json`."""
        return cls(**{**value, "daemons": [Daemon(**item) for item in value["daemons"]]})


def server_url(instance: Instance, api_only: bool) -> str:
    """Return the URL of the API server, as everyone inside and outside of the namespaces uses it."""
    return f"https://{'127.0.0.1' if api_only else instance.node_address}:{instance.port('api')}"


def build_plan(instance: Instance, options: Options, path: str) -> Plan:
    """Return what to start and in which surroundings."""
    daemons = [_etcd(instance), _apiserver(instance, options)]
    if not options.api_only or options.with_controllers:
        daemons += [_controller_manager(instance), _scheduler(instance)]
    server = server_url(instance, options.api_only)
    if options.api_only:
        return Plan(str(instance.state), server, path, daemons)
    daemons.insert(1, Daemon("containerd", ["containerd", "-c", str(instance.state / "etc" / "containerd.toml")]))
    daemons += _node(instance, options.node_labels)
    network = {
        "bridge": instance.bridge,
        "link": instance.link,
        "table": instance.nft_table,
        "pods": instance.pod_subnet,
        "services": instance.service_subnet,
        "node": instance.node_address,
        "host": instance.host_address,
    }
    return Plan(str(instance.state), server, path, daemons, dict(PRIVATE_FOLDERS), network)


def _etcd(instance: Instance) -> Daemon:
    client = f"http://127.0.0.1:{instance.port('etcd')}"
    peer = f"http://127.0.0.1:{instance.port('etcd-peer')}"
    return Daemon(
        "etcd",
        [
            *("etcd", "--name=e", f"--data-dir={instance.state / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=e={peer}"),
        ],
    )


def _apiserver(instance: Instance, options: Options) -> Daemon:
    pki = instance.state / "pki"
    # The Service `kubernetes` may not point to a loopback address, so without a node it points nowhere.
    where = (
        ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]
        if options.api_only
        else ["--bind-address=0.0.0.0", f"--advertise-address={instance.node_address}"]
    )
    return Daemon(
        "kube-apiserver",
        [
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{instance.port('etcd')}",
            f"--secure-port={instance.port('api')}",
            *where,
            f"--service-cluster-ip-range={instance.service_subnet}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            f"--audit-policy-file={instance.state / 'etc' / 'audit-policy.json'}",
            f"--audit-log-path={instance.log('audit')}",
            "--audit-log-maxsize=200",
            "--audit-log-maxbackup=2",
        ],
    )


def _loop(instance: Instance, name: str, port: str, more: Iterable[str]) -> Daemon:
    config = instance.state / "pki" / f"{name}.kubeconfig"
    return Daemon(
        name,
        [
            name,
            *(f"--{flag}={config}" for flag in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")),
            *("--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={instance.port(port)}"),
            *more,
        ],
        after_api=True,
    )


def _controller_manager(instance: Instance) -> Daemon:
    """One identity for all controllers: an account for each costs 5 s of every start."""
    pki = instance.state / "pki"
    more = [
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--concurrent-job-syncs=20",
    ]
    return _loop(instance, "kube-controller-manager", "controller-manager", more)


def _scheduler(instance: Instance) -> Daemon:
    return _loop(instance, "kube-scheduler", "scheduler", ())


def _node(instance: Instance, labels: Iterable[str]) -> list[Daemon]:
    etc = instance.state / "etc"
    kubelet = [
        "kubelet",
        f"--config={etc / 'kubelet.json'}",
        f"--kubeconfig={instance.state / 'pki' / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE}",
        f"--node-ip={instance.node_address}",
        "--root-dir=/var/lib/kubelet",
        "-v=2",
    ]
    if chosen := ",".join(labels):
        kubelet.append(f"--node-labels={chosen}")
    return [
        Daemon("kubelet", kubelet, after_api=True),
        Daemon("kube-proxy", ["kube-proxy", f"--config={etc / 'kube-proxy.json'}"], after_api=True),
        Daemon("coredns", ["coredns", "-conf", str(etc / "Corefile")], after_api=True),
    ]
