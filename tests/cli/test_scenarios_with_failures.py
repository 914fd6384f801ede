"""What a scenario can say has failed: every kind reaches the machine, and what cannot be is one error."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_cli.comparison import compare
from supernode_cli.evaluation import ScenarioError, evaluate
from supernode_cli.main import cli
from support.deployments import R1_DECODE

SCENARIO: dict[str, Any] = {"machine": {"nodes": 20}, **R1_DECODE}


def failing(nodes: int | None = 20, **failed: Any) -> dict[str, Any]:
    machine = {"failed": failed} if nodes is None else {"nodes": nodes, "failed": failed}
    return {**deepcopy(SCENARIO), "machine": machine}


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def written(folder: Path, document: dict[str, Any]) -> str:
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


KINDS: list[tuple[dict[str, Any], int, int, int]] = [
    ({"servers": [30]}, 752, 5376, 5376),
    ({"planes": [6]}, 768, 5376 - 768, 5376 - 768),
    ({"dies": [{"server": 40, "die": 5}]}, 767, 5376, 5376),
    ({"diePorts": [{"server": 0, "die": 6, "plane": 2}]}, 768, 5375, 5376),
    ({"uplinks": [{"server": 1, "plane": 2, "port": 9}]}, 768, 5376, 5375),
    ({"l1": [{"server": 1, "plane": 4}]}, 768, 5376 - 16, 5376 - 16),
    ({"l2": [{"plane": 0, "chip": 11}]}, 768, 5376, 5376 - 48),
    ({"optics": [{"server": 1, "plane": 0, "module": 3}]}, 768, 5376, 5374),
    ({"optics": [{"chip": 11, "plane": 0, "module": 3}]}, 768, 5376, 5374),
]


@pytest.mark.parametrize(("failed", "dies", "ports", "uplinks"), KINDS)
def test_every_kind_of_failure_reaches_the_state_of_the_machine(failed, dies, ports, uplinks):
    state = evaluate(failing(**failed)).state
    assert int(state.devices.healthy.sum()) == dies
    assert int(state.devices.port_up.sum()) == ports
    assert int(state.fabric.uplink_up.sum()) == uplinks


@pytest.mark.parametrize(
    "failed", [kind for kind, dies, *_ in KINDS if dies == 768], ids=lambda failed: json.dumps(failed)[:40]
)
def test_what_a_workload_uses_and_loses_makes_it_slower(failed):
    rate = evaluate(SCENARIO).result.tokens_per_second
    assert evaluate(failing(**failed)).result.tokens_per_second < rate


def test_a_failure_elsewhere_changes_nothing_and_the_answer_says_so(tmp_path: Path) -> None:
    found = evaluate(failing(dies=[{"server": 47, "die": 3}], uplinks=[{"server": 20, "plane": 0, "port": 1}]))
    assert found.result.tokens_per_second == evaluate(SCENARIO).result.tokens_per_second
    _, out, _ = invoke("simulate", "-f", written(tmp_path, failing(dies=[{"server": 47, "die": 3}])), "-o", "json")
    (workload,) = json.loads(out)["workloads"]
    assert any("on server 47 do not touch it: it is on servers 0 to 19" in note for note in workload["notes"])
    inside = evaluate(
        failing(uplinks=[{"server": 19, "plane": 0, "port": 1}], planes=[3], l2=[{"plane": 0, "chip": 0}])
    )
    assert not any("do not touch" in note for note in inside.notes)


def test_simulate_says_what_is_left_of_each_tier_and_plane(tmp_path: Path) -> None:
    module = {"server": 1, "plane": 2, "module": 3}
    path = written(tmp_path, failing(optics=[module], diePorts=[{"server": 0, "die": 0, "plane": 5}]))
    _, out, _ = invoke("simulate", "-f", path, "-o", "json")
    counts = json.loads(out)["machine"]["counts"]
    assert counts["uplinks up"] == "5374 of 5376"
    assert counts["bus links up"] == "5375 of 5376"
    assert counts["optical modules of the bus with light"] == "5375 of 5376"
    assert counts["bus between servers"].endswith("plane 2 has 99.7%")
    assert counts["bus inside servers"].endswith("plane 5 has 99.9%")
    _, healthy, _ = invoke("simulate", "-f", written(tmp_path, SCENARIO), "-o", "json")
    assert set(json.loads(healthy)["machine"]["counts"]) == {"servers in use", "dies in use"}


def test_compare_has_the_failures_on_the_scenarios_own_machine_only() -> None:
    def rates(document: dict[str, Any]) -> list[float]:
        rows = compare(document, ["cloudmatrix-384", "h800-cluster"])
        return [row.point.tokens_per_second for row in rows if row.point is not None]

    whole, less = rates(SCENARIO), rates(failing(planes=[0, 1, 2]))
    assert less[0] < whole[0]
    assert less[1] == whole[1]


IMPOSSIBLE: list[tuple[dict[str, Any], str, str]] = [
    ({"servers": [48]}, "machine.failed.servers.0", "48 servers; give 0 to 47"),
    ({"servers": [0, 50]}, "machine.failed.servers.1", "50 is not there"),
    ({"planes": [7]}, "machine.failed.planes.0", "7 planes; give 0 to 6"),
    ({"dies": [{"server": 48, "die": 0}]}, "machine.failed.dies.0.server", "48 servers"),
    ({"dies": [{"server": 0, "die": 16}]}, "machine.failed.dies.0.die", "16 dies"),
    ({"diePorts": [{"server": 0, "die": 0, "plane": 7}]}, "machine.failed.diePorts.0.plane", "7 planes"),
    ({"uplinks": [{"server": 0, "plane": 0, "port": 16}]}, "machine.failed.uplinks.0.port", "give 0 to 15"),
    ({"uplinks": [{"server": 99, "plane": 0, "port": 1}]}, "machine.failed.uplinks.0.server", "48 servers"),
    ({"l1": [{"server": 0, "plane": 9}]}, "machine.failed.l1.0.plane", "7 planes"),
    ({"l2": [{"plane": 0, "chip": 16}]}, "machine.failed.l2.0.chip", "16 L2 chips"),
    ({"optics": [{"server": 0, "plane": 0, "module": 8}]}, "machine.failed.optics.0.module", "8 modules at an L1"),
    (
        {"optics": [{"server": 0, "plane": 0, "module": 0}, {"chip": 0, "plane": 0, "module": 24}]},
        "machine.failed.optics.1.module",
        "24 modules at an L2",
    ),
    ({"optics": [{"plane": 0, "module": 0}]}, "machine.failed.optics.0", "give server"),
    ({"optics": [{"server": 0, "chip": 0, "plane": 0, "module": 0}]}, "machine.failed.optics.0", "or chip"),
    ({"dies": [{"server": -1, "die": 0}]}, "machine.failed.dies.0.server", "a whole number from 0"),
    ({"dies": [{"server": 0}]}, "machine.failed.dies.0.die", "is missing: give"),
    ({"diePort": []}, "machine.failed.diePort", "diePorts"),
    ({"dies": list(range(3))}, "machine.failed.dies.0", "a mapping of die, server"),
]


@pytest.mark.parametrize(("failed", "field", "words"), IMPOSSIBLE)
def test_an_impossible_failure_is_one_error_with_the_field_and_the_remedy(tmp_path: Path, failed, field, words):
    status, out, err = invoke("simulate", "-f", written(tmp_path, failing(**failed)))
    assert (status, out) == (2, "")
    assert field in err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_machines_without_switches_say_what_can_fail_in_them() -> None:
    document = {
        **deepcopy(SCENARIO),
        "machine": {"profile": "atlas-a2-cluster", "failed": {"l2": [{"plane": 0, "chip": 0}]}},
    }
    with pytest.raises(ScenarioError, match="meshed; name dies, diePorts or servers") as caught:
        evaluate(document)
    assert caught.value.field == "machine.failed.l2"


def test_cpus_that_load_the_bus_are_a_figure_of_the_machine() -> None:
    def of(gigabytes: float) -> Any:
        return evaluate({**SCENARIO, "machine": {"nodes": 20, "figures": {"cpuGigabytesPerSecond": gigabytes}}})

    rate = evaluate(SCENARIO).result.tokens_per_second
    assert of(0).result.tokens_per_second == rate
    assert of(640).result.tokens_per_second < of(300).result.tokens_per_second < rate
    with pytest.raises(ScenarioError, match="4 CPUs of a server send 160 GB/s each: give at most 640") as caught:
        of(700)
    assert caught.value.field == "machine.figures.cpuGigabytesPerSecond"


def test_a_plan_is_of_what_failures_leave() -> None:
    def best(*arguments: str) -> dict[str, Any]:
        status, out, err = invoke(
            "plan",
            "training",
            "--model",
            "llama-2-7b",
            "--global-batch-size",
            "768",
            "--top",
            "1",
            "-o",
            "json",
            *arguments,
        )
        assert status == 0, err
        (layout,) = json.loads(out)["layouts"]
        return dict(layout)

    whole, less = best("--cards", "16"), best("--cards", "16", "--failed", "{planes: [0, 1, 2, 3]}")
    assert less["tokensPerSecondPerCard"] < whole["tokensPerSecondPerCard"]
    assert best("--failed", "{servers: [3], dies: [{server: 9, die: 2}]}")["cards"] == 46 * 8


def test_a_plan_with_failures_becomes_a_scenario_with_them() -> None:
    arguments = ("plan", "training", "--model", "llama-2-7b", "--cards", "16", "-o", "scenario", "--failed")
    status, out, _ = invoke(*arguments, "{l2: [{plane: 0, chip: 3}]}")
    assert status == 0
    document = yaml.safe_load(out)
    assert document["machine"]["failed"] == {"l2": [{"plane": 0, "chip": 3}]}
    assert evaluate(document).state.fabric.l2_up.sum() == 111
    status, out, err = invoke(*arguments, "{servers: [0]}")
    assert (status, out) == (2, "")
    assert "without servers and dies" in err


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ("{planes: [7]}", "planes.0: 7 is not there"),
        ("{plane: [1]}", "unknown field plane: did you mean planes? Known here are diePorts"),
        ("[1]", "must be a mapping of diePorts"),
        ("{", "is not YAML"),
        ("{planes: [0, 1, 2, 3, 4, 5, 6]}", "no working plane in common: name fewer"),
        (json.dumps({"servers": list(range(48))}), "no server is left"),
    ],
)
def test_a_plan_refuses_failures_that_cannot_be(failed, words):
    status, out, err = invoke("plan", "decode", "--model", "deepseek-r1", "--failed", failed)
    assert (status, out) == (2, "")
    assert f"--failed {words}" in err or (words in err and "--failed" in err)


def test_more_cards_than_failures_leave_are_refused() -> None:
    status, _, err = invoke("plan", "decode", "--model", "deepseek-r1", "--cards", "384", "--failed", "{servers: [1]}")
    assert status == 2
    assert "--cards 384 is more than the 376" in err


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["server", "die", "plane", "port", "chip", "module"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["servers", "planes", "dies", "diePorts", "uplinks", "l1", "l2", "optics"]),
        st.lists(ANYTHING, max_size=3) | ANYTHING,
        max_size=3,
    )
)
def test_whatever_is_said_to_have_failed_is_answered_or_refused_with_a_field(failed):
    refused = ""
    try:
        rate = evaluate(failing(**failed)).result.tokens_per_second
    except ScenarioError as error:
        rate, refused = 0.0, f"{error.field} {error}"
    assert rate > 0 or "machine.failed" in refused


def test_a_machine_of_one_server_says_so_in_its_number() -> None:
    document = {**deepcopy(SCENARIO), "machine": {"profile": "gb200-nvl72", "failed": {"servers": [1]}}}
    with pytest.raises(ScenarioError, match=r"has 1 server; give 0$"):
        evaluate(document)
