"""Scenario 1: a replica is killed at each point that it passes; others finish its work."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import NOWHERE, waiting_for_locks
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.replica import POINTS
from tests.observed import Observe
from tests.processes import Service
from tests.proxies import ACK, Link, Proxy

_HELD = "nothing lost; the others take over what it had claimed"


@dataclass(slots=True)
class Succession:
    """How others go on after a death; the seconds until nothing of that time waits any more."""

    scene: Scene
    observed: Observe
    seconds: float = 0.0

    async def begin(self, dead: Service, **successor: Any) -> None:
        """The successor is another one to be started then, if nobody is left."""
        await eventually(lambda: not dead.is_alive, 60, "the death of the replica")
        died = time.monotonic()
        if successor:
            await self.scene.start(wait=False, **successor)
        await emptied(self.scene.connection, 30)
        self.seconds = time.monotonic() - died

    async def check(self, fault: str) -> None:
        """To be called when the load is over."""
        await self.scene.check()
        figures = f"its events gone {self.seconds:.2f} s after its end"
        self.observed(1, f"kill -9 {fault}", _HELD, f"{figures}; {self.scene.ledger.figures()}")


@pytest.fixture
def succession(scene: Scene, observed: Observe) -> Succession:
    return Succession(scene, observed)


@pytest.mark.parametrize("point", POINTS)
async def test_a_replica_that_is_killed_at_a_point_loses_nothing(
    scene: Scene, succession: Succession, point: str
) -> None:
    doomed = await scene.start(altered={"TRIP_WIRE": f"{point}; 30; kill"})
    await scene.start()
    async with scene.load() as load:
        await succession.begin(doomed)
        await load.goes_on()
    await succession.check(point)


async def test_nothing_stays_open_of_a_replica_that_is_killed_again_and_again(
    scene: Scene, succession: Succession
) -> None:
    survivor = await scene.start()
    await asyncio.to_thread(survivor.wait_for_relay)
    async with scene.load(survivor) as load:
        for _ in range(3):
            wire = {"TRIP_WIRE": "after the claim; 5; kill"}
            await succession.begin(await scene.start(command="relay", altered=wire, wait=False))
        await load.goes_on()
    await succession.check("after the claim, of one relay after the other")


async def test_a_relay_that_is_killed_in_the_middle_of_a_backlog_loses_nothing(
    scene: Scene, succession: Succession
) -> None:
    api = await scene.start(amqp_url=NOWHERE)
    async with scene.load() as load:
        await load.goes_on(200)
    await asyncio.to_thread(api.stop, 10)
    waiting = await scene.connection.fetchval("SELECT count(*) FROM outbox")
    altered = {"TRIP_WIRE": "in the middle of a batch; 25; kill"}
    doomed = await scene.start(command="relay", altered=altered, wait=False)
    await succession.begin(doomed, command="relay")
    await succession.check(f"in the middle of a batch, of a backlog of {waiting}, the only relay")


async def test_a_replica_that_is_killed_while_its_insert_is_under_way_stores_both_or_nothing(
    scene: Scene, succession: Succession
) -> None:
    doomed = await scene.start()
    await scene.start()
    async with scene.load() as load:
        await load.goes_on()
        async with scene.connection.transaction():
            # Whoever reads goes on, whoever writes waits, in the middle of the statement.
            await scene.connection.execute("LOCK TABLE outbox IN SHARE MODE")
            await eventually(lambda: _wait(scene, 4), 20, "inserts that are under way")
            doomed.kill()
        await succession.begin(doomed)
        await load.goes_on()
    await succession.check("while inserts are under way")


async def _wait(scene: Scene, statements: int) -> bool:
    return await waiting_for_locks(scene.connection) >= statements


async def test_a_replica_that_is_killed_between_the_broker_and_the_confirm_loses_nothing(
    scene: Scene, succession: Succession, start_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    proxy = await start_proxy(scene.settings.amqp_url)
    doomed = await scene.start(amqp_url=proxy.url)
    await scene.start()

    def kill(link: Link) -> None:
        doomed.kill()
        link.cut()

    async with scene.load() as load:
        await load.goes_on()
        proxy.back.when(ACK, kill)
        await succession.begin(doomed)
        await load.goes_on()
    await succession.check("after the broker stored, before the confirm is seen")
