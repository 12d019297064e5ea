"""Scenario 19: replicas are told to end, while a publish is blocked and under load."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.conftest import waiting_for_locks
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.load import PATH
from tests.observed import Observe
from tests.processes import Service
from tests.proxies import ACK, Proxy
from tests.test_create import EXAMPLE

_SHUTDOWN = 3.0

# What it may need beyond that, to cancel and to close what does not answer: README.md promises it.
_CLEANUP = 2.0

# What a machine that has much else to do may add.
_SLACK = 2.0


async def test_a_replica_that_ends_while_its_publish_is_blocked_ends_in_time_and_frees_its_events(
    scene: Scene, observed: Observe, start_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    proxy = await start_proxy(scene.settings.amqp_url)
    blocked = await scene.start(amqp_url=proxy.url, shutdown_seconds=_SHUTDOWN)
    other = await scene.start()
    await asyncio.to_thread(blocked.wait_for_relay)
    async with scene.load() as load:
        await load.goes_on()
        await asyncio.wait_for(proxy.hold_from(ACK).wait(), 30)
        began = time.monotonic()
        status = await asyncio.to_thread(blocked.stop, _SHUTDOWN + _CLEANUP + _SLACK)
        ended = time.monotonic() - began
        seconds = await emptied(scene.connection, 10)
        load.urls[:] = [other.url]
        await load.goes_on()
    await scene.check()
    assert status == 0
    limit = f"{_SHUTDOWN:.0f} and {_CLEANUP:.0f}"
    figures = f"ended after {ended:.1f} s of {limit}, its events gone {seconds:.1f} s later"
    observed(
        19,
        "SIGTERM while a publish is blocked",
        "ends within `shutdown_seconds` and two more, and frees its events",
        f"{figures}; {scene.ledger.figures()}",
    )


async def test_creates_that_are_under_way_at_the_end_are_answered(
    scene: Scene, observed: Observe
) -> None:
    ending = await scene.start()
    await scene.start()
    async with scene.load(callers=0) as load:
        async with scene.connection.transaction():
            # Whoever writes waits.
            await scene.connection.execute("LOCK TABLE outbox IN SHARE MODE")
            creates = []
            for statements, keys in ((1, "a"), (2, "bcdef")):
                creates += [
                    asyncio.create_task(
                        load.request("POST", ending.url + PATH, key, EXAMPLE | {"name": key})
                    )
                    for key in keys
                ]
                await eventually(partial(_wait, scene, statements), 4, "creates that are under way")
            ending.send(signal.SIGTERM)
            await eventually(lambda: _refuses(ending), 10, "nobody listens any more")
        assert {(await create).status for create in creates} == {201}
        assert await asyncio.to_thread(ending.end, 15) == 0
    await scene.check()
    fault = "SIGTERM while creates are under way"
    observed(19, fault, "each is answered 201, then it ends", scene.ledger.figures())


async def _wait(scene: Scene, statements: int) -> bool:
    return await waiting_for_locks(scene.connection) >= statements


async def _refuses(service: Service) -> bool:
    return not await asyncio.to_thread(service.readiness)


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
        "nothing lost; a balancer that goes ahead has no request cut off",
        figures,
    )
