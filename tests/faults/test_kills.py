"""Scenario 1: a replica is killed at each point that it passes; others finish its work."""

import asyncio

import pytest

from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.replica import POINTS
from tests.observed import Observe


@pytest.mark.parametrize("point", POINTS)
async def test_a_replica_that_is_killed_loses_nothing_and_another_one_goes_on(
    scene: Scene, observed: Observe, point: str
) -> None:
    doomed = await scene.start(trip=f"{point}; 30; kill")
    await scene.start()
    async with scene.load() as load:
        await asyncio.to_thread(doomed.end, 60)
        seconds = await emptied(scene.connection, 10)
        await load.goes_on()
    await scene.check()
    figures = f"its events gone {seconds:.2f} s after its end; {scene.ledger.figures()}"
    observed(1, f"kill -9 {point}", "nothing lost, another replica goes on", figures)
