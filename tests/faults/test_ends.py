"""Scenario 19: replicas are told to end, while a publish is blocked and under load."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.observed import Observe
from tests.proxies import Proxy

_SHUTDOWN = 3.0

# What a process may need beyond its limit, to cancel and to close what does not answer.
_CLEANUP = 5.0


async def test_a_replica_that_ends_while_its_publish_is_blocked_ends_in_time_and_frees_its_events(
    scene: Scene, observed: Observe, start_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    proxy = await start_proxy(scene.settings.amqp_url)
    blocked = await scene.start(amqp_url=proxy.url, shutdown_seconds=_SHUTDOWN)
    other = await scene.start()
    await asyncio.to_thread(blocked.wait_for_relay)
    async with scene.load() as load:
        await load.goes_on()
        proxy.back.passing.clear()
        await eventually(lambda: scene.has_stuck_claims(), 20, "events that are claimed")
        began = time.monotonic()
        status = await asyncio.to_thread(blocked.stop, _SHUTDOWN + _CLEANUP)
        ended = time.monotonic() - began
        seconds = await emptied(scene.connection, 10)
        load.urls[:] = [other.url]
        await load.goes_on()
    await scene.check()
    assert status == 0
    figures = f"ended after {ended:.1f} s of {_SHUTDOWN:.0f}, its events gone {seconds:.1f} s later"
    observed(
        19,
        "SIGTERM while a publish is blocked",
        "ends within its limit and frees its events",
        f"{figures}; {scene.ledger.figures()}",
    )


@pytest.mark.parametrize("rounds", [2, pytest.param(15, marks=pytest.mark.minutes)])
@pytest.mark.timeout(600)
async def test_a_rolling_restart_under_load_loses_nothing_and_refuses_nobody_for_good(
    scene: Scene, observed: Observe, rounds: int
) -> None:
    running = [await scene.start(), await scene.start()]
    slowest = 0.0
    async with scene.load() as load:
        await load.goes_on()
        for number in range(rounds):
            old = running[number % 2]
            # As a load balancer would: nobody is sent to who is about to end.
            load.urls.remove(old.url)
            await load.goes_on(30)
            began = time.monotonic()
            assert await asyncio.to_thread(old.stop, 15) == 0
            slowest = max(slowest, time.monotonic() - began)
            new = running[number % 2] = await scene.start()
            load.urls.append(new.url)
            await load.goes_on()
    await scene.check()
    assert not [o for o in scene.ledger.outcomes if o.status is None]
    figures = f"the slowest ended after {slowest:.1f} s; {scene.ledger.figures()}"
    observed(
        19,
        f"rolling restart of two replicas, {rounds} times",
        "nothing lost, no request cut off",
        figures,
    )
