"""The node can be reached while pods come and go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.node, pytest.mark.timeout(120)]

TESTS = Path(__file__).resolve().parents[1]
DEVCLUSTER = TESTS.parent / "devcluster"
NODE, HOST, PORT = "10.199.0.1", "10.199.0.2", 4321
# A bridge takes the lowest address of its cables unless it was given one; pods' cables have random ones.
LOWEST = "02:00:00:00:00:01"

MACHINE = f"""
import os, socket, subprocess, sys
sys.path.insert(0, {str(TESTS)!r})
from support.processes import child
network = os.open("/proc/self/ns/net", os.O_RDONLY)
apart = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c"]
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
with child([*apart, sys.argv[1], str(network)], pass_fds=(network,), **pipes) as node:
    for step in ("start", "pod comes", "pod goes"):
        node.stdin.write(step + chr(10))
        node.stdin.flush()
        assert node.stdout.readline().strip() == "done", step
        try:
            socket.create_connection(("{NODE}", {PORT}), timeout=5).close()
        except OSError as error:
            print(step + ": " + str(error))
"""

INNER = f"""
import socket, subprocess, sys
sys.path.insert(0, {str(DEVCLUSTER)!r})
from init import set_up_network
names = dict(bridge="pods", link="cable", table="pods_test", pods="10.199.0.0/16", services="10.198.0.0/16")
def ip(*words):
    subprocess.run(["ip", *words], check=True)
for line in sys.stdin:
    match line.strip():
        case "start":
            set_up_network(names | dict(node="{NODE}", host="{HOST}"), int(sys.argv[1]))
            listening = socket.create_server(("{NODE}", {PORT}))
        case "pod comes":
            ip("link", "add", "pod", "address", "{LOWEST}", "type", "veth", "peer", "name", "eth")
            ip("link", "set", "pod", "master", "pods", "up")
        case "pod goes":
            ip("link", "delete", "pod")
    print("done", flush=True)
"""


def test_the_node_answers_at_once_when_a_pod_has_come_or_gone() -> None:
    done = subprocess.run(
        ["unshare", "--net", "--", sys.executable, "-c", MACHINE, INNER],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
