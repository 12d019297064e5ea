"""Scenario 9: what a broker is told to break, by whoever looks after it, under load."""

import asyncio
from urllib.parse import urlsplit

import pytest
from aio_pika.abc import AbstractChannel

from dev.rabbitmq import RabbitMQ
from service import broker, topology
from service.settings import Settings
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.own_broker.attempts import Start, hold, watched_replicas
from tests.faults.own_broker.conftest import control
from tests.faults.test_topologies import Change, remove_exchange, take_another_type
from tests.observed import Observe

# Seconds from when nothing is broken any more.
LATEST = 20

# Seconds for which an attempt to connect fails.
_LASTS = 6

# Each channel that confirms what it is sent, which ours are, is closed as over an error of its own;
# the answer is how many.
CLOSE_CHANNELS = """
    length([Reader ! {channel_exit, Number, {amqp_error, not_found, "maintenance", none}}
            || Channel <- rabbit_channel:list_local(),
               [{connection, Reader}, {number, Number}, {confirm, true}]
                   <- [rabbit_channel:info(Channel, [connection, number, confirm])]]).
"""


@pytest.mark.parametrize("exchange", [topology.EXCHANGE, topology.FAN_OUT])
async def test_an_exchange_that_is_deleted_under_load_loses_nothing(
    scene: Scene, start_proxy: Start, observed: Observe, exchange: str
) -> None:
    async def remove(channel: AbstractChannel) -> None:
        await channel.exchange_delete(exchange)

    proxies = await watched_replicas(scene, start_proxy)
    async with scene.load() as load:
        for _ in range(5):
            await load.goes_on()
            await _change(scene.settings, remove)
        await load.goes_on()
        await emptied(scene.connection, LATEST)
    await hold(scene, proxies, observed, f"the exchange `{exchange}` is deleted, five times")


async def test_an_exchange_that_has_another_type_is_not_asked_for_all_the_time(
    scene: Scene, start_proxy: Start, observed: Observe
) -> None:
    proxies = await watched_replicas(scene, start_proxy)
    async with scene.load() as load:
        await load.goes_on()
        await _change(scene.settings, take_another_type)
        # Each attempt succeeds as far as the connection goes, and is refused at once after it.
        await asyncio.sleep(_LASTS)
        relays = [await asyncio.to_thread(replica.relay) for replica in scene.replicas]
        assert {relay["last_error"] for relay in relays} == {"ChannelPreconditionFailed"}
        await load.goes_on()
        await _change(scene.settings, remove_exchange)
        await emptied(scene.connection, LATEST)
    await hold(scene, proxies, observed, f"the exchange has another type (406) for {_LASTS} s")


async def _change(settings: Settings, change: Change) -> None:
    async with broker.connect(settings) as connection:
        await change(await connection.channel())


async def test_a_port_that_takes_no_connection_is_not_asked_all_the_time(
    scene: Scene, start_proxy: Start, observed: Observe
) -> None:
    proxies = await watched_replicas(scene, start_proxy)
    async with scene.load() as load:
        await load.goes_on()
        for proxy in proxies:
            proxy.refusing = True
            proxy.cut()
        await asyncio.sleep(_LASTS)
        await load.goes_on()
        for proxy in proxies:
            proxy.refusing = False
        await emptied(scene.connection, LATEST)
    await hold(scene, proxies, observed, f"every connection is reset at once, for {_LASTS} s")


async def test_channels_that_the_broker_closes_lose_nothing(
    scene: Scene, rabbitmq: RabbitMQ, start_proxy: Start, observed: Observe
) -> None:
    proxies = await watched_replicas(scene, start_proxy)
    closed = 0
    async with scene.load() as load:
        for _ in range(5):
            await load.goes_on()
            closed += int(await control(rabbitmq, "eval", CLOSE_CHANNELS))
        await load.goes_on()
        await emptied(scene.connection, LATEST)
    # A relay that is just about to connect has none.
    assert closed >= 5
    await hold(scene, proxies, observed, "the broker closes their channels (404), five times")


async def test_connections_that_are_closed_by_force_lose_nothing(
    scene: Scene, rabbitmq: RabbitMQ, start_proxy: Start, observed: Observe
) -> None:
    proxies = await watched_replicas(scene, start_proxy)
    async with scene.load() as load:
        for _ in range(5):
            await load.goes_on()
            await control(rabbitmq, "close_all_connections", "maintenance")
        await load.goes_on()
        await emptied(scene.connection, LATEST)
    await hold(scene, proxies, observed, "connections closed by force, five times")


async def test_a_password_that_is_changed_under_load_loses_nothing(
    scene: Scene, rabbitmq: RabbitMQ, start_proxy: Start, observed: Observe
) -> None:
    proxies = await watched_replicas(scene, start_proxy)
    login = urlsplit(rabbitmq.url)
    assert login.username
    assert login.password
    async with scene.load() as load:
        await load.goes_on()
        await control(rabbitmq, "change_password", login.username, "another")
        try:
            await control(rabbitmq, "close_all_connections", "maintenance")
            await load.goes_on()
            await asyncio.sleep(5)
        finally:
            await control(rabbitmq, "change_password", login.username, login.password)
        await emptied(scene.connection, LATEST)
    await hold(scene, proxies, observed, "password changed while events leave, and back")
