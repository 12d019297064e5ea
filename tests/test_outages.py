"""Services that are killed, and a broker that is away: nothing is lost."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from dev.rabbitmq import RabbitMQ
from service import broker, queries
from service.postgres import Connection
from service.settings import Settings
from tests.brokers import settle
from tests.conftest import NOWHERE, Client, relay_of
from tests.consumers import Consumer, eventually, outbox_is_empty
from tests.processes import Service
from tests.proxies import Proxy
from tests.test_create import EXAMPLE


async def test_a_service_that_is_killed_between_commit_and_publish_loses_nothing(
    settings: Settings,
    api_key: str,
    start_service: Callable[[Settings], Service],
    consumer: Consumer,
) -> None:
    without_broker = start_service(replace(settings, amqp_url=NOWHERE))
    answer = without_broker.create(api_key, EXAMPLE)
    without_broker.kill()
    assert answer.status_code == 201
    assert not any(consumer.messages.values())

    start_service(settings)
    arrived = await consumer.events(1)
    assert [events[0]["data"]["campaign"] for events in arrived.values()] == [answer.json()] * 3


async def test_a_service_that_is_killed_while_it_publishes_frees_its_events_at_once(
    settings: Settings,
    api_key: str,
    own_broker: RabbitMQ,
    start_service: Callable[[Settings], Service],
    consume: Callable[[Settings], Awaitable[Consumer]],
    connection: Connection,
) -> None:
    settings = replace(settings, amqp_url=own_broker.url)
    consumer = await consume(settings)
    service = start_service(settings)
    await asyncio.to_thread(service.wait_for_relay)
    own_broker.child.process.send_signal(signal.SIGSTOP)
    try:
        answer = await asyncio.to_thread(service.create, api_key, EXAMPLE)
        await eventually(lambda: _is_claimed(connection), 10, "a claim of the event")
        service.kill()
        await eventually(lambda: _is_free(connection), 10, "the event being free again")
    finally:
        own_broker.child.process.send_signal(signal.SIGCONT)
    start_service(settings)
    for events in (await consumer.events(1)).values():
        assert [event["data"]["campaign"] for event in events[:1]] == [answer.json()]


async def _is_free(connection: Connection) -> bool:
    async with connection.transaction():
        return bool(await queries.claim_events(connection, limit=1))


async def _is_claimed(connection: Connection) -> bool:
    return not await _is_free(connection)


async def test_two_services_on_one_database_deliver_every_event(
    settings: Settings,
    api_key: str,
    start_service: Callable[[Settings], Service],
    consumer: Consumer,
    connection: Connection,
) -> None:
    services = [start_service(settings), start_service(settings)]
    answers = await asyncio.gather(
        *(asyncio.to_thread(services[number % 2].create, api_key, EXAMPLE) for number in range(100))
    )
    created = {answer.json()["id"] for answer in answers}
    assert {answer.status_code for answer in answers} == {201}
    assert len(created) == 100
    for events in (await consumer.events(100)).values():
        assert {event["data"]["campaign"]["id"] for event in events} == created
    await outbox_is_empty(connection)


async def test_fifty_campaigns_are_created_while_the_broker_is_stopped_and_arrive_later(
    settings: Settings,
    api_key: str,
    own_broker: RabbitMQ,
    start_service: Callable[[Settings], Service],
    consume: Callable[[Settings], Awaitable[Consumer]],
) -> None:
    settings = replace(settings, amqp_url=own_broker.url)
    service = start_service(settings)
    assert service.create(api_key, EXAMPLE).status_code == 201
    await settle(settings)
    own_broker.child.stop()

    answers = [await asyncio.to_thread(service.create, api_key, EXAMPLE) for _ in range(50)]
    assert {answer.status_code for answer in answers} == {201}

    own_broker.start()
    await asyncio.to_thread(own_broker.wait)
    consumer = await consume(settings)
    for events in (await consumer.events(51, seconds=40)).values():
        assert {answer.json()["id"] for answer in answers} <= {
            event["data"]["campaign"]["id"] for event in events
        }


async def test_a_publish_that_is_not_answered_in_time_is_of_unknown_outcome(
    idle_client: Client, settings: Settings, own_broker: RabbitMQ, connection: Connection
) -> None:
    settings = replace(settings, amqp_url=own_broker.url, amqp_timeout_seconds=0.5)
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    before = await connection.fetchrow("SELECT * FROM outbox")
    patient = replace(settings, amqp_timeout_seconds=10)
    async with broker.publisher(patient) as publisher:
        publisher._timeout_seconds = settings.amqp_timeout_seconds
        own_broker.child.process.send_signal(signal.SIGSTOP)
        try:
            await relay_of(idle_client, settings).step(publisher)
        finally:
            own_broker.child.process.send_signal(signal.SIGCONT)
        assert publisher.doubt == "the outcome of an event is unknown: TimeoutError"
    assert await connection.fetchrow("SELECT * FROM outbox") == before


async def test_a_service_ends_in_time_when_its_database_does_not_answer(
    settings: Settings,
    api_key: str,
    start_service: Callable[[Settings], Service],
    start_proxy: Callable[[str], Awaitable[Proxy]],
) -> None:
    proxy = await start_proxy(settings.database_url)
    assert settings.relay_database_url
    relays = await start_proxy(settings.relay_database_url)
    settings = replace(
        settings,
        database_url=proxy.url,
        relay_database_url=relays.url,
        database_timeout_seconds=30,
        shutdown_seconds=4,
    )
    service = await asyncio.to_thread(start_service, settings)
    await asyncio.to_thread(service.wait_for_relay)
    creating = (asyncio.to_thread(service.create, api_key, EXAMPLE) for _ in range(5))
    assert {answer.status_code for answer in await asyncio.gather(*creating)} == {201}
    proxy.passing.clear()
    relays.passing.clear()
    under_way = asyncio.create_task(asyncio.to_thread(service.create, api_key, EXAMPLE))
    await eventually(lambda: proxy.holds > 0, 10, "a create that waits")
    # Not twice or thrice the seconds that it has.
    assert await asyncio.to_thread(service.stop, 9) == 0
    with suppress(OSError):
        await under_way
