"""RabbitMQ: the topology, and what a publish may come to."""

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from service import broker, events, queries, topology
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, insert_event
from tests.consumers import QUEUES, eventually
from tests.test_create import EXAMPLE


@pytest.mark.usefixtures("publisher")
async def test_the_topology_is_the_promised_one(settings: Settings) -> None:
    quorum: FieldTable = {"x-queue-type": "quorum"}
    consumed: FieldTable = quorum | {
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "campaign.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with broker.connect(settings) as connection:
        channel = await connection.channel()
        # The broker refuses to declare what exists with other arguments.
        await channel.declare_exchange("campaign.events", "topic", durable=True)
        await channel.declare_exchange("campaign.consumers", "fanout", durable=True, internal=True)
        await channel.declare_queue("campaign.dead", durable=True, arguments=quorum)
        for name in QUEUES:
            await channel.declare_queue(name, durable=True, arguments=consumed)


values = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    event=st.builds(
        events.Event,
        organization_id=st.just(1),
        campaign_id=st.just(1),
        sequence=st.just(1),
        id=st.uuids(),
        type=st.sampled_from(topology.EVENT_TYPES),
        body=st.binary(max_size=300),
        headers=st.dictionaries(st.sampled_from(["request-id", "traceparent", "x"]), values),
        time=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    )
)
def test_the_header_of_an_event_is_what_the_client_would_write(event: events.Event) -> None:
    properties = Basic.Properties(
        content_type="application/cloudevents+json",
        headers=cast("FieldTable", event.headers),
        delivery_mode=2,
        message_id=str(event.id),
        timestamp=event.time,
        message_type=event.type,
    )
    theirs = ContentHeader(body_size=len(event.body), properties=properties).marshal()
    assert broker._header(event) == theirs


async def test_an_event_that_no_attempt_can_handle_ends_among_the_dead_letters(
    settings: Settings, client: Client
) -> None:
    async with broker.publisher(settings), broker.connect(settings) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("campaign.start")
        dead = await channel.get_queue("campaign.dead")
        await queue.purge()
        await dead.purge()
        await client.post("/api/v1/campaigns", json=EXAMPLE)
        bodies = set()
        for _ in range(21):  # The delivery limit, and the first delivery.
            message = await _next(queue)
            bodies.add(message.body)
            await message.reject(requeue=True)
        assert {(await _next(dead)).body} == bodies


async def _next(queue: AbstractQueue) -> AbstractIncomingMessage:
    got: list[AbstractIncomingMessage] = []

    async def has_come() -> bool:
        if message := await queue.get(timeout=5, fail=False):
            got.append(message)
        return bool(got)

    await eventually(has_come, 10, f"a message in {queue.name}")
    return got[0]


async def test_a_dead_peer_is_noticed_within_seconds(settings: Settings) -> None:
    async with broker.connect(settings) as connection:
        transport = cast(Any, connection).transport
        assert transport.connection.connection_tune.heartbeat == 5


async def test_a_broker_that_says_nothing_is_given_up(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        mute = replace(settings, amqp_url=url, amqp_timeout_seconds=0.2)
        with pytest.raises(broker.ERRORS):
            async with asyncio.timeout(10), broker.connect(mute):
                pass


async def test_an_event_without_an_answer_asks_for_a_new_connection(
    publisher: broker.Publisher, connection: Connection
) -> None:
    await insert_event(connection, 1, 1)
    batch = await queries.claim_events(connection, limit=1)
    publisher._timeout_seconds = 1e-9
    [error] = await publisher.publish(batch)
    assert isinstance(error, TimeoutError)
    assert publisher.doubt == "the outcome of an event is unknown: TimeoutError"
