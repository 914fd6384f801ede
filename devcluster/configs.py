"""Configuration files of containerd, CNI, kubelet, kube-proxy, CoreDNS and the API server's audit log.

Pure: an instance and folders in, texts out; `render` returns every file by its name in the state folder's `etc`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from instance import NODE, Instance

__all__ = ["CONTAINERD_SOCKET", "PAUSE_IMAGE", "render"]

PAUSE_IMAGE: Final = "docker.io/local/pause:1"
CONTAINERD_SOCKET: Final = "/run/containerd/containerd.sock"  # /run is the instance's own


def render(instance: Instance, cni_folders: Iterable[Path], resolv_conf: str) -> dict[str, str]:
    """Return the text of every configuration file."""
    servers = [line for line in resolv_conf.splitlines() if line.split()[:1] == ["nameserver"]]
    return {
        "audit-policy.json": _document(_audit_policy()),
        "containerd.toml": _containerd(instance, cni_folders),
        "cni/10-bridge.conflist": _document(_cni(instance)),
        "kubelet.json": _document(_kubelet(instance)),
        "kube-proxy.json": _document(_kube_proxy(instance)),
        "Corefile": _corefile(instance, forward=bool(servers)),
        "resolv.conf": resolv_conf,
    }


def _document(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"


def _audit_policy() -> dict[str, Any]:
    """Writes only: what our service accounts do at rest is measured from this log."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
            {"level": "None"},
        ],
    }


def _containerd(instance: Instance, cni_folders: Iterable[Path]) -> str:
    bin_dirs = ", ".join(f"'{folder}'" for folder in cni_folders)
    return f"""version = 3
root = '{instance.state / "containerd"}'
state = '/run/containerd'
disabled_plugins = ['io.containerd.nri.v1.nri']

[grpc]
  address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  max_concurrent_downloads = 10
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  # without CAP_SYS_RESOURCE a process cannot lower its score
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  cdi_spec_dirs = ['{instance.state / "cdi"}']
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [{bin_dirs}]
  conf_dir = '{instance.state / "etc" / "cni"}'
"""


def _cni(instance: Instance) -> dict[str, Any]:
    addresses = {
        "subnet": instance.pod_subnet,
        "rangeStart": instance.node_address.removesuffix(".0.1") + ".1.1",
        "gateway": instance.node_address,
    }
    bridge = {
        "type": "bridge",
        "bridge": instance.bridge,
        "isGateway": True,
        "ipMasq": False,  # it leaves rules behind; the machine's own table does it
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/var/lib/cni/networks",
            "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[addresses]],
        },
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _kubelet(instance: Instance) -> dict[str, Any]:
    pki = instance.state / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": instance.cgroup_root,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "clusterDomain": "cluster.local",
        "clusterDNS": [instance.node_address],
        "resolvConf": str(instance.state / "etc" / "resolv.conf"),
        "podLogsDir": str(instance.state / "pod-logs"),
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,  # what was loaded cannot be pulled again
        "imageGCLowThresholdPercent": 99,
        "imageMaximumGCAge": "0s",
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "1s",  # the ticker on which device changes are published
        "nodeStatusReportFrequency": "5m",
        "syncFrequency": "10s",
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 100,
        "eventBurst": 200,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "makeIPTablesUtilChains": False,
        "shutdownGracePeriod": "0s",
        "featureGates": {"ResourceHealthStatus": True},
    }


def _kube_proxy(instance: Instance) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(instance.state / "pki" / "kube-proxy.kubeconfig")},
        "clusterCIDR": instance.pod_subnet,
        "hostnameOverride": NODE,
        "bindAddress": instance.node_address,
        "nodePortAddresses": [f"{instance.node_address}/32"],
        # Pods share one bridge: without this an answer goes past the translation where br_netfilter is absent.
        "nftables": {"masqueradeAll": True, "syncPeriod": "30s", "minSyncPeriod": "100ms"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _corefile(instance: Instance, forward: bool) -> str:
    pki = instance.state / "pki"
    upstream = f"    forward . {instance.state / 'etc' / 'resolv.conf'}\n" if forward else ""
    return f""".:53 {{
    bind {instance.node_address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        endpoint https://{instance.node_address}:{instance.port("api")}
        tls {pki / "admin.crt"} {pki / "admin.key"} {pki / "ca.crt"}
        ttl 5
    }}
{upstream}    cache 5
}}
"""
