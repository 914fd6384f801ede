"""After 50 random kills of agent, operator, cabinets and kubelet during churn no die is held twice and none is lost."""

from __future__ import annotations

import random
import time

import pytest

from support.objects import image_of, pod
from support.product import AGENT_NAMESPACE, NAMESPACE, Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
KILLS = 50


def kill(product: Product, chance: random.Random) -> None:
    what = chance.choice(["agent", "operator", "cabinet", "kubelet"])
    if what == "kubelet":
        product.cluster("kill", "kubelet")
        return
    namespace, label = {
        "agent": (AGENT_NAMESPACE, "app.kubernetes.io/component=agent"),
        "operator": (NAMESPACE, "app.kubernetes.io/component=operator"),
        "cabinet": (NAMESPACE, "supernode.io/cabinet-role"),
    }[what]
    pods = [p["metadata"]["name"] for p in product.get("pods", "-n", namespace, "-l", label)["items"]]
    if pods:
        product.kubectl(
            "delete", "pod", chance.choice(pods), "-n", namespace, "--force", "--grace-period=0", "--wait=false"
        )


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
    for number in range(KILLS):
        name = f"churn-{number}"
        product.apply(pod(name, chance.choice([1, 2, 4, 8, 16]), image))
        alive.append(name)
        if len(alive) > 12:
            gone = alive.pop(chance.randrange(len(alive)))
            product.kubectl("delete", "pod", gone, "-n", "default", "--wait=false")
        kill(product, chance)
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
