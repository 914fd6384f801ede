"""Instances never share a port, an address or a name in the kernel."""

from __future__ import annotations

import ipaddress
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import render
from daemons import COMPONENTS, Options, Plan, build_plan, server_url
from errors import DevclusterError
from instance import SLOTS, Instance, claim, find, preferred_slot, release

ALL = [Instance(f"i{slot}", slot, Path("/s")) for slot in range(SLOTS)]
PORTS = ("api", "etcd", "etcd-peer", "controller-manager", "scheduler")


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty folder whose name is short enough for unix sockets, which a test's own is not in every process."""
    with tempfile.TemporaryDirectory(prefix="instances-") as folder:
        yield Path(folder)


def free(_: Instance) -> bool:
    return True


def test_the_demo_has_the_first_slot_and_a_name_always_prefers_the_same() -> None:
    assert preferred_slot("demo") == 0
    assert preferred_slot("test") == preferred_slot("test") != 0


def test_a_name_keeps_its_slot_until_it_is_released(root: Path) -> None:
    first = claim("demo", root, free)
    assert claim("demo", root, free) == first == find("demo", root)
    release(first)
    assert find("demo", root) is None


def test_names_that_prefer_one_slot_get_different_ones(root: Path) -> None:
    names = [f"n{number}" for number in range(SLOTS)]
    assert sorted(claim(name, root, free).slot for name in names) == list(range(SLOTS))


def test_a_slot_whose_ports_are_taken_by_others_is_passed_over(root: Path) -> None:
    assert claim("demo", root, lambda instance: instance.slot > 2).slot == 3


def test_a_seventeenth_instance_is_refused_with_the_names_of_the_others(root: Path) -> None:
    for number in range(SLOTS):
        claim(f"n{number}", root, free)
    with pytest.raises(DevclusterError, match=r"n15.*--purge"):
        claim("more", root, free)


@pytest.mark.parametrize("name", ["", "Demo", "a_b", "-a", "a-", "a" * 21, "../x", "slots", "shared"])
def test_a_name_that_cannot_be_a_folder_or_a_cgroup_is_refused(name: str, root: Path) -> None:
    with pytest.raises(DevclusterError, match="instance name"):
        claim(name, root, free)


def test_a_state_folder_too_long_for_unix_sockets_is_refused_before_anything_starts(root: Path) -> None:
    with pytest.raises(DevclusterError, match="SUPERNODE_DEVCLUSTER_STATE"):
        claim("demo", root / ("x" * 60), free)


def test_no_two_instances_share_a_port_or_a_name() -> None:
    ports = [instance.port(what) for instance in ALL for what in PORTS]
    assert len(set(ports)) == len(ports)
    assert max(ports) < 32768  # where the kernel's own choice begins
    for attribute in ("bridge", "link", "nft_table", "cgroup_root", "state"):
        assert len({getattr(instance, attribute) for instance in ALL}) == SLOTS


def test_no_two_subnets_overlap() -> None:
    subnets = [ipaddress.IPv4Network(net) for item in ALL for net in (item.pod_subnet, item.service_subnet)]
    assert not any(a.overlaps(b) for index, a in enumerate(subnets) for b in subnets[index + 1 :])


def test_names_of_interfaces_fit_the_kernel() -> None:
    assert all(len(name) <= 15 for instance in ALL for name in (instance.bridge, instance.link))


def test_node_and_machine_have_addresses_in_the_pods_subnet_outside_of_the_pods_range() -> None:
    for instance in ALL:
        subnet = ipaddress.IPv4Network(instance.pod_subnet)
        first = json.loads(render(instance, [], "")["cni/10-bridge.conflist"])["plugins"][0]["ipam"]["ranges"][0][0]
        for address in (instance.node_address, instance.host_address):
            assert ipaddress.IPv4Address(address) in subnet
            assert ipaddress.IPv4Address(address) < ipaddress.IPv4Address(first["rangeStart"])
        assert ipaddress.IPv4Address(instance.api_service_address) in ipaddress.IPv4Network(instance.service_subnet)


def test_a_plan_survives_being_written_and_read() -> None:
    plan = build_plan(ALL[3], Options(node_labels=("a=b",)), "/bin")
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_whole_cluster_runs_every_component_and_an_api_server_alone_only_two() -> None:
    def names(options: Options) -> list[str]:
        return [daemon.name for daemon in build_plan(ALL[0], options, "").daemons]

    assert sorted(names(Options())) == sorted(COMPONENTS)
    assert names(Options(api_only=True)) == ["etcd", "kube-apiserver"]
    assert names(Options(api_only=True, with_controllers=True)) == [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ]


def test_an_api_server_alone_has_no_mounts_and_no_network_and_listens_on_loopback() -> None:
    plan = build_plan(ALL[5], Options(api_only=True), "")
    assert not plan.binds
    assert not plan.network
    assert plan.server == server_url(ALL[5], api_only=True) == f"https://127.0.0.1:{ALL[5].port('api')}"
    assert "--bind-address=127.0.0.1" in plan.daemons[1].argv


def test_labels_reach_the_kubelet() -> None:
    plan = build_plan(ALL[0], Options(node_labels=("a=b", "c=d")), "")
    assert "--node-labels=a=b,c=d" in next(item.argv for item in plan.daemons if item.name == "kubelet")


def test_the_kubelet_publishes_device_changes_every_second_in_its_own_cgroups() -> None:
    kubelet = json.loads(render(ALL[2], [], "")["kubelet.json"])
    assert kubelet["nodeStatusUpdateFrequency"] == "1s"
    assert kubelet["nodeStatusReportFrequency"] == "5m"
    assert kubelet["maxPods"] == 250
    assert kubelet["cgroupRoot"] == ALL[2].cgroup_root


def test_the_audit_log_holds_writes_and_nothing_else() -> None:
    rules = json.loads(render(ALL[0], [], "")["audit-policy.json"])["rules"]
    assert rules[0]["level"] == "Metadata"
    assert not {"get", "list", "watch"} & set(rules[0]["verbs"])
    assert rules[-1] == {"level": "None"}


def test_names_are_forwarded_only_where_the_machine_has_a_name_server() -> None:
    assert "forward" not in render(ALL[0], [], "search x\n")["Corefile"]
    assert "forward" in render(ALL[0], [], "nameserver 192.0.2.1\n")["Corefile"]
