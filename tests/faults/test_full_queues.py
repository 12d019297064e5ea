"""Scenario 10: a queue that nobody reads is full, and refuses; then somebody drains it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from service.settings import Settings
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.witness import witness
from tests.observed import Observe
from tests.virtual_hosts import VirtualHost


@pytest.fixture
def scene_settings(apart: Settings) -> Settings:
    return replace(apart, database_pool_size=4, log_level="error")


async def test_a_full_queue_holds_events_back_in_order_until_it_is_drained(
    unwatched_scene: Scene, virtual_host: VirtualHost, observed: Observe
) -> None:
    scene = unwatched_scene
    replica = await scene.start()
    await asyncio.to_thread(virtual_host.limit, "campaign.start", 20)
    async with AsyncExitStack() as stack:
        async with scene.load(callers=2) as load:
            await load.goes_on(100)
            await eventually(lambda: replica.relay()["state"] == "refused", 20, "a refusal")
            assert replica.relay()["circuit"] == "half-open"
            await load.goes_on(200)
            await stack.enter_async_context(witness(scene.ledger, scene.settings))
            await asyncio.to_thread(virtual_host.unlimit)
            await load.goes_on()
        await scene.check(90)
    figures = f"{replica.relay()['refused']:,} refusals; {scene.ledger.figures()}"
    observed(10, "a queue full with reject-publish, then drained", "refused events wait", figures)
