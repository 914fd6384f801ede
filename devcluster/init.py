"""Carrying out a plan: start daemons, start again what ends, obey stop/start/restart/kill, stop all at the end.

For a whole cluster this is PID 1 of private mount, PID and network namespaces: when it ends, for whatever reason, the
kernel ends every daemon, shim and container and drops every mount and interface. For an API server alone it is an
ordinary process whose children die with it.

Control protocol on `ctl.sock`: one line `COMMAND COMPONENT` in, one line of answer out.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from apiclient import ApiClient
from daemons import Daemon, Plan
from errors import run

__all__ = ["COMMANDS", "main", "set_up_mounts", "set_up_network"]

COMMANDS: Final = {
    "start": "start a stopped daemon",
    "stop": "stop a daemon and leave it stopped",
    "restart": "stop a daemon and start it again",
    "kill": "kill -9 a daemon; it comes back after a second",
}
_RESTART_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 4.0
_PR_SET_PDEATHSIG: Final = 1
# Stopped last: the others still talk to them.
_FOUNDATIONS: Final = ("etcd", "containerd")
_libc: Final = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _log(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def set_up_mounts(state: Path, binds: dict[str, str]) -> None:
    """Show parts of the state where programs expect them, and an empty /run; seen by this namespace only."""
    run("mount", "--make-rshared", "/")
    for name, target in binds.items():
        (state / name).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", state / name, target)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")


def set_up_network(names: dict[str, str], host: int) -> None:
    """Make the pods' bridge here and a cable from it to the machine's network namespace, open as `host`."""

    def outside(*argv: str, stdin: str | None = None, check: bool = True) -> None:
        run("nsenter", f"--net=/proc/self/fd/{host}", *argv, pass_fds=(host,), stdin=stdin, check=check)

    bridge, link, node, gateway = names["bridge"], names["link"], names["node"], names["host"]
    run("ip", "link", "set", "lo", "up")
    # With an address of its own: else it takes the lowest of its cables, and when that pod goes the node is not found.
    octets = "".join(f":{int(octet):02x}" for octet in node.split("."))
    run("ip", "link", "add", bridge, "address", f"02:00{octets}", "type", "bridge")
    run("ip", "address", "add", f"{node}/16", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    outside("ip", "link", "delete", link, check=False)  # of an earlier life that was killed
    outside("ip", "link", "add", link, "type", "veth", "peer", "name", "machine", "netns", "1")
    outside("ip", "address", "add", f"{gateway}/16", "dev", link)
    outside("ip", "link", "set", link, "up")
    outside("ip", "route", "replace", names["services"], "via", node, "dev", link)
    run("ip", "link", "set", "machine", "master", bridge, "up")
    run("ip", "route", "add", "default", "via", gateway)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    pods = names["pods"]
    rule = f'ip saddr {pods} ip daddr != {pods} oifname != "{link}" masquerade'
    outside("nft", "delete", "table", "ip", names["table"], check=False)
    chain = f"chain post {{ type nat hook postrouting priority 100; {rule}; }}"
    outside("nft", "-f", "-", stdin=f"table ip {names['table']} {{\n{chain}\n}}\n")


class Supervisor:
    """The daemons of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._state = Path(plan.state)
        self._daemons = {daemon.name: daemon for daemon in plan.daemons}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._held: set[str] = set()
        self._due = {daemon.name: 0.0 for daemon in plan.daemons if not daemon.after_api}
        self._api_ready = False
        self._ending = False
        self._client = ApiClient(plan.server, self._state / "pki")
        address = self._state / "ctl.sock"
        address.unlink(missing_ok=True)
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(str(address))
        address.chmod(0o600)
        self._control.listen()

    def run(self) -> None:
        """Keep the daemons running until told to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        while not self._ending:
            self._start_due()
            if not self._api_ready and self._client.get("/readyz"):
                self._api_ready = True
                _log("API server is ready")
                self._due |= {daemon.name: 0.0 for daemon in self._plan.daemons if daemon.after_api}
            self._reap()
            if select.select([self._control], [], [], 0.1)[0]:
                self._serve()
        first = [name for name in self._running if name not in _FOUNDATIONS]
        self._terminate(first)
        self._terminate([name for name in self._running if name in _FOUNDATIONS])

    def _end(self, *_: object) -> None:
        self._ending = True

    def _start_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, moment in self._due.items() if moment <= now and name not in self._held]:
            del self._due[name]
            self._start(self._daemons[name])

    def _start(self, daemon: Daemon) -> None:
        with (self._state / "log" / f"{daemon.name}.log").open("ab") as log:
            self._running[daemon.name] = subprocess.Popen(
                daemon.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Their garbage collectors run half as often: on two cores that time is missing where pods start.
                env={"GOGC": "200", **os.environ, "PATH": self._plan.path},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )

    def _reap(self) -> None:
        """Collect what ended; PID 1 also inherits shims and processes of containers."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            name = next((name for name, process in self._running.items() if process.pid == ended.si_pid), None)
            if name is None:
                os.waitpid(ended.si_pid, 0)
                continue
            code = self._running.pop(name).wait()
            self._due[name] = time.monotonic() + _RESTART_SECONDS
            _log(f"{name} ended with {code}" + ("" if name in self._held else "; starting it again"))

    def _terminate(self, names: list[str]) -> None:
        for name in names:
            self._running[name].terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for name in names:
            process = self._running.pop(name)
            try:
                process.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _serve(self) -> None:
        connection, _ = self._control.accept()
        with connection:
            connection.settimeout(2)
            try:
                command, _, name = connection.recv(200).decode().strip().partition(" ")
                answer = self._obey(command, name)
                connection.sendall(answer.encode() + b"\n")
            except (OSError, UnicodeDecodeError) as error:
                _log(f"control connection: {error}")

    def _obey(self, command: str, name: str) -> str:
        if command not in COMMANDS or name not in self._daemons:
            return f"error: {command} {name}: this instance runs {', '.join(self._daemons)}"
        _log(f"asked to {command} {name}")
        actions: dict[str, Callable[[str], None]] = {
            "start": self._begin,
            "stop": self._hold,
            "restart": self._renew,
            "kill": self._kill,
        }
        actions[command](name)
        process = self._running.get(name)
        return f"{name} runs" if process and process.poll() is None else f"{name} does not run"

    def _hold(self, name: str) -> None:
        self._held.add(name)
        if name in self._running:
            self._terminate([name])

    def _renew(self, name: str) -> None:
        self._hold(name)
        self._begin(name)

    def _begin(self, name: str) -> None:
        self._held.discard(name)
        self._due.pop(name, None)
        if name not in self._running:
            self._start(self._daemons[name])

    def _kill(self, name: str) -> None:
        if name in self._running:
            self._running[name].kill()
            self._running[name].wait()
            del self._running[name]
        if name not in self._held:
            self._due[name] = time.monotonic() + _RESTART_SECONDS


def main(state: str, host_network: int | None) -> None:
    """Run as an instance's init; `host_network` is a descriptor of the machine's network namespace."""
    plan = Plan.from_json(json.loads((Path(state) / "etc" / "plan.json").read_text()))
    try:
        if host_network is not None:
            set_up_mounts(Path(state), plan.binds)
            set_up_network(plan.network, host_network)
            os.close(host_network)
        Supervisor(plan).run()
    except Exception as error:  # the edge: whoever reads init.log must see why there is no cluster
        _log(f"cannot go on: {error}")
        sys.exit(1)
