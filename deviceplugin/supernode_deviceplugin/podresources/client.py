"""Who holds what, from the kubelet's PodResources API (v1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from supernode_deviceplugin.domain.allocations import Holder
from supernode_deviceplugin.errors import PodResourcesError
from supernode_deviceplugin.files import socket_age_seconds
from supernode_deviceplugin.podresources import api_pb2, api_pb2_grpc

__all__ = ["Answer", "PodResources", "holders_from"]

_TIMEOUT_SECONDS: Final = 5.0
_MAX_MESSAGE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kubelet said."""

    pods: frozenset[tuple[str, str]]
    """(namespace, name) of every pod it knows, with devices or without."""
    holders: tuple[Holder, ...]


class PodResources:
    """A client that keeps its connection and makes a new one after a failure."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._channel: grpc.aio.Channel | None = None

    def age_seconds(self) -> float:
        """Seconds since the kubelet created its socket; 0 while there is none."""
        return socket_age_seconds(self.socket)

    async def list(self) -> Answer:
        """Ask once; PodResourcesError when there is no answer."""
        if self._channel is None:
            options = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
            self._channel = grpc.aio.insecure_channel(f"unix:{self.socket}", options=options)
        stub = api_pb2_grpc.PodResourcesListerStub(self._channel)
        try:
            response = await stub.List(api_pb2.ListPodResourcesRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            await self.close()  # a new channel connects at once, an old one waits
            raise PodResourcesError(f"{self.socket}: {error.details() or error.code().name}") from error
        holders = []
        for number, holder in enumerate(holders_from(response)):
            holders.append(holder)
            if number % 8 == 7:
                await asyncio.sleep(0)  # thousands of devices; a call of the kubelet goes first
        return Answer(frozenset((pod.namespace, pod.name) for pod in response.pod_resources), tuple(holders))

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()


def holders_from(response: api_pb2.ListPodResourcesResponse) -> Iterator[Holder]:
    """Collect the devices of each container; one resource may come in several parts, one for each NUMA node."""
    for pod in response.pod_resources:
        for container in pod.containers:
            ids: dict[str, list[str]] = {}
            for part in container.devices:
                if part.device_ids:
                    ids.setdefault(part.resource_name, []).extend(part.device_ids)
            if ids:
                devices = tuple((resource, tuple(sorted(ids[resource]))) for resource in sorted(ids))
                yield Holder(pod.namespace, pod.name, container.name, devices)
