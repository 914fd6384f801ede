"""``python3 -m supernode_deviceplugin``: the node agent. Configuration: see ``settings``."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys

from supernode_deviceplugin.errors import AgentError
from supernode_deviceplugin.logs import configure_logs
from supernode_deviceplugin.memory import keep_heap_small
from supernode_deviceplugin.settings import Settings, SettingsError, read_settings

__all__ = ["main"]

_log = logging.getLogger("supernode_deviceplugin")


def main() -> int:
    """Run the agent until SIGTERM; 2 when the configuration is wrong, 1 when something broke."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"supernode_deviceplugin: {error}\n")
        return 2
    configure_logs(settings.log_level, settings.log_format)
    keep_heap_small()
    try:
        return asyncio.run(_run(settings))
    except AgentError as error:
        _log.error("the node agent cannot go on", extra={"problem": str(error)})
        return 1
    except Exception:
        _log.exception("the node agent broke")
        return 1


async def _run(settings: Settings) -> int:
    from lightkube import AsyncClient  # after keep_heap_small(), as everything that is large
    from lightkube.core.exceptions import ConfigError

    from supernode_deviceplugin.agent import Agent
    from supernode_deviceplugin.kube import ApiComputeNodes

    _log.info("starting", extra={name: str(getattr(settings, name)) for name in settings.__slots__})
    try:
        client = AsyncClient()
    except ConfigError as error:
        _log.error("no access to an API server", extra={"problem": str(error)})
        return 2
    gc.collect()
    gc.freeze()  # modules never become garbage: looking through them now and then would hold up an Allocate
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await Agent(settings, ApiComputeNodes(client, settings.node_name)).run(stop)
    finally:
        await client.close()
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
