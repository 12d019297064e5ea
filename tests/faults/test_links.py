"""Scenarios 2 and 3: the link between a relay and its broker is slow, silent or cut."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.observed import Observe
from tests.proxies import ACK, Direction, Link, Proxy
from tests.test_create import EXAMPLE

StartProxy = Callable[[str], Awaitable[Proxy]]

# One that is missing would end a link later, so that nobody could tell what a deadline does.
_NO_HEARTBEAT = "?heartbeat=0"

# What a replica sends until then, by class and method: queue.declare, queue.bind, confirm.select.
_DECLARE, _BIND, _CONFIRM = b"\x00\x32\x00\x0a", b"\x00\x32\x00\x14", b"\x00\x55\x00\x0a"
_MOMENTS = {
    "it is greeted": [b"AMQP\x00\x00\x09\x01"],
    "it is asked for its queues": [_DECLARE],
    # Of the channel that is for events: those for the topology are open before the first binding.
    "it is asked to confirm": [_BIND, _CONFIRM],
}

# So large that a batch of them fills every buffer on its way.
_LARGE = EXAMPLE | {"agenda_template": "x" * 4_900, "welcome_message_template": "y" * 4_900}


@pytest.mark.parametrize("cuts", [2, pytest.param(40, marks=pytest.mark.minutes)])
@pytest.mark.timeout(600)
async def test_confirms_that_are_held_back_and_lost_cost_copies_and_no_event(
    scene: Scene, observed: Observe, start_proxy: StartProxy, cuts: int
) -> None:
    proxy = await start_proxy(scene.settings.amqp_url)
    cut_off = await scene.start(amqp_url=proxy.url)
    await scene.start()
    await asyncio.to_thread(cut_off.wait_for_relay)
    async with scene.load() as load:
        await load.goes_on()
        for _ in range(cuts):
            # From the first confirm on, so that at least one event is stored and nobody knows.
            await asyncio.wait_for(proxy.hold_from(ACK).wait(), 30)
            await load.goes_on(30)
            proxy.cut()
            proxy.passing.set()
            await load.goes_on(10)
            await asyncio.to_thread(cut_off.wait_for_relay)
    await scene.check()
    assert scene.ledger.copies
    fault = f"confirms held back, then the link cut, {cuts} times"
    observed(2, fault, "nothing lost; copies; nothing left open", scene.ledger.figures())


async def test_a_broker_that_stops_reading_is_given_up_and_others_publish(
    scene: Scene, observed: Observe, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(scene.settings.amqp_url + _NO_HEARTBEAT)
    api = await scene.start(command="serve --no-relay")
    # No check of the topology is to find out before it, either.
    blocked = await scene.start(
        command="relay", amqp_url=proxy.url, amqp_timeout_seconds=1.0, amqp_check_seconds=600
    )
    await asyncio.to_thread(blocked.wait_for_relay)
    async with scene.load(api, body=_LARGE) as load:
        await load.goes_on()
        proxy.there.passing.clear()
        await eventually(lambda: _unsent(proxy.port) > 0, 20, "a queue that is full")
        await eventually(lambda: len(proxy.attempts) > 1, 20, "another connection")
        await scene.start(command="relay")
        seconds = await emptied(scene.connection, 20)
        proxy.there.passing.set()
        await asyncio.to_thread(blocked.wait_for_relay)
        await load.goes_on(20)
    await scene.check()
    figures = f"backlog gone {seconds:.1f} s after another relay began; {scene.ledger.figures()}"
    observed(3, "the broker stops reading", "the deadline fires; the link is replaced", figures)


def _unsent(port: int) -> int:
    """Bytes that this machine could not send to a port of its own yet."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    to_there = [row for row in rows if row[2].endswith(f":{port:04X}")]
    return sum(int(row[4].split(":")[0], 16) for row in to_there)


def _after(direction: Direction, sent: Sequence[bytes], happens: Callable[[Link], None]) -> None:
    """Do something once all of this has come, one after the other."""
    first, *rest = sent
    direction.when(first, lambda link: _after(direction, rest, happens) if rest else happens(link))


@pytest.mark.parametrize("moment", _MOMENTS)
async def test_a_broker_that_falls_silent_while_a_replica_connects_is_tried_again(
    scene: Scene, observed: Observe, start_proxy: StartProxy, moment: str
) -> None:
    proxy = await start_proxy(scene.settings.amqp_url + _NO_HEARTBEAT)

    def fall_silent(_: Link) -> None:
        proxy.there.swallowing = proxy.back.swallowing = True

    _after(proxy.there, _MOMENTS[moment], fall_silent)
    replica = await scene.start(amqp_url=proxy.url, amqp_timeout_seconds=1.0)
    async with scene.load() as load:
        await load.goes_on()
        await eventually(lambda: len(proxy.attempts) > 1, 20, "another attempt")
        proxy.there.swallowing = proxy.back.swallowing = False
        await asyncio.to_thread(replica.wait_for_relay)
        await load.goes_on()
    await scene.check()
    fault = f"the broker falls silent when {moment}"
    held = "the replica gives that link up and makes another; events wait"
    observed(3, fault, held, f"{len(proxy.attempts)} attempts; {scene.ledger.figures()}")
