"""Waiting for an event with a limit, and being cancelled at the worst moment."""

from __future__ import annotations

import asyncio

import pytest

from supernode_deviceplugin.feed import Feed, wait_event


async def test_a_cancellation_that_comes_with_the_event_is_not_lost():
    event = asyncio.Event()

    async def work() -> None:
        while True:
            await wait_event(event, 5.0)
            event.clear()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2.0)


async def test_the_wait_ends_with_the_event_or_with_the_time():
    event = asyncio.Event()
    await wait_event(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    await asyncio.wait_for(wait_event(event, None), 2.0)


async def test_a_feed_wakes_only_for_a_new_value():
    feed = Feed(1)
    waiter = asyncio.create_task(feed.wait())
    await asyncio.sleep(0)
    assert not feed.publish(1)
    await asyncio.sleep(0.01)
    assert not waiter.done()
    assert feed.publish(2)
    await asyncio.wait_for(waiter, 2.0)
    assert (feed.value, feed.version) == (2, 2)
