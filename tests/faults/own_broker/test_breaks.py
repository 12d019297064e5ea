"""Scenario 9: what a broker is told to break, by whoever looks after it, under load."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from dev.rabbitmq import RabbitMQ
from service import broker
from service.settings import Settings
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.own_broker.conftest import control, two_replicas
from tests.observed import Observe
from tests.proxies import Link, Proxy

# How every connection begins.
GREETING = b"AMQP\x00\x00\x09\x01"

# Seconds from when nothing is broken any more.
LATEST = 20

# Attempts of one replica in any second.
MOST = 5

Start = Callable[[str], Awaitable[Proxy]]


class Attempts:
    """When one replica tried to connect."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._times: list[float] = []
        self._watch()

    def _watch(self) -> None:
        self._proxy.there.when(GREETING, self._note)

    def _note(self, _link: Link) -> None:
        self._times.append(time.monotonic())
        self._watch()

    @property
    def count(self) -> int:
        return len(self._times)

    @property
    def most_in_a_second(self) -> int:
        return max(
            sum(begin <= other < begin + 1 for other in self._times) for begin in self._times
        )


async def _watched_replicas(scene: Scene, start_proxy: Start) -> list[Attempts]:
    proxies = [await start_proxy(scene.settings.amqp_url) for _ in range(2)]
    attempts = [Attempts(proxy) for proxy in proxies]
    await two_replicas(scene, *proxies)
    return attempts


async def _hold(
    scene: Scene,
    attempts: list[Attempts],
    observed: Observe,
    fault: str,
) -> None:
    """What holds after all of these."""
    most, count = max(a.most_in_a_second for a in attempts), sum(a.count for a in attempts)
    await scene.check()
    assert most <= MOST
    observed(
        9,
        fault,
        f"nothing lost, a replica tries to connect {MOST} times a second at most",
        f"{count} attempts, {most} in the worst second of one; {scene.ledger.figures()}",
    )


async def test_an_exchange_that_is_deleted_under_load_loses_nothing(
    scene: Scene, start_proxy: Start, observed: Observe
) -> None:
    attempts = await _watched_replicas(scene, start_proxy)
    async with scene.load() as load:
        for _ in range(5):
            await load.goes_on()
            await _delete_exchange(scene.settings)
        await load.goes_on()
        await emptied(scene.connection, LATEST)
    await _hold(scene, attempts, observed, "the exchange is deleted, five times")


async def _delete_exchange(settings: Settings) -> None:
    async with broker.connect(settings) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(broker.EXCHANGE)


async def test_connections_that_are_closed_by_force_lose_nothing(
    scene: Scene, rabbitmq: RabbitMQ, start_proxy: Start, observed: Observe
) -> None:
    attempts = await _watched_replicas(scene, start_proxy)
    async with scene.load() as load:
        for _ in range(5):
            await load.goes_on()
            await control(rabbitmq, "close_all_connections", "maintenance")
        await load.goes_on()
        await emptied(scene.connection, LATEST)
    await _hold(scene, attempts, observed, "connections closed by force, five times")


async def test_a_password_that_is_changed_under_load_loses_nothing(
    scene: Scene, rabbitmq: RabbitMQ, start_proxy: Start, observed: Observe
) -> None:
    attempts = await _watched_replicas(scene, start_proxy)
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
    await _hold(scene, attempts, observed, "password changed while events leave, and back")
