"""The demo without a cluster: its steps in order, what it prints, and what a person reads when one fails.

`cluster.py`, `kubectl` and `helm` are scripted programs here; what they do on a real machine is tested from the chart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import demo
from support import api_samples
from support.apiserver import ApiServer
from support.applying import apply

ROOT = Path(__file__).resolve().parents[2]

CLUSTER = """
import json, os, sys
open({log!r}, "a").write(json.dumps(["cluster.py", *sys.argv[1:]]) + "\\n")
if sys.argv[1] in {failing!r}:
    print("no room left", file=sys.stderr)
    sys.exit(3)
if sys.argv[1] == "image":
    print("found in the cache")
    print("/cache/image.tar")
if sys.argv[1] == "env":
    print("export KUBECONFIG={kubeconfig}")
    print("export PATH='{folder}':$PATH")
    print("# the rest is a comment")
"""
TOOL = """#!{python}
import json, sys
words = [{name!r}, *sys.argv[1:]]
open({log!r}, "a").write(json.dumps(words) + "\\n")
if any(word in words for word in {failing!r}):
    print("error: timed out waiting for the condition", file=sys.stderr)
    sys.exit(1)
if words[1] == "create":
    print("a namespace")
if words[1] == "get":
    print("supernode/cm384 is not Ready: NoNodesMatch" if words[2] == "sn,snw" else "no pod runs")
"""


class Stage:
    """Scripted programs in a folder, and what they were asked."""

    def __init__(self, folder: Path, *failing: str) -> None:
        self.log = folder / "asked.jsonl"
        self.kubeconfig = folder / "kubeconfig"
        self.cluster = folder / "cluster.py"
        values = {"log": str(self.log), "failing": failing, "folder": folder, "kubeconfig": self.kubeconfig}
        self.cluster.write_text(CLUSTER.format(**values))
        for name in ("kubectl", "helm"):
            tool = folder / name
            tool.write_text(TOOL.format(python=sys.executable, name=name, **values))
            tool.chmod(0o755)

    def demo(self, instance: str = "demo") -> demo.Demo:
        return demo.Demo(instance, self.cluster)

    @property
    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(autouse=True)
def no_cluster_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@dataclass(frozen=True)
class Shown:
    """One demo of an instance `other` that went well, but for `supernode get`, which found no cluster."""

    stage: Stage
    out: str
    err: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("demo")
    stage = Stage(folder)
    program = f"import demo, pathlib; demo.play(demo.Demo('other', pathlib.Path({str(stage.cluster)!r})), 'up')"
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command,
        cwd=ROOT / "devcluster",
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Shown(stage, done.stdout, done.stderr)


def test_everything_is_brought_up_in_order_and_each_step_says_how_long(shown: Shown) -> None:
    stage = shown.stage
    assert [words[:2] for words in stage.asked] == [
        ["cluster.py", "prepare"],
        ["cluster.py", "image"],
        ["cluster.py", "up"],
        ["cluster.py", "env"],
        ["kubectl", "create"],
        ["kubectl", "apply"],
        ["kubectl", "label"],
        ["helm", "upgrade"],
        ["kubectl", "apply"],
        ["kubectl", "wait"],
        ["kubectl", "apply"],
        ["kubectl", "wait"],
    ]
    up = stage.asked[2]
    assert up[up.index("--image") + 1] == "/cache/image.tar"
    assert up[-2:] == ["--instance", "other"]
    assert "pod-security.kubernetes.io/enforce=restricted" in stage.asked[6]
    assert [words[3] for words in stage.asked if words[1] == "apply" and words[3] != "-"] == [
        "examples/supernode-384.yaml",
        "examples/llama-3.1-405b-training.yaml",
    ]
    steps = [line for line in shown.out.splitlines() if line.startswith("- ")]
    assert len(steps) == 5
    assert all(step.endswith(" s") and float(step.split()[-2]) >= 0 for step in steps)


def test_what_it_applies_is_there_and_has_the_names_that_it_waits_for() -> None:
    for name, file in ((demo.MACHINE, "supernode-384.yaml"), (demo.WORKLOAD, "llama-3.1-405b-training.yaml")):
        assert f"name: {name}" in (ROOT / "examples" / file).read_text(encoding="utf-8")
    assert (ROOT / "helm" / demo.RELEASE / "Chart.yaml").exists()
    assert demo.CLUSTER.exists()


def test_it_says_how_to_look_further_and_how_to_stop(shown: Shown) -> None:
    config, folder = shown.stage.kubeconfig, shown.stage.kubeconfig.parent
    assert f"export KUBECONFIG={config} PATH={folder}:{ROOT}/.venv/bin:$PATH" in shown.out
    assert "make demo-down INSTANCE=other" in shown.out
    for words in ("kubectl get sn,cn,snw", "supernode get -o wide", f"job/{demo.WORKLOAD}", f"{demo.MACHINE}-cabinets"):
        assert words in shown.out
    assert (ROOT / "examples" / "fault.yaml").exists()


def test_going_down_stops_the_instance_and_purges_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    demo.play(stage.demo("other"), "down")
    assert stage.asked == [["cluster.py", "down", "--purge", "--instance", "other"]]


def test_the_results_are_the_table_of_supernode_get(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], api_server: ApiServer
) -> None:
    stage = Stage(tmp_path)
    stage.kubeconfig.write_bytes(api_server.kubeconfig.read_bytes())
    try:
        apply(api_server, api_samples.super_node(demo.MACHINE))
        demo.play(stage.demo(), "up")
        said = capfd.readouterr().out
        command = [sys.executable, "-m", "supernode_cli.main", "get"]
        environment = {**os.environ, "KUBECONFIG": str(stage.kubeconfig)}
        table = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    finally:
        api_server.remove_objects()
    assert demo.MACHINE in table
    assert table in said
    assert said.index(table) < said.index("stays up. Look further")


def test_results_that_cannot_be_read_do_not_undo_what_is_up(shown: Shown) -> None:
    assert "no usable kubeconfig" in shown.err
    assert "stays up. Look further" in shown.out


def test_a_step_that_fails_says_so_and_names_the_command_and_what_it_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.play(Stage(tmp_path, "up").demo(), "up")
    message = str(ended.value.code)
    assert message.startswith(f"demo: `{sys.executable} {tmp_path}/cluster.py up ")
    assert message.endswith("failed with exit status 3\nno room left")
    said = capfd.readouterr()
    assert said.out.splitlines()[-1] == (
        "- starting Kubernetes (etcd, API server, scheduler, containerd, kubelet) ... failed"
    )
    assert said.err == "", "there is no cluster yet to look at"


def test_a_wait_that_ends_in_vain_shows_what_a_person_would_look_at_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, "--for=condition=Ready")
    with pytest.raises(SystemExit) as ended:
        demo.play(stage.demo(), "up")
    assert "timed out waiting for the condition" in str(ended.value.code)
    assert f"supernode/{demo.MACHINE}` failed" in str(ended.value.code)
    said = capfd.readouterr()
    assert said.out.splitlines()[-1].endswith("waiting for cm384 to be Ready ... failed")
    assert said.err.splitlines() == ["supernode/cm384 is not Ready: NoNodesMatch", "no pod runs"]
    assert [words[1:3] for words in stage.asked[-2:]] == [["get", "sn,snw"], ["get", "pods"]]


def test_a_tool_that_is_not_there_is_named(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    (tmp_path / "helm").unlink()
    one = stage.demo()
    one.environment["PATH"] = str(tmp_path)
    with pytest.raises(demo.CommandError, match=r"`helm upgrade .*` could not be started"):
        one.install()


@pytest.mark.parametrize("arguments", [[], ["sideways"], ["up", "--instance"], ["up", "--fast"]])
def test_arguments_that_make_no_sense_are_a_usage_and_exit_status_2(arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / "devcluster" / "demo.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: demo.py")
    assert "Traceback" not in done.stderr


def test_without_root_it_says_why_it_is_needed_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["demo.py", "up"])
    with pytest.raises(SystemExit, match=r"needs root.*make kind-up"):
        demo.main()
    assert list(tmp_path.iterdir()) == []
