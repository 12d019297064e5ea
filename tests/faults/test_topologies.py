"""Scenarios 7 and 8: exchange, queues and bindings that somebody removes, or that never were."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aio_pika.abc import AbstractChannel

from service import broker, topology
from service.settings import Settings
from tests.consumers import QUEUES, eventually
from tests.faults.conftest import Scene
from tests.observed import Observe
from tests.test_topology import ALL, bindings, unbind
from tests.virtual_hosts import VirtualHost


@pytest.fixture
def scene_settings(apart: Settings) -> Settings:
    return replace(apart, database_pool_size=4, log_level="warning")


@pytest.mark.parametrize("lost", topology.WAYS)
async def test_a_binding_that_is_removed_costs_no_event(
    scene: Scene, virtual_host: VirtualHost, observed: Observe, lost: str
) -> None:
    await scene.start()
    async with scene.load() as load:
        await load.goes_on()
        for queue in QUEUES:
            await unbind(scene.settings, {(queue, lost)})
            await load.goes_on()
            await eventually(lambda: bindings(virtual_host) == ALL, 20, "the binding")
    await scene.check()
    observed(
        7,
        f"the {lost} binding of each queue removed",
        "every event goes a second way to the queue; the binding is made anew",
        scene.ledger.figures(),
    )


async def test_events_that_no_binding_takes_are_held(scene: Scene, observed: Observe) -> None:
    replica = await scene.start(amqp_check_seconds=60)
    async with scene.load() as load:
        await load.goes_on()
        # Stopped, so that nothing is published while some bindings are there and some are not.
        with replica.stopped():
            await unbind(scene.settings, ALL)
        await load.goes_on()
    await scene.check()
    assert replica.relay()["refused"] > 0
    figures = f"{replica.relay()['refused']:,} returned; {scene.ledger.figures()}"
    observed(7, "all bindings removed at once", "returned events wait until they are back", figures)


async def remove_queues(channel: AbstractChannel) -> None:
    for queue in (*QUEUES, topology.DEAD_LETTERS):
        await channel.queue_delete(queue)


async def remove_all(channel: AbstractChannel) -> None:
    await remove_queues(channel)
    await remove_exchange(channel)


async def take_another_type(channel: AbstractChannel) -> None:
    await channel.exchange_delete(topology.EXCHANGE)
    await channel.declare_exchange(topology.EXCHANGE, "fanout", durable=True)


async def remove_exchange(channel: AbstractChannel) -> None:
    await channel.exchange_delete(topology.EXCHANGE)


Change = Callable[[AbstractChannel], Awaitable[None]]


@pytest.mark.parametrize(
    ("fault", "breaks", "mends", "error"),
    [
        ("no exchange and no queues", remove_all, None, None),
        ("no exchange", remove_exchange, None, None),
        ("no queues", remove_queues, None, None),
        (
            "an exchange of the wrong type (406)",
            take_another_type,
            remove_exchange,
            "ChannelPreconditionFailed",
        ),
    ],
)
async def test_a_replica_starts_on_any_topology(
    scene: Scene,
    virtual_host: VirtualHost,
    observed: Observe,
    fault: str,
    breaks: Change,
    mends: Change | None,
    error: str | None,
) -> None:
    async with broker.connect(scene.settings) as connection:
        await breaks(await connection.channel())
    # Nobody tells the client that its queue is gone.
    await asyncio.to_thread(virtual_host.control, "close_all_connections", "the queues are gone")
    replica = await scene.start()
    async with scene.load() as load:
        await load.goes_on()
        if error:
            await eventually(lambda: replica.relay()["last_error"] == error, 10, error)
        if mends:
            async with broker.connect(scene.settings) as connection:
                await mends(await connection.channel())
            await load.goes_on()
    await scene.check()
    held = "events wait until the exchange is mended" if mends else "made before the first event"
    observed(8, f"start with {fault}", held, scene.ledger.figures())


async def test_a_replica_with_a_wrong_password_goes_on_once_it_is_right(
    scene: Scene, virtual_host: VirtualHost, observed: Observe
) -> None:
    with virtual_host.a_user("right") as url:
        replica = await scene.start(amqp_url=url.replace(":right@", ":wrong@"))
        async with scene.load() as load:
            await load.goes_on()
            assert replica.relay()["state"] == "connecting"
            rotate = ("change_password", virtual_host.name, "wrong")
            await asyncio.to_thread(virtual_host.broker.control, *rotate)
            await load.goes_on()
        await scene.check()
    held = "events wait, creates go on, no restart is needed"
    observed(8, "start with wrong credentials", held, scene.ledger.figures())
