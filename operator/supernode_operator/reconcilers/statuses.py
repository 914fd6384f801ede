"""Writing a status: only if it changed, at most once a second, with the version that it was computed from.

Events go before the write that they report. Whoever is killed between the two says it again, under the same name, and
is told that it is there; the other way round nobody would say it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from pydantic import BaseModel, ValidationError

from supernode_operator.domain.events import build_events
from supernode_operator.domain.objects import Object
from supernode_operator.engine.errors import ApiError, ConflictError
from supernode_operator.engine.kinds import EVENT, Kind
from supernode_operator.reconcilers.context import Context

__all__ = ["write_status"]

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 1.0


async def write_status(
    ctx: Context, kind: Kind, obj: Object, status: Mapping[str, Any], model: type[BaseModel]
) -> bool:
    """Write a status if it says something new; False when it has to wait (the key is queued again)."""
    old = obj.get("status") or {}
    if _normal(model, old) == _normal(model, status):
        return True
    key = kind.key(obj)
    wait = ctx.status_written.get(key, 0.0) + INTERVAL_SECONDS - time.monotonic()
    if wait > 0:
        ctx.requeue(key, wait, "StatusInterval")
        return False
    await _report(ctx, kind, obj, old.get("conditions") or [], status.get("conditions") or [])
    metadata = {k: obj["metadata"][k] for k in ("name", "namespace", "uid", "resourceVersion") if k in obj["metadata"]}
    await ctx.client.apply(kind, {"metadata": metadata, "status": status}, subresource="status")
    # A status that is refused (422, a bug of ours) is none that was written: else the look that waits for the next
    # second would count as a success, and the backoff would start anew each time.
    ctx.status_written[key] = time.monotonic()
    ctx.reported.pop(key, None)
    return True


async def _report(ctx: Context, kind: Kind, obj: Object, old: list[Any], new: list[Any]) -> None:
    key = kind.key(obj)
    for event in build_events(kind.name, obj, old, new, ctx.now()):
        said = ctx.reported.setdefault(key, set())
        transition = (event["action"], event["reason"], event["type"])
        if transition in said:
            continue  # before a write that came to nothing: the object is another version, and so would the name be
        log.info("transition", object=str(key), reason=event["reason"], message=event["message"])
        try:
            await ctx.client.create(EVENT, event)
        except ConflictError:
            pass  # reported before a crash
        except ApiError as error:  # an Event is a courtesy: it never holds up the work
            log.warning("event not written", object=str(key), error=str(error))
        said.add(transition)


def _normal(model: type[BaseModel], status: Mapping[str, Any]) -> Any:
    """Bring a status into the form with all defaults, so that what the API server filled in is no difference."""
    try:
        return model.model_validate(status).model_dump(by_alias=True, exclude_none=True, mode="json")
    except ValidationError:
        return dict(status)
