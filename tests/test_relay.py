"""The relay step by step, and through outages."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from dev.rabbitmq import RabbitMQ
from service import broker, postgres, queries, relay
from service.postgres import POOL, Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client
from tests.consumers import Consumer, eventually, outbox_is_empty
from tests.processes import Service
from tests.test_create import EXAMPLE


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A node that a test may stop."""
    node = RabbitMQ(tmp_path_factory.mktemp("broker"))
    node.start()
    node.wait()
    yield node
    node.child.stop()


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
    # A quorum queue that is stopped right after its declaration may lose what it confirmed.
    await asyncio.sleep(10)
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


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[broker.Publisher]:
    async with broker.publisher(settings) as opened:
        yield opened


async def test_a_step_publishes_one_batch_and_says_how_many(
    idle_client: Client, settings: Settings, publisher: broker.Publisher, connection: Connection
) -> None:
    for _ in range(3):
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    assert idle_client.app is not None
    stepped = relay.Relay(idle_client.app[POOL], replace(settings, relay_batch_size=2))
    assert [await stepped.step(publisher) for _ in range(3)] == [2, 1, 0]
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_oldest_event_of_a_campaign_goes_first_and_alone(
    connection: Connection,
) -> None:
    for sequence in (2, 1, 3):
        await _insert_event(connection, campaign_id=7, sequence=sequence)
    await _insert_event(connection, campaign_id=8, sequence=1)
    async with connection.transaction():
        claimed = await queries.claim_events(connection, limit=10)
    assert {(event.campaign_id, event.sequence) for event in claimed} == {(7, 1), (8, 1)}


async def test_events_that_one_relay_holds_are_passed_over_by_another(
    connection: Connection, settings: Settings
) -> None:
    for campaign_id in (1, 2):
        await _insert_event(connection, campaign_id=campaign_id, sequence=1)
    async with postgres.connect(settings) as other, connection.transaction():
        [held] = await queries.claim_events(connection, limit=1)
        [free] = await queries.claim_events(other, limit=10)
    assert {held.campaign_id, free.campaign_id} == {1, 2}


async def test_an_event_of_unknown_outcome_stays_as_it_was(
    idle_client: Client, settings: Settings, connection: Connection
) -> None:
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    before = await connection.fetchrow("SELECT * FROM outbox")
    async with broker.publisher(settings) as broken:
        await broken._channel.close()
        assert idle_client.app is not None
        await relay.Relay(idle_client.app[POOL], settings).step(broken)
        assert broken.doubt
    assert await connection.fetchrow("SELECT * FROM outbox") == before


async def test_a_publish_that_is_not_answered_in_time_is_of_unknown_outcome(
    idle_client: Client, settings: Settings, own_broker: RabbitMQ, connection: Connection
) -> None:
    settings = replace(settings, amqp_url=own_broker.url, amqp_timeout_seconds=0.5)
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    before = await connection.fetchrow("SELECT * FROM outbox")
    assert idle_client.app is not None
    patient = replace(settings, amqp_timeout_seconds=10)
    async with broker.publisher(patient) as publisher:
        publisher._timeout_seconds = settings.amqp_timeout_seconds
        own_broker.child.process.send_signal(signal.SIGSTOP)
        try:
            await relay.Relay(idle_client.app[POOL], settings).step(publisher)
        finally:
            own_broker.child.process.send_signal(signal.SIGCONT)
        assert publisher.doubt == "the outcome of an event is unknown: TimeoutError"
    assert await connection.fetchrow("SELECT * FROM outbox") == before


async def test_an_event_that_no_queue_takes_is_tried_again_later_and_says_why(
    settings: Settings, connection: Connection, idle_client: Client, publisher: broker.Publisher
) -> None:
    await _insert_event(connection, campaign_id=1, sequence=1, event_type="campaign.unheard")
    assert idle_client.app is not None
    await relay.Relay(idle_client.app[POOL], settings).step(publisher)
    row = await connection.fetchrow("SELECT *, next_attempt_at > now() AS later FROM outbox")
    assert row is not None
    assert (row["attempts"], row["later"]) == (1, True)
    assert row["last_error"] == "an event was returned: no queue is bound for it"


async def test_the_service_declares_the_topology_anew_after_an_event_was_returned(
    settings: Settings, client: Client, consumer: Consumer
) -> None:
    async with broker.connect(settings) as connection:
        channel = await connection.channel()
        for name in broker.QUEUES:
            queue = await channel.get_queue(name)
            await queue.unbind(broker.EXCHANGE, routing_key="campaign.created")
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await consumer.events(1)


async def test_a_future_that_the_client_cancels_itself_does_not_end_the_relay(
    idle_client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = broker.publisher
    attempts: list[Settings] = []

    def cancelled_at_first(settings: Settings) -> AbstractAsyncContextManager[broker.Publisher]:
        attempts.append(settings)
        if len(attempts) == 1:
            raise asyncio.CancelledError  # No broker provokes it at will.
        return real(settings)

    monkeypatch.setattr(broker, "publisher", cancelled_at_first)
    assert idle_client.app is not None
    survivor = relay.Relay(idle_client.app[POOL], settings)
    running = asyncio.create_task(survivor.run())
    await eventually(lambda: survivor.status()["state"] == "publishing", 10, "a second attempt")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_stopped_relay_ends_soon_although_the_broker_is_away(
    idle_client: Client, settings: Settings
) -> None:
    assert idle_client.app is not None
    stopped = relay.Relay(idle_client.app[POOL], replace(settings, amqp_url=NOWHERE))
    running = asyncio.create_task(stopped.run())
    await eventually(lambda: stopped.status()["last_error"] is not None, 10, "a failed attempt")
    stopped.stop()
    await asyncio.wait_for(running, 2)
    assert stopped.status()["state"] == "stopped"


async def _insert_event(
    connection: Connection,
    campaign_id: int,
    sequence: int,
    event_type: str = "campaign.created",
) -> None:
    await connection.execute(
        """
        INSERT INTO outbox (organization_id, campaign_id, sequence, event_id, event_type,
                            body, headers, created_at)
        VALUES (1, $1, $2, gen_random_uuid(), $3, '{}', '{}', now())
        """,
        campaign_id,
        sequence,
        event_type,
    )
