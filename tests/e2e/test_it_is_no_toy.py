"""What distinguishes a machine from a demo: restarts, scattered dies, moved labels, exact completion."""

from __future__ import annotations

import json
import time

import pytest

from supernode_dataplane.progress import parse_time
from support.objects import image_of, pod, workload
from support.pace import NOISE
from support.product import AGENT_NAMESPACE, MACHINE, NAMESPACE, Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def operator_pods(product: Product) -> list[str]:
    pods = product.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")["items"]
    return [p["metadata"]["name"] for p in pods]


def running(product: Product, label: str) -> int:
    pods = product.get("pods", "-n", "default", "-l", label)["items"]
    return sum(1 for p in pods if p["status"]["phase"] == "Running")


def test_a_run_of_a_minute_completes_with_exactly_its_tokens_although_the_operator_was_restarted(
    product: Product,
) -> None:
    product.apply(workload("probe", 2))
    product.wait(lambda: product.rate("probe") > 0, "the probe to run", 180)
    tokens = int(product.rate("probe") * 60)
    product.kubectl("delete", "snw", "probe", "-n", "default")
    product.apply(workload("minute", 2, tokens=tokens))
    product.wait(lambda: product.rate("minute") > 0, "the run to start", 180)
    start = product.workload("minute")["status"]["progress"]
    time.sleep(15)
    product.kubectl("delete", "pod", "-n", NAMESPACE, *operator_pods(product), "--force", "--grace-period=0")
    product.wait(lambda: product.workload("minute")["status"].get("completionTime"), "completion", 120)
    status = product.workload("minute")["status"]
    assert status["progress"]["tokens"] == tokens
    assert product.condition(product.workload("minute"), "Complete")["status"] == "True"
    left = (tokens - start["tokens"]) / float(start["tokensPerSecond"])
    took = (parse_time(status["completionTime"]) - parse_time(start["at"])) / 1e6
    assert left - 1 <= took <= left + 30  # longer only if a rank was away for a while
    job = ["job", "minute", "-n", "default"]
    product.wait(
        lambda: any(c["type"] == "Complete" for c in product.get(*job)["status"]["conditions"]), "the Job to end", 60
    )


def test_dies_scattered_over_servers_get_a_lower_rate_and_the_status_says_why(product: Product) -> None:
    image = image_of(product)
    product.apply(*(pod(f"whole-{i}", 16, image, {"run": "whole"}) for i in range(4)))
    product.apply(workload("whole", 4, selector=True))
    product.wait(
        lambda: running(product, "run=whole") == 4 and product.rate("whole") > 0, "whole servers to train", 180
    )
    whole = product.rate("whole")
    product.kubectl("delete", "snw,pod", "--all", "-n", "default")
    product.wait(lambda: not product.holders(), "the dies to be free", 180)
    faults = {"spec": {"faults": [{"name": f"d{i}", "die": i} for i in range(12)]}}
    for index in range(48):
        product.kubectl("patch", "cn", f"{MACHINE}-{index:02d}", "--type=merge", "-p", json.dumps(faults))
    product.wait(lambda: product.allocatable()[0] == 48 * 4, "12 dies of each server to leave", 20)
    product.apply(*(pod(f"scattered-{i}", 16, image, {"run": "scattered"}) for i in range(4)))
    product.apply(workload("scattered", 4, selector=True))
    product.wait(lambda: product.rate("scattered") > 0, "scattered dies to train", 180)
    assert product.rate("scattered") < whole
    spans = product.condition(product.workload("scattered"), "SpansServers")
    assert spans["status"] == "True"
    assert "server" in spans["message"]


def test_a_kubelet_restart_disturbs_no_pod_and_loses_no_allocation(product: Product) -> None:
    product.apply(workload("steady", 8))
    product.wait(lambda: product.rate("steady") > 0, "the run to start", 180)
    before = product.holders()
    uids = {p["metadata"]["uid"] for p in product.get("pods", "-n", "default")["items"]}
    product.cluster("restart", "kubelet")
    product.wait_machine_ready(60)
    product.wait(lambda: product.rate("steady") > 0, "the run to go on", 180)
    assert product.holders() == before
    pods = product.get("pods", "-n", "default")["items"]
    assert {p["metadata"]["uid"] for p in pods} == uids
    assert all(c["restartCount"] == 0 for p in pods for c in p["status"]["containerStatuses"])


def test_an_agent_restart_disturbs_no_pod_and_loses_no_allocation(product: Product) -> None:
    product.apply(workload("steady", 8))
    product.wait(lambda: product.rate("steady") > 0, "the run to start", 180)
    before = product.holders()
    uids = {p["metadata"]["uid"] for p in product.get("pods", "-n", "default")["items"]}
    product.kubectl("delete", "pod", "--all", "-n", AGENT_NAMESPACE)
    product.wait(lambda: product.allocatable() == (768, 5376), "all devices to be back", 180)
    product.wait(lambda: product.rate("steady") > 0, "the run to go on", 30)
    assert product.holders() == before
    assert {p["metadata"]["uid"] for p in product.get("pods", "-n", "default")["items"]} == uids


def test_a_kubelet_that_is_not_ready_stops_the_run_within_two_seconds(product: Product) -> None:
    product.apply(workload("steady", 2))
    product.wait(lambda: product.rate("steady") > 0, "the run to start", 180)
    product.cluster("stop", "kubelet")
    try:
        node = product.node()

        def not_ready() -> bool:
            conditions = product.get("node", node)["status"]["conditions"]
            return any(c["type"] == "Ready" and c["status"] != "True" for c in conditions)

        product.wait(not_ready, "the API server to say NotReady", 120)
        product.wait(lambda: product.rate("steady") == 0, "the rate to be 0", 60)
        said = product.condition(product.get("node", node), "Ready")["lastTransitionTime"]
        stopped = product.workload("steady")["status"]["progress"]["at"]
        took = (parse_time(stopped) - parse_time(said)) / 1e6
        assert took < (2 + 1) * NOISE  # the API server's moment is of whole seconds, rounded down
    finally:
        product.cluster("start", "kubelet")
    product.wait(lambda: product.rate("steady") > 0, "the run to go on", 120)


def test_moving_the_label_while_pods_hold_dies_holds_nothing_twice_and_says_what_it_waits_for(
    product: Product,
) -> None:
    product.apply(pod("holder", 16, image_of(product), {"run": "holder"}))
    product.wait(lambda: running(product, "run=holder") and len(product.holders()) == 16, "the pod to hold dies", 180)
    product.kubectl("label", "node", product.node(), "supernode.io/pool-")
    product.wait(lambda: product.allocatable() == (0, 0), "the devices to leave allocatable", 30)

    def says() -> bool:
        condition = product.condition(product.machine(), "Progressing")
        return condition["reason"] == "WaitingForRelease" and "default/holder" in condition["message"]

    product.wait(says, "the status to name what it waits for", 30)
    assert product.get("pod", "holder", "-n", "default")["status"]["phase"] == "Running"
    assert len(product.holders()) == 16
    product.kubectl("label", "node", product.node(), f"supernode.io/pool={MACHINE}")
    product.kubectl("delete", "pod", "holder", "-n", "default")
    product.wait_machine_ready(240)


def test_two_workloads_share_one_machine(product: Product) -> None:
    product.apply(workload("one", 4), workload("two", 4))
    product.wait(lambda: product.rate("one") > 0 and product.rate("two") > 0, "both to run", 180)
    placements = [product.workload(name)["status"]["placement"] for name in ("one", "two")]
    servers = [{part["server"] for rank in p["ranks"] for part in rank["parts"]} for p in placements]
    assert not servers[0] & servers[1]

    def shows_both() -> bool:
        status = product.machine()["status"]
        both = product.rate("one") + product.rate("two")
        total = float(status["performance"]["tokensPerSecond"])
        return total == pytest.approx(both, rel=2e-3) and status["allocated"]["dies"] == 128

    product.wait(shows_both, "the machine to show both", 30)


def test_at_rest_nothing_of_ours_writes_but_leases(product: Product) -> None:
    product.apply(workload("steady", 4))
    product.wait(lambda: product.rate("steady") > 0, "the run to start", 180)
    time.sleep(5)
    before = len(product.writes())
    time.sleep(30)
    assert product.writes()[before:] == []
