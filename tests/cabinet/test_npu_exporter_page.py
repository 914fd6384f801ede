"""One compute server as npu-exporter shows it."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cabinet.machines import nodes, snapshot
from supernode_cabinet.npu_exporter import LABELS, pcie_bus_info, render_server, vdie_id
from supernode_cabinet.snapshot import Snapshot

NOW = 1_795_233_600_123
LINE = re.compile(r"^([a-z0-9_]+)(?:\{(.*)\})? (\S+) (\d+)$")


def page(seen: Snapshot, server: int = 0) -> str:
    return str(NOW).join(render_server(seen, server))


def values(text: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        for sample in family.samples:
            assert sample.timestamp == pytest.approx(NOW / 1000)
            found[sample.name][sample.labels.get("id", "")] = sample.value
    return found


def test_every_line_has_a_value_and_a_timestamp_and_chip_series_the_seven_labels_in_order() -> None:
    for line in page(snapshot()).splitlines():
        if line.startswith("#"):
            continue
        match = LINE.match(line)
        assert match, line
        if match[1].startswith("npu_chip_info_") and match[1] != "npu_chip_info_name":
            assert tuple(re.findall(r'(\w+)="', match[2])) == LABELS
    assert 'npu_chip_info_name{id="0",name="Ascend910-V1",vdie_id=' in page(snapshot())


def test_ids_are_0_to_15_for_every_server() -> None:
    for server in (0, 3):
        found = values(page(snapshot(), server))
        assert sorted(found["npu_chip_info_temperature"], key=int) == [str(i) for i in range(16)]
        assert found["machine_npu_nums"][""] == 16
        assert found["machine_card_nums"][""] == 8


def test_readings_are_the_machines_in_that_exporters_units() -> None:
    seen = snapshot()
    found, devices = values(page(seen, 1)), seen.state.devices
    die = 16 + 4
    assert found["npu_chip_info_utilization"]["4"] == pytest.approx(100 * devices.utilisation[die])
    assert found["npu_chip_info_hbm_total_memory"]["4"] == 65536
    assert found["npu_chip_info_hbm_used_memory"]["4"] == pytest.approx(devices.hbm_used_bytes[die] / 2**20)
    links = [found[f"npu_chip_info_hccs_bandwidth_info_tx_{x}"]["4"] for x in range(1, 8)]
    assert links[2] == pytest.approx(devices.port_tx_bytes_per_second[die, 2] / 1e9)
    assert found["npu_chip_info_hccs_bandwidth_info_total_tx"]["4"] == pytest.approx(sum(links))
    assert "npu_chip_info_hccs_bandwidth_info_tx_8" not in found


def test_power_is_the_packages_on_the_first_die_and_fails_on_the_second() -> None:
    seen = snapshot()
    power = values(page(seen))["npu_chip_info_power"]
    assert power["0"] == pytest.approx(seen.state.devices.power_watts[:2].sum())
    assert {power[str(die)] for die in range(1, 16, 2)} == {-1.0}
    idle = values(page(snapshot(workloads=[])))["npu_chip_info_power"]
    assert 163 <= idle["0"] <= 189, "what npu-smi shows on idle packages"


def test_an_idle_die_reads_idle_and_has_empty_holder_labels() -> None:
    text = page(snapshot(workloads=[], compute_nodes=nodes(held=False)))
    found = values(text)
    assert set(found["npu_chip_info_utilization"].values()) == {0.0}
    assert 'namespace="",pod_name="",container_name=""}' in text
    assert "container_npu_utilization" not in found


def test_a_held_die_names_its_holder() -> None:
    text = page(snapshot(), 2)
    assert 'namespace="default",pod_name="llama-2",container_name="main"}' in text
    assert len(values(text)["container_npu_used_memory"]) == 16


def test_a_broken_die_is_unhealthy_and_shows_its_error_codes() -> None:
    faults = [{"name": f"f{n}", "die": 3, "code": code} for n, code in enumerate(["80E18402", "81078603", "[0x1,na]"])]
    found = values(page(snapshot(compute_nodes=nodes({0: faults}))))
    assert found["npu_chip_info_health_status"]["3"] == 0
    assert found["npu_chip_info_error_code"] == {"3": float(0x80E18402)}
    assert found["npu_chip_info_error_code_1"] == {"3": float(0x81078603)}
    assert "npu_chip_info_error_code_2" not in found
    assert found["machine_unhealthy_npu_nums"][""] == 1
    assert found["machine_healthy_npu_nums"][""] == 15


def test_identities_are_stable_and_distinct() -> None:
    ids = {vdie_id("cm384", server, die) for server in range(48) for die in range(16)}
    assert len(ids) == 768
    assert all(re.fullmatch(r"([0-9A-F]{8}-){4}[0-9A-F]{8}", one) for one in ids)
    buses = [pcie_bus_info(die, 2) for die in range(16)]
    assert buses[:4] == ["0000:9D:00.0", "0000:9F:00.0", "0000:99:00.0", "0000:9B:00.0"]
    assert buses[12:] == ["0000:85:00.0", "0000:87:00.0", "0000:81:00.0", "0000:83:00.0"]
