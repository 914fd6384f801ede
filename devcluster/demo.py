"""`make demo`: from nothing to tokens per second on a real one-machine Kubernetes; `make demo-down` stops it.

Runs the public commands (cluster.py, helm, kubectl, supernode), so what it does can be done by hand; each step says
what it does and how long it took.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "devcluster" / "cluster.py"
NAMESPACE, RELEASE = "supernode-system", "supernode"
MACHINE, WORKLOAD = "cm384", "llama-3-1-405b"


class CommandError(Exception):
    """A command failed; the message says which, and what it printed."""


class Demo:
    """One demo on one instance of the development cluster, which ``cluster`` (a program) starts and stops."""

    def __init__(self, instance: str, cluster: Path = CLUSTER) -> None:
        self.instance = instance
        self.program = cluster
        self.started = time.monotonic()
        self.environment = dict(os.environ)

    def up(self) -> None:
        """Bring everything up; each step is a no-op when it is done already."""
        self.cluster("prepare")
        with step("building the product's image (first time: about a minute)"):
            image = self.cluster("image", capture=True).strip().splitlines()[-1]
        with step("starting Kubernetes (etcd, API server, scheduler, containerd, kubelet)"):
            self.cluster("up", "--image", image, "--node-label", f"supernode.io/pool={MACHINE}", capture=True)
        self.load_environment()
        with step("installing the chart with Helm"):
            self.install()
        with step(f"kubectl apply -f examples/supernode-384.yaml, waiting for {MACHINE} to be Ready"):
            self.kubectl("apply", "-f", "examples/supernode-384.yaml")
            self.kubectl("wait", "--for=condition=Ready", "--timeout=120s", f"supernode/{MACHINE}")
        with step("kubectl apply -f examples/llama-3.1-405b-training.yaml, waiting for 48 pods to train"):
            self.kubectl("apply", "-f", "examples/llama-3.1-405b-training.yaml")
            self.kubectl("wait", "--for=condition=Ready", "--timeout=120s", f"supernodeworkload/{WORKLOAD}")
        self.show()

    def down(self) -> None:
        """Stop the cluster; nothing of it stays but the cache of binaries and images."""
        self.cluster("down", "--purge")

    def install(self) -> None:
        """Create the restricted namespace and install the chart; again is an upgrade."""
        namespace = self.kubectl("create", "namespace", NAMESPACE, "--dry-run=client", "-o", "yaml")
        self.kubectl("apply", "-f", "-", stdin=namespace)
        self.kubectl("label", "--overwrite", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        helm = ["helm", "upgrade", "--install", RELEASE, "helm/supernode", "--namespace", NAMESPACE, "--wait"]
        self.run([*helm, "--timeout", "3m"])

    def show(self) -> None:
        """Print the machine and its workload, and how to look further."""
        python = sys.executable
        print(flush=True)
        subprocess.run([python, "-m", "supernode_cli.main", "get"], env=self.environment, cwd=ROOT, check=False)
        kubeconfig = self.environment["KUBECONFIG"]
        binaries = self.environment["PATH"].removesuffix(os.environ["PATH"])
        print(f"""
It took {time.monotonic() - self.started:.0f} s and stays up. Look further:

  export KUBECONFIG={kubeconfig} PATH={binaries}{ROOT}/.venv/bin:$PATH
  kubectl get sn,cn,snw                    the machine, its 48 servers, its workload
  supernode get -o wide                    with notes on the published figures
  kubectl logs -f job/{WORKLOAD}       a rank's training log
  kubectl get --raw /api/v1/namespaces/{NAMESPACE}/services/{MACHINE}-cabinets:8080/proxy/metrics | less
  kubectl apply --server-side --field-manager=me -f examples/fault.yaml      break a die, and see it all move

Stop it: make demo-down{"" if self.instance == "demo" else f" INSTANCE={self.instance}"}""")

    def cluster(self, *arguments: str, capture: bool = False) -> str:
        """Run cluster.py; its progress goes to the screen unless captured."""
        command = [sys.executable, str(self.program), *arguments]
        if arguments[0] not in ("prepare", "image"):
            command += ["--instance", self.instance]
        return self.run(command, capture=capture)

    def load_environment(self) -> None:
        """Take KUBECONFIG and PATH of kubectl and helm from cluster.py."""
        for line in self.cluster("env", capture=True).splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            if name.isidentifier():
                words = "".join(shlex.split(value))
                self.environment[name] = words.replace("$PATH", self.environment["PATH"])

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints."""
        return self.run(["kubectl", *arguments], stdin=stdin)

    def run(self, command: list[str], *, capture: bool = True, stdin: str | None = None) -> str:
        """Run a command; on failure say which and what it printed, and stop."""
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        try:
            done = subprocess.run(
                [program, *command[1:]],
                env=self.environment,
                cwd=ROOT,
                input=stdin,
                text=True,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.PIPE if capture else None,
                check=False,
            )
        except OSError as error:
            raise CommandError(f"`{' '.join(command)}` could not be started: {error.strerror}") from error
        if done.returncode:
            said = f"{(done.stdout or '').strip()}\n{(done.stderr or '').strip()}".strip()
            raise CommandError(f"`{' '.join(command)}` failed with exit status {done.returncode}\n{said}".strip())
        return done.stdout or ""

    def explain(self) -> None:
        """Print what a person would look at first: conditions of our objects and pods that are not Running."""
        kubectl = shutil.which("kubectl", path=self.environment["PATH"])
        if "KUBECONFIG" not in self.environment or kubectl is None:
            return
        for arguments in (["get", "sn,snw", "-A", "-o", "wide"], ["get", "pods", "-A", "-o", "wide"]):
            with contextlib.suppress(OSError):
                shown = subprocess.run(
                    [kubectl, *arguments], env=self.environment, capture_output=True, text=True, check=False
                )
                print("\n".join(shown.stdout.splitlines()[:40]), file=sys.stderr)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    print(f"- {what} ... ", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--instance", default="demo")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("demo: needs root: it starts a kubelet and containers. Run it with sudo, or use make kind-up")
    play(Demo(arguments.instance), arguments.action)


def play(demo: Demo, action: str) -> None:
    """Bring a demo up or down; what fails ends the program with one message that names the command."""
    try:
        demo.up() if action == "up" else demo.down()
    except CommandError as error:
        demo.explain()
        raise SystemExit(f"demo: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("\ndemo: interrupted; make demo-down cleans up") from None


if __name__ == "__main__":
    main()
