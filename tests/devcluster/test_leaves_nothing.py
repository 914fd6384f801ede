"""A cluster that has been up and down leaves the machine as it was; so does one that was killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import system
from instance import Instance, find, state_root
from support.processes import child

CLI = Path(__file__).resolve().parents[2] / "devcluster" / "cluster.py"
NAME = "leak"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def cluster(*words: str) -> str:
    done = subprocess.run([sys.executable, str(CLI), *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def printed(*argv: str) -> set[str]:
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return set(subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout.splitlines())


def daemons() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{state_root() / NAME}" in words or words.startswith(
                ("/pause", "containerd-shim", "/usr/bin/containerd")
            ):
                found.add(words)
    return found


def picture() -> dict[str, set[str]]:
    """What could be left behind, without what belongs to other instances, which may come and go meanwhile."""
    others = [file.read_text().strip() for file in (state_root() / "slots").glob("[0-9]*")]
    foreign = [item for name in others if name != NAME and (item := find(name))]
    theirs = {name for item in foreign for name in (item.link, item.nft_table, item.pod_subnet, item.service_subnet)}

    def mine(lines: set[str]) -> set[str]:
        return {line for line in lines if not any(name in re.split(r"[ :@]+", line) for name in theirs)}

    alone = not system._others_up(Instance(NAME, 0, state_root()))
    # Walked, which forgives that groups of others go meanwhile.
    walk = os.walk("/sys/fs/cgroup")
    hierarchies = [Path(folder, name) for folder, names, _ in walk for name in names if f"supernode-{NAME}" in name]
    links = {line.split(":")[1].strip() for line in printed("ip", "-o", "link")}
    sysctls = {f"{key}={(Path('/proc/sys') / key).read_text().strip()}" for key in system._SYSCTLS}
    return {
        "processes": {words for words in daemons() if NAME in words},
        "mounts": {line for line in Path("/proc/self/mounts").read_text().splitlines() if NAME in line},
        "mount points": {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()},
        "links": mine(links),
        "routes": mine(printed("ip", "route")),
        "nft tables": mine(printed("nft", "list", "tables")),
        "sysctls": sysctls if alone else set(),
        "cgroups": {str(path) for path in hierarchies},
        "folders": {
            path for path in ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers") if Path(path).exists()
        },
        "state": {str(path) for path in state_root().glob(f"**/*{NAME}*")} if state_root().exists() else set(),
    }


@pytest.fixture
def clean() -> Iterator[None]:
    cluster("down", "--instance", NAME, "--purge")
    yield
    cluster("down", "--instance", NAME, "--purge")


def test_up_and_down_leave_the_machine_as_it_was(clean: None) -> None:
    before = picture()
    cluster("up", "--instance", NAME)
    during = picture()
    assert during["nft tables"] > before["nft tables"]
    assert during["links"] > before["links"]
    assert during["cgroups"] > before["cgroups"]
    assert during["processes"]
    cluster("down", "--instance", NAME, "--purge")
    assert picture() == before


def test_down_cleans_up_after_an_init_and_an_up_that_were_killed(clean: None) -> None:
    before = picture()
    pid = 0
    deadline = time.monotonic() + 60
    with child([sys.executable, str(CLI), "up", "--instance", NAME], stderr=subprocess.DEVNULL):
        while not pid and time.monotonic() < deadline:
            instance = find(NAME)
            pid = system.find_init(instance) if instance else 0
            time.sleep(0.05)
    assert pid
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    cluster("down", "--instance", NAME, "--purge")
    assert picture() == before
