"""System packages: what is missing is named and installed once, by the machine's own package manager or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from errors import DevclusterError, MissingPackagesError
from system import ensure_packages

TOOLS = {
    "openssl": "openssl", "ip": "iproute2", "unshare": "util-linux", "mount": "mount", "nft": "nftables",
    "runc": "runc", "mmdebstrap": "mmdebstrap", "gcc": "gcc",
}  # fmt: skip
"""Program -> its package in Debian 12."""

APT_GET = """#!/bin/sh
# A package manager: notes how it is called, does what the files beside it say, and puts the program where it belongs.
cd {root}
mkdir busy 2> /dev/null || {{ echo "E: Could not get lock"; exit 100; }}
trap 'rmdir busy' EXIT
echo "$DEBIAN_FRONTEND $*" >> calls
if [ "$1" = update ]; then
    [ -e offline ] && {{ echo "E: Temporary failure resolving the mirror"; exit 100; }}
    rm -f stale
    : > var/lib/apt/lists/mirror_Packages
    exit 0
fi
for package; do :; done
[ -e slow ] && sleep 0.3
[ -e stale ] && {{ echo "E: Failed to fetch $package: 404 Not Found"; exit 100; }}
[ -e "refused-$package" ] && {{ echo "E: Unable to locate package $package"; exit 100; }}
if [ "$package" = libc6-dev ]; then : > usr/lib/x86_64-linux-gnu/libc.a; exit 0; fi
read program < "provides/$package"
: > "usr/bin/$program"
chmod +x "usr/bin/$program"
"""


class ScriptedMachine:
    """A file system with the programs of a Debian 12, and an apt-get that is a script."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("etc", "usr/bin", "usr/lib/x86_64-linux-gnu", "var/lib/apt/lists", "provides", "apt"):
            (root / folder).mkdir(parents=True)
        (root / "etc/os-release").write_text('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n')
        (root / "var/lib/apt/lists/mirror_Packages").touch()
        (root / "usr/lib/x86_64-linux-gnu/libc.a").touch()
        for program, package in TOOLS.items():
            (root / "provides" / package).write_text(f"{program}\n")
            self._executable(f"usr/bin/{program}", "")
        self._executable("apt/apt-get", APT_GET.format(root=root))

    def _executable(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def lacks(self, *programs: str) -> None:
        for program in programs:
            (self.root / "usr/bin" / program).unlink()

    def says(self, *marks: str) -> None:
        for mark in marks:
            (self.root / mark).touch()

    @property
    def calls(self) -> list[str]:
        """How apt-get was called, each with the front end that it was given."""
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []


INSTALL = "noninteractive install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends"
UPDATE = "noninteractive update -qq"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedMachine:
    monkeypatch.setenv("PATH", str(tmp_path / "apt"))
    monkeypatch.delenv("DEBIAN_FRONTEND", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return ScriptedMachine(tmp_path)


def test_nothing_is_called_and_nothing_is_said_where_everything_is(
    machine: ScriptedMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    (machine.root / "var/lib/apt/lists/mirror_Packages").unlink()  # as in an image for containers
    ensure_packages(root=machine.root)
    assert machine.calls == []
    assert capsys.readouterr() == ("", "")


def test_what_is_missing_is_named_and_installed_once(
    machine: ScriptedMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.lacks("nft", "runc")
    (machine.root / "usr/lib/x86_64-linux-gnu/libc.a").unlink()
    ensure_packages(root=machine.root)
    assert machine.calls == [f"{INSTALL} {package}" for package in ("nftables", "runc", "libc6-dev")]
    assert capsys.readouterr().err.splitlines() == [
        "installing the system package nftables (1/3)",
        "installing the system package runc (2/3)",
        "installing the system package libc6-dev (3/3)",
    ]
    ensure_packages(root=machine.root)
    assert len(machine.calls) == 3


def test_two_that_prepare_at_once_install_once(machine: ScriptedMachine) -> None:
    machine.lacks("nft", "runc")
    machine.says("slow")
    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(ensure_packages, root=machine.root) for _ in range(2)]:
            done.result()
    assert machine.calls == [f"{INSTALL} {package}" for package in ("nftables", "runc")]


def test_an_api_server_alone_needs_openssl_only(machine: ScriptedMachine) -> None:
    machine.lacks(*TOOLS)
    ensure_packages(api_only=True, root=machine.root)
    assert machine.calls == [f"{INSTALL} openssl"]


def test_a_machine_without_package_lists_reads_them_first(machine: ScriptedMachine) -> None:
    (machine.root / "var/lib/apt/lists/mirror_Packages").unlink()
    machine.lacks("nft", "gcc")
    ensure_packages(root=machine.root)
    assert machine.calls == [UPDATE, f"{INSTALL} nftables", f"{INSTALL} gcc"]


def test_old_package_lists_are_read_anew_and_the_package_is_tried_again(machine: ScriptedMachine) -> None:
    machine.lacks("nft")
    machine.says("stale")
    ensure_packages(root=machine.root)
    assert machine.calls == [f"{INSTALL} nftables", UPDATE, f"{INSTALL} nftables"]


def test_a_package_that_cannot_be_installed_is_named_with_what_the_package_manager_says(
    machine: ScriptedMachine,
) -> None:
    machine.lacks("nft", "runc", "gcc")
    machine.says("refused-runc")
    with pytest.raises(DevclusterError) as failure:
        ensure_packages(root=machine.root)
    said = str(failure.value)
    assert said.startswith("missing: runc gcc; install them and try again")
    assert "E: Unable to locate package runc" in said
    assert failure.value.exit_code == 1


def test_a_machine_without_a_network_is_told_so(machine: ScriptedMachine) -> None:
    (machine.root / "var/lib/apt/lists/mirror_Packages").unlink()
    machine.lacks("openssl")
    machine.says("offline")
    with pytest.raises(DevclusterError, match=r"(?s)missing: openssl;.*Temporary failure resolving"):
        ensure_packages(root=machine.root)
    assert machine.calls == [UPDATE]


def test_another_system_is_told_the_names_and_left_alone(machine: ScriptedMachine) -> None:
    (machine.root / "etc/os-release").write_text('ID=fedora\nVERSION_ID="42"\n')
    machine.lacks("nft", "ip")
    with pytest.raises(MissingPackagesError, match=r"names as in Debian 12\): iproute2 nftables; install") as failure:
        ensure_packages(root=machine.root)
    assert failure.value.exit_code == 2
    assert machine.calls == []


def test_a_user_who_is_not_root_is_told_the_command(machine: ScriptedMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.lacks("nft")
    with pytest.raises(MissingPackagesError, match="missing: nftables; install them as root: apt-get install nftables"):
        ensure_packages(root=machine.root)
    assert machine.calls == []
