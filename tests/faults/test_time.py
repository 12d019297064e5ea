"""Scenario 20: processes that stand still, and clocks that do not agree.

What waits in the service waits by the clock of its event loop, which nobody can move. Times of day
come from the process (when a campaign was changed, when a key ends) and from the database (when an
event is due, how old an answer is). The clock of the database itself cannot be moved here; what it
would do is done to the rows that it is compared with.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests

from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.observed import Observe
from tests.processes import Service
from tests.proxies import Link, Proxy

StartProxy = Callable[[str], Awaitable[Proxy]]

_SHORT_OR_LONG = [10, pytest.param(30, marks=pytest.mark.minutes)]

_HELD = "the others take its events while it stands still; it goes on as if nothing was"

# A batch of these replicas may take so long, by the sum of their two deadlines.
_QUICK: dict[str, Any] = {"database_timeout_seconds": 1.0, "amqp_timeout_seconds": 1.0}

# Seconds after which a process that does not answer is taken for one that is blocked.
_DEAF = 1.5


@pytest.mark.parametrize("still", _SHORT_OR_LONG)
async def test_events_of_a_process_that_is_stopped_are_published_by_others_meanwhile(
    scene: Scene, observed: Observe, start_proxy: StartProxy, still: int
) -> None:
    assert scene.settings.relay_database_url
    proxy = await start_proxy(scene.settings.relay_database_url)
    stopped = await scene.start(relay_database_url=proxy.url, **_QUICK)
    await scene.start()
    async with scene.load() as load:
        await load.goes_on()
        stands_still = asyncio.Event()

        def stop(_: Link) -> None:
            stopped.send(signal.SIGSTOP)
            stands_still.set()

        # Its transaction is open then, and what it has claimed is locked.
        proxy.back.when(b"DELETE ", stop)
        await asyncio.wait_for(stands_still.wait(), 30)
        lasts = asyncio.create_task(asyncio.sleep(still))
        seconds = await emptied(scene.connection, still)
        await lasts
        stopped.send(signal.SIGCONT)
        await asyncio.to_thread(stopped.wait_for_relay)
        await load.goes_on()
    await scene.check()
    assert scene.ledger.copies
    figures = f"taken over after {seconds:.1f} s; {scene.ledger.figures()}"
    observed(20, f"a process is stopped for {still} s", _HELD, figures)


@pytest.mark.parametrize("still", _SHORT_OR_LONG)
async def test_events_of_a_process_whose_event_loop_is_blocked_are_published_by_others_meanwhile(
    scene: Scene, observed: Observe, still: int
) -> None:
    wire = {"TRIP_WIRE": f"after the delete, before the commit; 30; stall {still}"}
    blocked = await scene.start(altered=wire, **_QUICK)
    await scene.start()
    async with scene.load() as load:
        await eventually(lambda: _is_deaf(blocked), 60, "an event loop that is blocked")
        seconds = await emptied(scene.connection, still - 2 * _DEAF)
        await eventually(lambda: _hears(blocked), still + 20, "the end of the stall")
        await asyncio.to_thread(blocked.wait_for_relay)
        await load.goes_on()
    await scene.check()
    assert scene.ledger.copies
    figures = f"taken over within {seconds + _DEAF:.1f} s; {scene.ledger.figures()}"
    observed(20, f"an event loop is blocked for {still} s", _HELD, figures)


async def _hears(service: Service) -> bool:
    try:
        await asyncio.to_thread(requests.get, f"{service.url}/healthz", timeout=_DEAF)
    except requests.Timeout:
        return False
    return True


async def _is_deaf(service: Service) -> bool:
    return not await _hears(service)


async def test_replicas_whose_clocks_are_two_days_apart_deliver_in_order_and_never_go_back_in_time(
    scene: Scene, observed: Observe
) -> None:
    day = 24 * 60 * 60
    for seconds in (day, -day):
        await scene.start(altered={"CLOCK": str(seconds)})
    async with scene.load() as load:
        await load.goes_on(300)
    await scene.check()
    spread = await scene.connection.fetchval(
        "SELECT extract(day FROM max(created_at) - min(created_at)) FROM campaigns"
    )
    assert spread >= 2
    back = await scene.connection.fetchval(
        """
        SELECT count(*)
        FROM campaign_history earlier
        JOIN campaign_history later USING (organization_id, campaign_id)
        WHERE later.version > earlier.version AND later.changed_at < earlier.changed_at
        """
    )
    assert back == 0
    observed(
        20,
        "clocks of two replicas are two days apart",
        "due at once and in order; no change is older than the one before",
        scene.ledger.figures(),
    )


async def test_events_that_are_due_later_by_another_clock_wait_as_long_and_are_not_lost(
    scene: Scene, observed: Observe
) -> None:
    seconds = 4
    api = await scene.start(command="serve --no-relay")
    async with scene.load() as load:
        await load.goes_on(100)
    await asyncio.to_thread(api.stop, 10)
    # What was due when it was stored is due later by a clock that was put back.
    began = time.monotonic()
    await scene.connection.execute(
        "UPDATE outbox SET next_attempt_at = now() + make_interval(secs => $1)", seconds
    )
    await scene.start(command="relay")
    before = scene.ledger.received
    await emptied(scene.connection, seconds + 20)
    waited = time.monotonic() - began
    await scene.check()
    assert before == 0
    assert waited >= seconds
    observed(
        20,
        f"events due {seconds} s later, as by a clock of the database that is put back",
        "what waits, waits as long; nothing lost",
        f"{before} messages before, all after {waited:.1f} s; {scene.ledger.figures()}",
    )
