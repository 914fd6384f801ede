"""A real etcd and kube-apiserver, and optionally the controllers, as child processes of the tests. No root.

Command lines, certificates and binaries are devcluster's; what is different is who looks after the processes: they
are children of pytest that the kernel ends with it, on ports that were free, in a folder of their own. So any number
of test runs can go on at once, beside a demo that is up.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlencode, urlsplit

import binaries
import configs
import pki
from daemons import Options, build_plan, server_url
from instance import Instance
from support.processes import spawn

__all__ = ["CRDS", "ApiServer", "KubectlError", "missing_binaries", "running_api_server"]

CRDS: Final = Path(__file__).resolve().parents[2] / "crds"
_CONTROLLERS: Final = ("kube-controller-manager", "kube-scheduler")
_PREFIX: Final = "supernode-api-"


class KubectlError(Exception):
    """kubectl failed; the message is what it printed."""


class _PrivateInstance(Instance):
    """An instance that has no slot: its ports are whatever was free."""

    __slots__ = ()
    _ports: ClassVar[Mapping[str, int]] = {}

    def port(self, what: str) -> int:
        return self._ports[what]


class ApiServer:
    """A running API server, with the administrator's view of it."""

    def __init__(self, instance: Instance, kubectl: Path) -> None:
        self.url = server_url(instance, True)
        self.kubeconfig = instance.kubeconfig
        self.ca = instance.state / "pki" / "ca.crt"
        self.audit_log = instance.log("audit")
        self.folder = instance.state
        self.program = kubectl
        self._context = ssl.create_default_context(cafile=str(self.ca))
        self._context.load_cert_chain(self.ca.with_name("admin.crt"), self.ca.with_name("admin.key"))
        self._connections = threading.local()
        self._environment = {**os.environ, "KUBECACHEDIR": str(self.folder / "kube-cache"), "HOME": str(self.folder)}

    def kubectl(self, *args: str | Path, input: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; return what it printed, errors included when ``check`` is false."""
        argv = [str(self.program), f"--kubeconfig={self.kubeconfig}", *map(str, args)]
        done = subprocess.run(argv, input=input, text=True, capture_output=True, env=self._environment, check=False)
        if check and done.returncode:
            raise KubectlError(
                f"kubectl {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr}{done.stdout}"
            )
        return done.stdout if check else done.stdout + done.stderr

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> tuple[int, Any]:
        """Send one request as administrator; return the status code and the parsed answer (text if it is not JSON)."""
        target = quote(path, safe="/") + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Accept": "application/json", **({"Content-Type": content_type} if data else {}), **(headers or {})}
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, target, data, sent)
                answer = connection.getresponse()
                text = answer.read().decode()
                break
            except (OSError, http.client.HTTPException):
                connection.close()  # the server closes connections that were idle for long
                if attempt == 2:
                    raise
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(text)
        return answer.status, text

    def audit_events(self) -> list[dict[str, Any]]:
        """Return everything in the audit log so far: every request but those for health and metrics."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.audit_log.read_text(encoding="utf-8").splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.endswith("\n")]
        return []

    def service_account_kubeconfig(self, namespace: str, name: str, *more: str) -> Path:
        """Write a kubeconfig with a fresh token of a service account; ``more`` are options of ``create token``."""
        token = self.kubectl("create", "token", name, "-n", namespace, *more).strip()
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
            "users": [{"name": name, "user": {"token": token}}],
        }
        handle, path = tempfile.mkstemp(dir=self.folder, prefix=f"{namespace}-{name}-", suffix=".kubeconfig")
        with os.fdopen(handle, "w") as file:
            json.dump(document, file)
        return Path(path)

    def remove_objects(self) -> None:
        """Delete all objects of our kinds, finalizers or not: what one test leaves must not meet the next."""
        for plural in ("supernodeworkloads", "computenodes", "supernodes"):
            for item in self.request("GET", f"/apis/supernode.io/v1alpha1/{plural}")[1]["items"]:
                meta = item["metadata"]
                scope = f"namespaces/{meta['namespace']}/" if "namespace" in meta else ""
                path = f"/apis/supernode.io/v1alpha1/{scope}{plural}/{meta['name']}"
                if meta.get("finalizers"):
                    patch = {"metadata": {"finalizers": None}}
                    self.request("PATCH", path, patch, content_type="application/merge-patch+json")
                self.request("DELETE", path)

    def _connection(self) -> http.client.HTTPSConnection:
        found: http.client.HTTPSConnection | None = getattr(self._connections, "one", None)
        if found is None:
            found = http.client.HTTPSConnection(urlsplit(self.url).netloc, timeout=30, context=self._context)
            self._connections.one = found
        return found

    def close(self) -> None:
        """Close this thread's connection."""
        if found := getattr(self._connections, "one", None):
            found.close()


def missing_binaries(controllers: bool = False) -> list[str]:
    """Name the programs that are not on this machine; none is built here."""
    return [binary.name for binary in _binaries(controllers) if binaries.locate(binary) is None]


@contextlib.contextmanager
def running_api_server(*, controllers: bool = False, admission: bool = False) -> Iterator[ApiServer]:
    """Start an API server with our CRDs; everything of it is gone at the end, also when pytest is killed.

    Without ``admission`` of service accounts, pods can be created in a namespace that has none; with ``controllers``
    that is always on, because the accounts are then made.
    """
    remove_what_died()
    for attempt in (1, 2, 3):
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        processes: list[subprocess.Popen[bytes]] = []
        try:
            server = _start(folder, processes, controllers, admission or controllers)
        except _PortTakenError:
            _end(processes, folder)
            if attempt == 3:
                raise
            continue
        except BaseException:
            _end(processes, folder)
            raise
        try:
            yield server
        finally:
            server.close()
            _end(processes, folder)
        return


class _PortTakenError(Exception):
    """A daemon ended at once; somebody was faster with its port."""


def _binaries(controllers: bool) -> list[binaries.Binary]:
    wanted = {*binaries.API_ONLY, *(_CONTROLLERS if controllers else ())}
    return [binary for binary in binaries.BINARIES if binary.name in wanted]


def _start(folder: Path, processes: list[subprocess.Popen[bytes]], controllers: bool, admission: bool) -> ApiServer:
    paths = {binary.name: path for binary in _binaries(controllers) if (path := binaries.locate(binary))}
    instance = _instance(folder)
    for name in ("log", "etc"):
        (instance.state / name).mkdir(parents=True)
    pki.create(instance, server_url(instance, True))
    policy = json.loads(configs.render(instance, (), "")["audit-policy.json"])
    reads = {
        "level": "None",
        "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/metrics", "/openapi*", "/version"],
    }
    policy["rules"] = [reads, {"level": "Metadata"}]  # reads too: what a role grants is compared with what is called
    (instance.state / "etc" / "audit-policy.json").write_text(json.dumps(policy))
    daemons = build_plan(instance, Options(api_only=True, with_controllers=controllers), "").daemons
    running: dict[str, subprocess.Popen[bytes]] = {}
    for daemon in sorted(daemons, key=lambda one: one.after_api):
        if daemon.after_api and "ready" not in running:
            _wait_ready(running, instance)
            running["ready"] = running["kube-apiserver"]
        more = (
            ["--disable-admission-plugins=ServiceAccount"] if daemon.name == "kube-apiserver" and not admission else []
        )
        argv = [str(paths[daemon.name]), *daemon.argv[1:], *more]
        running[daemon.name] = _spawn(argv, instance.log(daemon.name))
        processes.append(running[daemon.name])
    _wait_ready(running, instance)
    server = ApiServer(instance, paths["kubectl"])
    _install_crds(server)
    if controllers:
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        _wait(lambda: server.request("GET", account)[0] == 200, "the default service account", instance)
    return server


def _instance(folder: Path) -> Instance:
    """Take free ports; all at once, so that they differ."""
    what = ("api", "etcd", "etcd-peer", "controller-manager", "scheduler")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in what]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = {name: one.getsockname()[1] for name, one in zip(what, sockets, strict=True)}
    kind = type("_Instance", (_PrivateInstance,), {"__slots__": (), "_ports": ports})
    return kind("test", 0, folder)  # type: ignore[no-any-return]


def _spawn(argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return spawn(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _wait_ready(running: Mapping[str, subprocess.Popen[bytes]], instance: Instance) -> None:
    context = ssl.create_default_context(cafile=str(instance.state / "pki" / "ca.crt"))

    def ready() -> bool:
        for name, process in running.items():
            if process.poll() is not None:
                raise _PortTakenError(f"{name} ended with {process.returncode}:\n{_tail(instance.log(name))}")
        connection = http.client.HTTPSConnection("127.0.0.1", instance.port("api"), timeout=2, context=context)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    _wait(ready, "the API server", instance)


def _install_crds(server: ApiServer) -> None:
    server.kubectl("apply", "--server-side", "-f", CRDS)
    names = [re.sub(r".*_(\w+)\.yaml", r"\1", path.name) for path in CRDS.glob("*.yaml")]
    for plural in names:  # a list that is answered says more than the condition Established: storage is there too
        path = f"/apis/supernode.io/v1alpha1/{plural}"
        _wait(lambda path=path: server.request("GET", path)[0] == 200, path, None)  # type: ignore[misc]

    _wait(lambda: _published(server, set(names)), "discovery of our kinds", None)
    shutil.rmtree(server.folder / "kube-cache", ignore_errors=True)  # kubectl may have looked too early


def _published(server: ApiServer, plurals: set[str]) -> bool:
    """Whether discovery, and the schemas that kubectl explains and validates by, have our kinds: both come late."""
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    groups = server.request("GET", "/apis", headers=accept)[1]["items"]
    ours = [group for group in groups if group["metadata"]["name"] == "supernode.io"]
    found = {
        resource["resource"] for group in ours for version in group["versions"] for resource in version["resources"]
    }
    status, answer = server.request("GET", "/openapi/v3/apis/supernode.io/v1alpha1")
    paths = set(answer["paths"]) if status == 200 else set()
    return plurals <= found and {f"/apis/supernode.io/v1alpha1/{name}" for name in plurals} <= paths


def _wait(test: Callable[[], bool], what: str, instance: Instance | None, limit_seconds: float = 60) -> None:
    deadline = time.monotonic() + limit_seconds
    while not test():
        if time.monotonic() > deadline:
            logs = _tail(instance.log("kube-apiserver")) if instance else ""
            raise TimeoutError(f"{what} was not there within {limit_seconds:.0f} s\n{logs}")
        time.sleep(0.05)


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-12:])
    return "(no log)"


def _end(processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    for process in reversed(processes):
        process.kill()  # nothing in there is worth a graceful end
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def remove_what_died() -> None:
    """Remove folders of test runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
