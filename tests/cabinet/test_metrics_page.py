"""The labelled metrics, read back with Prometheus' own parsers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cabinet.machines import NAME, compute_node, nodes, snapshot, workload
from supernode_cabinet.catalogue import ROWS
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.prometheus import render_metrics
from supernode_dataplane.figures import decimal, machine_performance, workload_performance

Series = dict[str, dict[tuple[tuple[str, str], ...], float]]


def only(text: str, *stems: str) -> str:
    """Leave some families of a page: the parser takes its time."""
    return "".join(line for line in text.splitlines(keepends=True) if any(stem in line for stem in stems))


def read(text: str, parse: Callable[[str], Iterable[Any]] = text_string_to_metric_families) -> Series:
    series: Series = defaultdict(dict)
    for family in parse(text):
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            assert key not in series[sample.name], f"{sample.name}{sample.labels} is there twice"
            series[sample.name][key] = sample.value
    return series


def test_every_series_of_a_compute_cabinet_is_there_once_with_its_labels() -> None:
    series = read(render_metrics(snapshot("compute", 2)))
    assert len(series["supernode_die_utilisation_ratio"]) == 64
    assert len(series["supernode_die_port_transmit_bytes_per_second"]) == 64 * 7
    assert len(series["supernode_uplink_up"]) == 4 * 7 * 16
    assert len(series["supernode_l1_chip_healthy"]) == 28
    place = {"supernode": NAME, "cabinet": "2", "server": "11", "die": "15", "plane": "6"}
    assert tuple(sorted(place.items())) in series["supernode_die_port_up"]
    assert "supernode_l2_chip_healthy" not in series
    assert "supernode_machine_power_watts" not in series, "totals come from the first cabinet alone"


def test_a_bus_cabinet_shows_its_chips_and_their_ports() -> None:
    series = read(render_metrics(snapshot("bus", 3)))
    assert len(series["supernode_l2_chip_healthy"]) == 28
    assert len(series["supernode_l2_port_receive_bytes_per_second"]) == 28 * 48
    assert {dict(key)["cabinet"] for key in series["supernode_l2_port_up"]} == {"15"}
    assert not any(name.startswith("supernode_die") for name in series)


def test_token_rates_of_all_dies_add_up_to_the_workloads_rate() -> None:
    jobs = [workload(24, name="a"), workload(24, name="b", first=24)]
    whole = snapshot("all", per_pod=16, workloads=jobs)
    pods = [snapshot("compute", i, workloads=jobs) for i in range(12)]
    rates = [
        v
        for pod in pods
        for v in read(only(render_metrics(pod), "die_tokens"))["supernode_die_tokens_per_second"].values()
    ]
    assert len(rates) == 768
    assert sum(rates) == pytest.approx(sum(w.tokens_per_second for w in whole.state.workloads), rel=1e-6)
    shown = read(render_metrics(pods[0]))
    assert sum(rates) == pytest.approx(sum(shown["supernode_workload_tokens_per_second"].values()), rel=1e-3)


def test_hbm_in_use_is_never_more_than_there_is() -> None:
    series = read(only(render_metrics(snapshot("all", per_pod=16)), "die_hbm"))
    used, total = series["supernode_die_hbm_used_bytes"], series["supernode_die_hbm_capacity_bytes"]
    assert used.keys() == total.keys()
    assert all(0 < used[key] <= total[key] for key in used)


def test_an_idle_machine_reads_idle() -> None:
    series = read(render_metrics(snapshot("compute", workloads=[])))
    series |= read(render_metrics(snapshot("bus", workloads=[])))
    for name in (
        "supernode_die_utilisation_ratio",
        "supernode_die_cube_utilisation_ratio",
        "supernode_die_hbm_bandwidth_utilisation_ratio",
        "supernode_die_tokens_per_second",
        "supernode_die_port_transmit_bytes_per_second",
        "supernode_uplink_receive_bytes_per_second",
        "supernode_l2_port_transmit_bytes_per_second",
        "supernode_machine_tokens_per_second",
    ):
        assert set(series[name].values()) == {0.0}, name
    assert max(series["supernode_die_power_watts"].values()) < 100
    busy = read(render_metrics(snapshot("compute")))
    assert max(series["supernode_die_temperature_celsius"].values()) < min(
        busy["supernode_die_temperature_celsius"].values()
    )


def test_held_dies_without_a_workload_show_their_holder_and_read_idle() -> None:
    series = read(render_metrics(snapshot("compute", workloads=[])))
    assert len(series["supernode_die_holder_info"]) == 64
    key = next(key for key in series["supernode_die_holder_info"] if dict(key)["die"] == "3")
    assert dict(key)["pod"] == "llama-0"
    assert set(series["supernode_die_utilisation_ratio"].values()) == {0.0}


def test_figures_are_those_that_status_shows() -> None:
    seen = snapshot("compute")
    series = read(render_metrics(seen))
    shown = workload_performance(seen.state.workloads[0])
    machine = machine_performance(seen.state)

    def value(name: str) -> str:
        (one,) = series[name].values()
        return decimal(one)

    assert value("supernode_workload_tokens_per_second") == shown["tokensPerSecond"]
    assert value("supernode_workload_tokens_per_second_per_card") == shown["tokensPerSecondPerCard"]
    assert value("supernode_workload_mfu_ratio") == shown["mfu"]
    assert value("supernode_workload_step_time_seconds") == shown["stepTimeSeconds"]
    assert value("supernode_machine_tokens_per_second") == machine["tokensPerSecond"]
    (watts,) = series["supernode_machine_power_watts"].values()
    assert decimal(watts / 1e3) == machine["powerKilowatts"]
    (hbm,) = series["supernode_workload_hbm_bytes_per_die"].values()
    assert decimal(hbm / 2**30) == shown["hbmGibibytesPerDie"]
    (stamp,) = series["supernode_model_info"]
    assert dict(stamp) | {"digest": seen.state.digest, "version": seen.state.version} == dict(stamp)


def test_faults_show_on_the_die_the_port_and_both_ends_of_an_uplink() -> None:
    faults = {
        0: [
            {"name": "a", "die": 3},
            {"name": "b", "diePort": {"die": 5, "plane": 2}},
            {"name": "c", "uplink": {"plane": 1, "port": 4}},
            {"name": "d", "l1": {"plane": 6}},
        ]
    }
    compute = read(render_metrics(snapshot("compute", compute_nodes=nodes(faults))))
    down = {key for key, value in compute["supernode_die_healthy"].items() if value == 0}
    assert [dict(key)["die"] for key in down] == ["3"]
    ports = [dict(key) for key, value in compute["supernode_die_port_up"].items() if value == 0]
    assert {(port["die"], port["plane"]) for port in ports} >= {("5", "2"), ("0", "6"), ("15", "6")}
    assert ("4", "2") not in {(port["die"], port["plane"]) for port in ports}
    bus = read(only(render_metrics(snapshot("bus", 1, compute_nodes=nodes(faults))), "l2_port_up"))
    dead = {key for key, value in bus["supernode_l2_port_up"].items() if value == 0}
    one = next(dict(key) for key in dead if dict(key)["plane"] == "1")
    assert (one["chip"], one["port"]) == ("4", "0")
    l1 = compute["supernode_l1_chip_healthy"]
    chips = {(dict(key)["server"], dict(key)["plane"]) for key, value in l1.items() if value == 0}
    assert chips == {("0", "6")}


@pytest.mark.parametrize(
    ("detail", "there", "not_there"),
    [
        ("SuperNode", "supernode_machine_power_watts", "supernode_server_die_power_watts"),
        ("Node", "supernode_server_die_power_watts", "supernode_die_power_watts"),
        ("Device", "supernode_die_power_watts", "nothing"),
    ],
)
def test_detail_leaves_out_what_is_finer(detail: str, there: str, not_there: str) -> None:
    series = read(render_metrics(snapshot("compute", detail=detail)))
    assert there in series
    assert not_there not in series
    assert "supernode_model_info" in series


def test_openmetrics_is_valid_with_units_and_an_end_mark() -> None:
    text = render_metrics(snapshot("compute"), openmetrics=True)
    text += HealthMetrics().render(openmetrics=True) + "# EOF\n"
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
    assert families["supernode_die_power_watts"].unit == "watts"
    assert families["supernode_die_port_transmit_bytes_per_second"].unit == "bytes_per_second"
    assert families["supernode_model"].type == "info"
    assert families["supernode_cabinet_updates"].type == "counter"


def test_both_text_forms_have_the_same_samples() -> None:
    seen = snapshot("compute")
    plain = read(render_metrics(seen))
    other = read(render_metrics(seen, openmetrics=True) + "# EOF\n", openmetrics.text_string_to_metric_families)
    assert plain == other


def test_names_follow_prometheus_conventions() -> None:
    for row in ROWS:
        name = row.prometheus
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), f"{name} is a gauge"
        assert name == name.lower()
        assert row.help.endswith("."), row.help


def test_a_garbled_allocation_is_left_out() -> None:
    bad = [{"namespace": "x", "pod": 'a"\n', "container": "c", "dies": "0"}, {"dies": "99-7"}, {"dies": 5}, "junk"]
    given = [compute_node(0, allocations=bad), compute_node(1, allocations="junk"), {"spec": {"serverIndex": "x"}}]
    series = read(render_metrics(snapshot("compute", compute_nodes=given)))
    ((key, value),) = series["supernode_die_holder_info"].items()
    assert (dict(key)["pod"], dict(key)["die"], value) == ('a"\n', "0", 1)
