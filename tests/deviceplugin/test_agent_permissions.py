"""What the chart lets node agents do is what they do, from registration to hand-over."""

from __future__ import annotations

import pytest
from lightkube import AsyncClient, KubeConfig

from supernode_api.names import PLURALS
from supernode_deviceplugin.kube import ApiComputeNodes
from support.applying import apply, path_of
from support.memory_nodes import DIES, LINKS, compute_node
from support.permissions import calls_of, chart_account, refusals_of

UNUSED_HERE: set[tuple[str, str, str]] = set()
"""Nothing is for errors only."""


def status(api_server, obj) -> dict:
    return api_server.request("GET", path_of(obj))[1].get("status", {})


def is_so(api_server, obj, type_: str) -> bool:
    return any(c["type"] == type_ and c["status"] == "True" for c in status(api_server, obj).get("conditions", []))


@pytest.mark.usefixtures("_helm")
async def test_an_agent_needs_every_permission_of_the_charts_role_and_no_other(api_server, world):
    objects = [compute_node(0), compute_node(1)]
    for obj in objects:
        apply(api_server, obj)
    with chart_account(api_server, "agent") as account:
        client = AsyncClient(config=KubeConfig.from_file(account.kubeconfig), trust_env=False)
        try:
            world.nodes = ApiComputeNodes(client, "node-a")
            await world.kubelet.start()
            await world.start_agent()
            await world.serving(32, 224, 30)
            await world.until(lambda: is_so(api_server, objects[1], "Ready"), 30)
            objects[0]["spec"]["faults"] = [{"name": "a", "die": 1}]
            apply(api_server, objects[0])
            await world.serving(31, 217, 30)
            await world.kubelet.admit("p", {LINKS: 112, DIES: 16})
            await world.until(lambda: status(api_server, objects[1]).get("allocations"), 30)
            world.kubelet.remove("p")
            world.settle()
            api_server.request("DELETE", path_of(objects[1]))
            await world.until(lambda: is_so(api_server, objects[1], "Released"), 30)
            await world.stop_agent()
        finally:
            await client.close()
            api_server.remove_objects()
        assert refusals_of(api_server, account.user) == set()
        called = calls_of(api_server, account.user)
        assert {resource.partition("/")[0] for _, resource, _ in account.granted} == {PLURALS["ComputeNode"]}
        assert account.granted - called == UNUSED_HERE
        assert called <= account.granted
