"""What receivers of OTLP over gRPC share, whatever they receive: a server in this process, and attributes as values."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

__all__ = ["Receiver", "receiving", "values_of"]


class Receiver(ABC):
    """A service with one method, Export; may be slow. A subclass keeps what it is sent in :meth:`keep`."""

    answer: type[Any]
    """The message that Export returns."""

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self.headers: list[dict[str, Any]] = []
        self.delay_seconds = delay_seconds
        self.stopped = threading.Event()
        self.endpoint = ""

    @abstractmethod
    def keep(self, request: Any) -> None:
        """Keep what was sent."""

    def Export(self, request: Any, context: Any) -> Any:
        self.stopped.wait(self.delay_seconds)
        self.headers.append({pair.key: pair.value for pair in context.invocation_metadata()})
        self.keep(request)
        return self.answer()


Some = TypeVar("Some", bound=Receiver)


@contextmanager
def receiving(receiver: Some, add_to_server: Callable[[Any, Any], None], port: int = 0) -> Iterator[Some]:
    """Serve a receiver on a port of this machine, any free one by default; its ``endpoint`` says which."""
    server = grpc.server(ThreadPoolExecutor(4))
    add_to_server(receiver, server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield receiver
    finally:
        receiver.stopped.set()
        server.stop(None).wait()


def values_of(pairs: Any) -> dict[str, Any]:
    """Return attributes as a dictionary of plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
