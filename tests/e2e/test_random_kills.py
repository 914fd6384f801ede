"""After 50 random kills of agent, operator, cabinets and kubelet during churn no die is held twice and none is lost."""

from __future__ import annotations

import random
import time

import pytest

from support.objects import image_of, pod
from support.processes import kill_containers
from support.product import AGENT_NAMESPACE, NAMESPACE, Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
KILLS = ["agent"] * 10 + ["operator"] * 10 + ["cabinet"] * 15 + ["kubelet"] * 15


LABELS = {
    "agent": (AGENT_NAMESPACE, "app.kubernetes.io/component=agent"),
    "operator": (NAMESPACE, "app.kubernetes.io/component=operator"),
    "cabinet": (NAMESPACE, "supernode.io/cabinet-role"),
}


def kill(product: Product, what: str, chance: random.Random) -> None:
    """Kill one of them with SIGKILL, as soon as one runs.

    The kubelet would let a container that dies often wait for minutes, so the dead one's pod is replaced.
    """
    if what == "kubelet":
        product.cluster("kill", "kubelet")
        return
    namespace, label = LABELS[what]

    def found() -> bool:
        pods = product.get("pods", "-n", namespace, "-l", label)["items"]
        one = chance.choice(pods)["metadata"] if pods else {}
        if not one or not kill_containers(one["uid"]):
            return False  # the last kill is not repaired yet
        product.kubectl("delete", "pod", one["name"], "-n", namespace, "--force", "--grace-period=0", "--wait=false")
        return True

    product.wait(found, f"{what} to run", 120)


def lost(product: Product) -> list[str]:
    """Return the running pods that do not hold as many dies as they asked for."""
    held: dict[str, int] = {}
    for pod_name, _ in product.holders().values():
        name = pod_name.rpartition("/")[2]
        held[name] = held.get(name, 0) + 1
    found = []
    for item in product.get("pods", "-n", "default")["items"]:
        name = item["metadata"]["name"]
        asked = int(item["spec"]["containers"][0]["resources"]["limits"]["huawei.com/Ascend910"])
        if item["status"]["phase"] == "Running" and held.get(name, 0) != asked:
            found.append(f"{name}: {held.get(name, 0)} of {asked}")
    return found


def test_no_die_is_held_twice_or_lost_after_fifty_random_kills(product: Product) -> None:
    chance = random.Random(384)
    image = image_of(product)
    alive: list[str] = []
    for number, what in enumerate(chance.sample(KILLS, 50)):
        name = f"churn-{number}"
        product.apply(pod(name, chance.choice([1, 2, 4, 8, 16]), image))
        alive.append(name)
        if len(alive) > 12:
            gone = alive.pop(chance.randrange(len(alive)))
            product.kubectl("delete", "pod", gone, "-n", "default", "--wait=false")
        kill(product, what, chance)
        product.holders()  # an AssertionError when a die is held twice
        time.sleep(chance.uniform(0, 0.6))
    product.wait_machine_ready(240)
    product.wait(lambda: lost(product) == [], "every running pod to hold what it asked for", 120)
    product.holders()
    product.kubectl("delete", "pod", "--all", "-n", "default", "--timeout=120s")
    product.wait(lambda: not product.holders(), "no die to be held", 180)
    product.apply(*(pod(f"all-{i}", 16, image) for i in range(48)))

    def full() -> bool:
        return len(product.holders()) == 768

    product.wait(full, "every die to be held once", 120)
