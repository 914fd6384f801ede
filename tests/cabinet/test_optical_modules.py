"""Optical modules at L2 chips, as bus cabinets show them: place, state, and what their links carry."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cabinet.collector import messages, points
from cabinet.machines import NAME, PROFILE, nodes, snapshot
from supernode_cabinet.otlp_layout import Layout
from supernode_cabinet.prometheus import render_metrics
from supernode_cabinet.snapshot import Snapshot, select
from supernode_dataplane.inputs import load_profile
from supernode_dataplane.optics import optics_of

SECOND = 1_000_000_000
Place = tuple[int, int, int]
"""Plane, chip, module (or port)."""


def exported(seen: Snapshot, name: str, by: str, after_seconds: int = 0) -> dict[str, dict[Place, float]]:
    """Values of all optical modules by an attribute and their place."""
    found: dict[str, dict[Place, float]] = defaultdict(dict)
    for raw in Layout({}, seen, 1, 0).requests(2, after_seconds * SECOND):
        assert len(raw) < 4 << 20
        for point, value in points(messages.ExportMetricsServiceRequest.FromString(raw), name):
            if "supernode.module" in point:
                place = tuple(point[f"supernode.{key}"] for key in ("plane", "chip", "module"))
                assert point["hw.id"] == f"{NAME}/l2-{place[0]}-{place[1]:02d}/m{place[2]:02d}"
                assert point["hw.parent"] == f"{NAME}/l2-{place[0]}-{place[1]:02d}"
                assert place not in found[point[by]]
                found[point[by]][place] = value
    return found


def statuses(seen: Snapshot) -> dict[str, dict[Place, float]]:
    return exported(seen, "hw.status", "hw.state")


def scraped(seen: Snapshot, stem: str) -> dict[str, dict[Place, float]]:
    """Samples by name and place (plane, chip, and port or module)."""
    text = "".join(line for line in render_metrics(seen).splitlines(keepends=True) if stem in line)
    series: dict[str, dict[Place, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            last = sample.labels.get("module", sample.labels.get("port", "0"))
            place = int(sample.labels["plane"]), int(sample.labels["chip"]), int(last)
            series[sample.name][place] = sample.value
    return series


def broken(*uplinks: tuple[int, int, int]) -> list[dict[str, Any]]:
    """ComputeNodes with broken uplinks: server, plane, port."""
    faults: dict[int, list[Any]] = defaultdict(list)
    for server, plane, port in uplinks:
        faults[server].append({"name": f"u{plane}-{port}", "uplink": {"plane": plane, "port": port}})
    return nodes(dict(faults))


def test_four_bus_cabinets_show_every_module_at_an_l2_chip_once() -> None:
    states = [scraped(snapshot("bus", n), "module_healthy")["supernode_optical_module_healthy"] for n in range(4)]
    assert [len(state) for state in states] == [672] * 4
    places = set().union(*states)
    assert len(places) == 2688 == optics_of(PROFILE).at_l2.size // 2
    assert {place[2] for place in places} == set(range(24))
    assert not statuses(snapshot("compute"))


def test_every_module_is_that_of_the_data_plane_with_its_uplinks() -> None:
    seen = snapshot("all", per_pod=16)
    chosen, optics = seen.selection, optics_of(PROFILE)
    assert np.array_equal(np.sort(chosen.modules.ravel()), np.arange(2688, 5376))
    assert np.array_equal(optics.scale_up[chosen.modules.ravel()], chosen.module_uplinks.reshape(-1, 2))
    ports = chosen.l2_port_uplinks.reshape(len(chosen.l2_chips), -1, 2)
    assert np.array_equal(chosen.module_uplinks, ports), "module m has the ports 2 m and 2 m + 1"


def test_a_module_is_ok_with_all_links_degraded_with_some_and_failed_with_none() -> None:
    # Chip 4 of plane 1 has uplink 4 of every L1 chip of the plane; servers 0 and 1 share its module 0.
    for uplinks, state in (((), "ok"), (((1, 1, 4),), "degraded"), (((0, 1, 4), (1, 1, 4)), "failed")):
        seen = snapshot("bus", 1, compute_nodes=broken(*uplinks))
        found = statuses(seen)
        for other in ("ok", "degraded", "failed"):
            assert found[other].pop((1, 4, 0)) == (other == state), (uplinks, other)
            assert set(found[other].values()) == {float(other == "ok")}
        page = scraped(seen, "optical_module_healthy") | scraped(seen, "optical_module_degraded")
        assert page["supernode_optical_module_healthy"][(1, 4, 0)] == (state == "ok")
        assert page["supernode_optical_module_degraded"][(1, 4, 0)] == (state == "degraded")


def test_a_module_carries_what_its_two_ports_do_either_way() -> None:
    seen = snapshot("bus", 2, compute_nodes=broken((6, 3, 9), (10, 0, 8)))
    page, modules = scraped(seen, "supernode_l2_"), scraped(seen, "optical_module")
    for way in ("transmit", "receive"):
        ports = page[f"supernode_l2_port_{way}_bytes_per_second"]
        found = modules[f"supernode_optical_module_{way}_bytes_per_second"]
        assert len(found) == 672
        for (plane, chip, module), rate in found.items():
            both = [ports[(plane, chip, 2 * module + end)] for end in (0, 1)]
            assert rate == pytest.approx(sum(both), rel=1e-8)
        assert found[(3, 9, 3)] < found[(3, 9, 4)], "one link less, half as much"
        total = sum(rate for (plane, chip, _), rate in found.items() if (plane, chip) == (0, 8))
        assert total == pytest.approx(page[f"supernode_l2_chip_{way}_bytes_per_second"][(0, 8, 0)], rel=1e-6)


def test_traffic_is_a_counter_and_a_share_of_the_links_bandwidth() -> None:
    seen = snapshot("bus", 0)
    totals = exported(seen, "supernode.optical_module.io", "network.io.direction", 10)
    shares = exported(seen, "hw.network.bandwidth.utilization", "network.io.direction")
    for way in ("transmit", "receive"):
        total, share = totals[way], shares[way]
        rate = scraped(seen, "optical_module")[f"supernode_optical_module_{way}_bytes_per_second"]
        assert set(total) == set(share) == set(rate)
        for place, value in rate.items():
            assert total[place] == pytest.approx(10 * value, rel=1e-6)
            assert share[place] == pytest.approx(value / (2 * 28e9), rel=1e-6)
        assert not [place for place, value in share.items() if not 0 < value <= 1]


def test_what_leaves_modules_is_what_uplinks_receive() -> None:
    seen = snapshot("all", per_pod=16)
    rate = scraped(seen, "optical_module")["supernode_optical_module_transmit_bytes_per_second"]
    assert sum(rate.values()) == pytest.approx(seen.state.fabric.uplink_rx_bytes_per_second.sum(), rel=1e-6)


def test_a_machine_without_optics_shows_none() -> None:
    for name in ("atlas-a2-cluster", "h800-cluster", "gb200-nvl72"):
        profile = load_profile(name)
        shard = snapshot("all", per_pod=16).shard
        chosen = select(profile, shard)
        assert chosen.modules.size == chosen.module_uplinks.size == 0


def test_less_detail_leaves_modules_out() -> None:
    assert not statuses(snapshot("bus", detail="Node"))
    assert scraped(snapshot("bus", detail="Node"), "optical_module") == {}
