"""Exchange, queues and bindings: what is missing is made, and loses nothing that it need not."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError

from service import broker, events, ids, queries, tail, topology
from service.app import create_app
from service.postgres import Connection
from service.relay import RELAY
from service.settings import Settings
from tests.conftest import Client, Start, relay_of
from tests.consumers import QUEUES, Consumer, eventually, is_publishing, outbox_is_empty
from tests.test_create import EXAMPLE
from tests.virtual_hosts import VirtualHost


def bindings(host: VirtualHost) -> set[tuple[str, str]]:
    """Queue or exchange, and key, of each that leads from one of ours."""
    lines = host.control("list_bindings", "source_name", "destination_name", "routing_key")
    rows = [line.split("\t") for line in lines.splitlines()]
    return {(row[1], row[2]) for row in rows if row[0] in {topology.EXCHANGE, topology.FAN_OUT}}


async def unbind(settings: Settings, pairs: set[tuple[str, str]]) -> None:
    async with broker.connect(settings) as connection:
        channel = await connection.channel()
        for name, routing_key in pairs:
            if name == topology.FAN_OUT:
                exchange = await channel.get_exchange(name, ensure=False)
                await exchange.unbind(topology.EXCHANGE, routing_key)
            else:
                queue = await channel.get_queue(name, ensure=False)
                await queue.unbind(topology.FAN_OUT, routing_key=routing_key)


BETWEEN = {(topology.FAN_OUT, key) for key in topology.KEYS}
ALL = BETWEEN | {(queue, way) for queue in QUEUES for way in topology.WAYS}


@pytest.mark.parametrize(
    ("name", "lost"),
    [*product(QUEUES, topology.WAYS), *product([topology.FAN_OUT], [events.CREATED, "*.created"])],
)
async def test_an_event_reaches_all_queues_when_one_binding_is_lost_whoever_else_listens(
    settings: Settings,
    publisher: broker.Publisher,
    idle_client: Client,
    consumer: Consumer,
    name: str,
    lost: str,
) -> None:
    await unbind(settings, {(name, lost)})
    async with tail.events(settings):
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
        await relay_of(idle_client, settings).step(publisher)
        await consumer.events(1)


async def test_an_event_that_only_somebody_who_watches_would_get_is_returned(
    apart: Settings, idle_client: Client
) -> None:
    async with broker.publisher(apart) as publisher, tail.events(apart):
        await unbind(apart, BETWEEN)
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
        outcomes = await relay_of(idle_client, apart).step(publisher)
    assert outcomes["refused"] == 1


@pytest.mark.parametrize("exchange", [topology.EXCHANGE, topology.FAN_OUT])
async def test_an_exchange_that_is_made_anew_leads_to_all_queues_or_to_none(
    apart: Settings, exchange: str
) -> None:
    confirmed = []
    async with broker.publisher(apart) as maker, broker.connect(apart) as other:
        for _ in range(10):
            await (await other.channel()).exchange_delete(exchange)
            publishing = asyncio.create_task(first_that_is_confirmed(other))
            await maker.ensure_topology(set())
            confirmed.append(await asyncio.wait_for(publishing, 10))
        channel = await other.channel()
        for name in QUEUES:
            queue = await channel.get_queue(name)
            messages = [await queue.get(no_ack=True, fail=False) for _ in confirmed]
            assert [message and message.message_id for message in messages] == confirmed, name


async def first_that_is_confirmed(connection: AbstractConnection) -> str:
    """Publish one after the other, until the broker says that it has stored one."""
    while True:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(topology.EXCHANGE, ensure=False)
        message = Message(b"", message_id=str(ids.new()))
        with suppress(AMQPError):
            await exchange.publish(message, events.CREATED)
            return str(message.message_id)


async def test_bindings_that_were_removed_are_back_within_the_check_interval(
    apart: Settings, aiohttp_client: Start, virtual_host: VirtualHost
) -> None:
    app = create_app(apart)
    await aiohttp_client(app)
    await eventually(lambda: bindings(virtual_host) == ALL, 20, "the topology")
    await unbind(apart, ALL)
    unbound_at = datetime.now(UTC)

    def is_checked() -> bool:
        checked_at = app[RELAY].status()["topology_checked_at"]
        return isinstance(checked_at, datetime) and checked_at > unbound_at

    await eventually(is_checked, 10, "a check")
    assert bindings(virtual_host) == ALL


async def test_a_queue_that_was_deleted_is_made_anew_and_told(
    apart: Settings,
    api_key: str,
    aiohttp_client: Start,
    consume: Callable[..., Awaitable[Consumer]],
) -> None:
    app = create_app(apart)
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    await is_publishing(app[RELAY])
    async with broker.connect(apart) as connection:
        await (await connection.channel()).queue_delete("campaign.start")
    reason = "the queue campaign.start was gone, and is made anew"
    await eventually(lambda: app[RELAY].status()["last_error"] == reason, 10, reason)
    assert app[RELAY].status()["queues_made"] == 1
    consumer = await consume(apart)
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await consumer.events(1)


async def test_a_queue_that_was_deleted_while_the_relay_was_cut_off_is_told(
    apart: Settings, aiohttp_client: Start, virtual_host: VirtualHost
) -> None:
    # So long that only the new connection can find it.
    app = create_app(replace(apart, amqp_check_seconds=600))
    await aiohttp_client(app)
    relay = app[RELAY]
    await is_publishing(relay)
    assert relay.status()["queues_made"] == 0
    async with broker.connect(apart) as connection:
        await (await connection.channel()).queue_delete("campaign.start")
    await asyncio.to_thread(virtual_host.control, "close_all_connections", "the queue is gone")
    await eventually(lambda: relay.status()["queues_made"] == 1, 20, "a queue that is made anew")


async def test_a_queue_that_is_gone_is_noted_although_the_rest_cannot_be_made(
    apart: Settings,
) -> None:
    gone: set[str] = set()
    async with broker.publisher(apart) as publisher, broker.connect(apart) as other:
        channel = await other.channel()
        await channel.queue_delete("campaign.start")
        await channel.exchange_delete(topology.EXCHANGE)
        await channel.declare_exchange(topology.EXCHANGE, "fanout", durable=True)
        with pytest.raises(broker.ERRORS):
            await publisher.ensure_topology(gone)
    assert gone == {"campaign.start"}


@pytest.mark.parametrize(
    "exchange",
    [
        pytest.param(topology.FAN_OUT, id="of a queue"),
        pytest.param(topology.EXCHANGE, id="between the exchanges"),
    ],
)
async def test_a_binding_that_is_refused_is_no_topology(
    apart: Settings, virtual_host: VirtualHost, exchange: str
) -> None:
    with virtual_host.a_user("secret") as url:
        # Whoever may not read an exchange may bind nothing to it.
        virtual_host.control("set_permissions", virtual_host.name, ".*", ".*", f"^(?!{exchange}$)")
        with pytest.raises(broker.ERRORS, match=r"ACCESS_REFUSED|closed"):
            async with broker.publisher(replace(apart, amqp_url=url)):
                pass


async def test_an_event_that_no_queue_takes_stays_and_asks_for_the_topology(
    apart: Settings, idle_client: Client, connection: Connection
) -> None:
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    async with broker.publisher(apart) as publisher:
        await delete_queues(await publisher._connection.channel())
        outcomes = await relay_of(idle_client, apart).step(publisher)
    assert outcomes["refused"] == 1
    assert publisher.doubt == "an event was returned: no queue is bound for it"
    row = await connection.fetchrow("SELECT *, next_attempt_at > now() AS later FROM outbox")
    assert row is not None
    assert (row["attempts"], row["later"], row["last_error"]) == (1, True, publisher.doubt)


async def delete_queues(channel: AbstractChannel) -> None:
    for name in QUEUES:
        await channel.queue_delete(name)


async def test_events_that_were_returned_arrive_once_the_queues_are_there(
    apart: Settings, api_key: str, aiohttp_client: Start, connection: Connection
) -> None:
    app = create_app(apart)
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    await is_publishing(app[RELAY])
    async with broker.connect(apart) as other:
        channel = await other.channel()
        await delete_queues(channel)
        await client.post("/api/v1/campaigns", json=EXAMPLE)
        await outbox_is_empty(connection)
        for name in QUEUES:
            assert (await (await channel.get_queue(name)).get(timeout=5)).routing_key


async def test_an_exchange_of_another_type_holds_events_until_it_is_gone(
    apart: Settings, api_key: str, aiohttp_client: Start, connection: Connection
) -> None:
    async with broker.connect(apart) as other:
        channel = await other.channel()
        await channel.declare_exchange(topology.EXCHANGE, "fanout", durable=True)
        app = create_app(apart)
        client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
        reason = "ChannelPreconditionFailed"
        await eventually(lambda: app[RELAY].status()["last_error"] == reason, 10, reason)
        assert (await client.post("/api/v1/campaigns", json=EXAMPLE)).status == 201
        assert await queries.outbox_exceeds(connection, 0)
        await channel.exchange_delete(topology.EXCHANGE)
    await outbox_is_empty(connection)
