"""A hundred SuperNodes: who is found without a look at everybody, who looks when a node changes, whose turn it is."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from supernode_operator.config import Config
from supernode_operator.dispatch import Dispatcher
from supernode_operator.engine.client import Client
from supernode_operator.engine.kinds import COMPUTE_NODE, NODE, SUPER_NODE, WORKLOAD, Key
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.engine.store import Store
from supernode_operator.loop import WORKERS, Loop
from supernode_operator.reconcilers.context import Context


def obj(name: str, version: int = 1, uid: str = "", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid or name, "resourceVersion": str(version)}, "spec": spec}


def machine(name: str, pool: str) -> dict[str, Any]:
    return obj(name, profile="cloudmatrix-384", nodes={"selector": {"matchLabels": {"pool": pool}}})


def node(name: str, version: int, **labels: str) -> dict[str, Any]:
    meta = {"name": name, "uid": name, "resourceVersion": str(version), "labels": labels}
    return {"metadata": meta, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def found(store: Store, field: str, value: str) -> list[str]:
    return [one["metadata"]["name"] for one in store.find(COMPUTE_NODE, field, value)]


def test_a_server_is_found_by_its_machine_and_by_its_node_as_it_is_now() -> None:
    store = Store()
    for version, name in enumerate(("b", "a"), 1):
        store.put(COMPUTE_NODE, obj(name, version, superNode="m", nodeName="one"))
    store.put(COMPUTE_NODE, obj("other", 3, superNode="n"))
    assert found(store, "superNode", "m") == ["a", "b"]
    store.put(COMPUTE_NODE, obj("a", 4, superNode="m", nodeName="two"))
    assert (found(store, "nodeName", "one"), found(store, "nodeName", "two")) == (["b"], ["a"])
    assert store.find(COMPUTE_NODE, "nodeName", "two")[0]["metadata"]["resourceVersion"] == "4"
    store.put(COMPUTE_NODE, obj("a", 5, superNode="m", nodeName="two", uid="another"))
    store.remove(COMPUTE_NODE, obj("b", 6))
    assert (found(store, "superNode", "m"), found(store, "nodeName", "one")) == (["a"], [])
    assert found(store, "superNode", "nobody") == []


def test_who_asks_for_a_field_without_an_index_is_told() -> None:
    with pytest.raises(ValueError, match=r"no index of SuperNodeWorkload by spec\.nodeName"):
        Store().find(WORKLOAD, "nodeName", "one")


def looking(store: Store, change: dict[str, Any]) -> set[str]:
    heard: list[Key] = []
    dispatcher = Dispatcher(store, heard.append)
    store.subscribe(dispatcher.on_change)
    store.put(NODE, change)
    return {key.name for key in heard if key.kind == SUPER_NODE.name}


def world() -> Store:
    store = Store()
    for name, pool in (("first", "a"), ("second", "b"), ("third", "c"), ("unreadable", "a")):
        store.put(SUPER_NODE, machine(name, pool))
    store.put(SUPER_NODE, obj("unreadable", 2, nodes="garbage"))
    store.put(NODE, node("n", 1, pool="a"))
    return store


def test_a_node_concerns_machines_that_choose_it_before_or_after_and_those_that_cannot_be_read() -> None:
    assert looking(world(), node("n", 2, pool="b")) == {"first", "second", "unreadable"}


def test_a_node_concerns_the_machine_whose_label_it_has_and_those_whose_servers_are_on_it() -> None:
    store = world()
    store.put(COMPUTE_NODE, obj("s", superNode="third", nodeName="n"))
    changed = node("n", 2, **{"pool": "a", "supernode.io/supernode": "second"})
    assert looking(store, changed) == {"first", "second", "third", "unreadable"}


async def test_looks_that_never_wait_leave_the_others_their_turns() -> None:
    metrics, store = Metrics(), Store()
    queue = WorkQueue(metrics, settle_seconds=0.0, pause_seconds=0.0)
    ctx = Context(store, cast(Client, None), Config(), lambda key, seconds, reason: None)
    keys = [Key(SUPER_NODE.name, "", f"gone-{number}") for number in range(300)]
    for key in keys:
        queue.add(key)
    await asyncio.sleep(0.01)
    turns = 0

    async def renew_the_lease() -> None:
        nonlocal turns
        while not queue.idle:
            turns += 1
            await asyncio.sleep(0)

    work = asyncio.create_task(Loop(ctx, queue, metrics).run())
    await renew_the_lease()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert turns >= len(keys) / WORKERS
