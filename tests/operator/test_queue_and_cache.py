"""The queue's promises, and a cache that never goes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supernode_operator.engine.kinds import NODE, POD, SUPER_NODE, Key
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.engine.store import Store
from supernode_operator.engine.trim import trim

A, B = Key("SuperNode", "", "a"), Key("SuperNode", "", "b")


def quick(pause: float = 0.0) -> WorkQueue:
    return WorkQueue(Metrics(), settle_seconds=0.0, pause_seconds=pause)


async def test_a_key_waits_at_most_once() -> None:
    queue = quick()
    for _ in range(5):
        queue.add(A)
    queue.add(B)
    assert {await queue.get(), await queue.get()} == {A, B}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)


async def test_a_key_is_never_worked_on_twice_at_a_time() -> None:
    queue = quick()
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    queue.done(A)
    assert await asyncio.wait_for(queue.get(), 1) == A


async def test_the_earliest_wish_wins() -> None:
    queue = quick()
    queue.add_after(A, 60)
    queue.add_after(A, 0.01)
    queue.add_after(A, 30)
    assert await asyncio.wait_for(queue.get(), 1) == A


async def test_two_runs_of_one_key_keep_a_pause() -> None:
    queue, loop = quick(pause=0.2), asyncio.get_running_loop()
    queue.add(A)
    await queue.get()
    began = loop.time()
    queue.done(A)
    queue.add(A)
    await queue.get()
    assert loop.time() - began >= 0.15


@pytest.mark.parametrize(("took", "least"), [(0.0, 0.08), (0.008, 0.18), (0.15, 0.28)])
async def test_a_key_rests_longer_after_a_long_run_and_three_pauses_at_most(took: float, least: float) -> None:
    queue, loop = quick(pause=0.1), asyncio.get_running_loop()
    queue.add(A)
    await queue.get()
    began = loop.time()
    await asyncio.sleep(took)
    queue.done(A)
    queue.add(A)
    await asyncio.wait_for(queue.get(), 3)  # 25 times 0.15 s would be more
    assert loop.time() - began >= least


async def test_failures_wait_longer_each_time_until_one_succeeds() -> None:
    queue = quick()
    delays = [queue.retry(A) for _ in range(12)]
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == 60.0
    queue.forget(A)
    assert queue.retry(A) == 0.2


def obj(name: str, version: int, uid: str = "u", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}, "spec": {}}


def test_an_older_state_never_replaces_a_newer_one() -> None:
    store = Store()
    assert store.put(SUPER_NODE, obj("a", 9, x="new"))
    assert not store.put(SUPER_NODE, obj("a", 8, x="old"))
    assert not store.put(SUPER_NODE, obj("a", 9, x="same"))
    assert store.get(SUPER_NODE, "a")["metadata"]["labels"] == {"x": "new"}


def test_what_is_gone_does_not_come_back_with_a_late_event() -> None:
    store = Store()
    store.put(SUPER_NODE, obj("a", 1))
    assert store.remove(SUPER_NODE, obj("a", 5))
    assert not store.put(SUPER_NODE, obj("a", 4))
    assert store.get(SUPER_NODE, "a") is None
    assert store.put(SUPER_NODE, obj("a", 7, uid="another"))


def test_a_late_deletion_does_not_take_a_successor_away() -> None:
    store = Store()
    store.put(SUPER_NODE, obj("a", 1, uid="first"))
    store.put(SUPER_NODE, obj("a", 5, uid="second"))
    assert not store.remove(SUPER_NODE, obj("a", 3, uid="first"))
    assert store.get(SUPER_NODE, "a")["metadata"]["uid"] == "second"


def test_listeners_hear_of_changes_that_matter_only() -> None:
    store, heard = Store(), []
    store.subscribe(lambda kind, key, old, new: heard.append((key.name, old is None, new is None)))
    store.put(SUPER_NODE, obj("a", 1))
    store.put(SUPER_NODE, obj("a", 2))
    store.put(SUPER_NODE, obj("a", 3, x="1"))
    store.remove(SUPER_NODE, obj("a", 4))
    assert heard == [("a", True, False), ("a", False, False), ("a", False, True)]


def test_a_complete_list_shows_what_vanished_and_what_is_newer() -> None:
    store = Store()
    for name, version in (("stays", 1), ("gone", 2), ("young", 50)):
        store.put(SUPER_NODE, obj(name, version, uid=name))
    assert store.retain(SUPER_NODE, [obj("stays", 7, uid="stays")], 10) == (1, 1)
    assert [o["metadata"]["name"] for o in store.list(SUPER_NODE)] == ["stays", "young"]


def test_a_heartbeat_of_a_node_is_no_change_and_a_pods_weight_is_left_out() -> None:
    def node(beat: str) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}, {"type": "DiskPressure"}]
        return {
            "metadata": {"name": "n", "managedFields": ["big"]},
            "status": {"conditions": conditions, "images": [1]},
        }

    assert trim("Node", node("1")) == trim("Node", node("2"))
    pod = {
        "metadata": {"name": "p", "namespace": "n", "annotations": {"x": "y"}, "managedFields": ["big"]},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting": {}}}]},
    }
    assert trim("Pod", pod) == {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    assert NODE.path("", "a", "status") == "/api/v1/nodes/a/status"
    assert POD.path("n", "p") == "/api/v1/namespaces/n/pods/p"
