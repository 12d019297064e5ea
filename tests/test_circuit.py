"""What the relay does when attempts fail: slower, one at a time, and never at others' expense."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service import broker, queries, settlement
from service.app import create_app
from service.postgres import Connection
from service.relay import RELAY, Relay
from service.settings import Settings
from tests.conftest import Client, Start, insert_event, relay_of
from tests.consumers import Consumer, eventually, is_publishing, outbox_is_empty
from tests.test_create import EXAMPLE
from tests.virtual_hosts import VirtualHost


async def make(connection: Connection, campaign_id: int, headers: dict[str, object]) -> None:
    """An event that the service would not have stored, in front of all others."""
    await insert_event(connection, campaign_id, 1)
    await connection.execute(
        "UPDATE outbox SET headers = $2, next_attempt_at = now() - interval '1 hour'"
        " WHERE campaign_id = $1",
        campaign_id,
        json.dumps(headers),
    )


async def test_an_event_of_an_unknown_type_is_parked_and_disturbs_nobody(
    idle_client: Client, settings: Settings, publisher: broker.Publisher, connection: Connection
) -> None:
    await insert_event(connection, 999, 1, event_type="campaign.unheard")
    for _ in range(3):
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    outcomes = await relay_of(idle_client, settings).step(publisher)
    assert (outcomes["confirmed"], outcomes["parked"]) == (3, 1)
    assert publisher.doubt is None
    row = await connection.fetchrow("SELECT * FROM outbox WHERE next_attempt_at = 'infinity'")
    assert row is not None
    assert (row["campaign_id"], row["attempts"]) == (999, 1)
    assert row["last_error"] == "no queue is meant for events of type 'campaign.unheard'"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        # The broker wants a list there, and closes the channel over anything else.
        ({"CC": "nobody"}, "the broker rejects it: PRECONDITION_FAILED"),
        # The integers of AMQP are signed.
        ({"count": 2**63}, "it cannot be sent: "),
    ],
)
async def test_an_event_over_which_the_channel_ends_is_found_and_parked(
    apart: Settings,
    idle_client: Client,
    connection: Connection,
    headers: dict[str, object],
    reason: str,
) -> None:
    for _ in range(20):
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    await make(connection, 999, headers)
    await insert_event(connection, 999, 2)
    relay = relay_of(idle_client, apart)
    async with running(relay):
        await eventually(lambda: only_its_campaign_is_left(connection), 20, "the parking")
    row = await connection.fetchrow("SELECT * FROM outbox WHERE next_attempt_at = 'infinity'")
    assert row is not None
    assert (row["campaign_id"], row["sequence"]) == (999, 1)
    assert row["last_error"].startswith(reason)
    assert relay.status()["parked"] == 1


async def only_its_campaign_is_left(connection: Connection) -> bool:
    row = await connection.fetchrow("SELECT count(*), max(next_attempt_at)::text FROM outbox")
    assert row is not None
    return tuple(row) == (2, "infinity")


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run())
    yield
    relay.stop()
    await asyncio.wait_for(task, 10)


async def test_a_full_queue_is_asked_with_one_event_at_a_time_until_it_takes_them(
    apart: Settings,
    virtual_host: VirtualHost,
    api_key: str,
    aiohttp_client: Start,
    consume: Callable[[Settings], Awaitable[Consumer]],
    connection: Connection,
) -> None:
    app = create_app(replace(apart, relay_batch_size=4))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})

    def status() -> dict[str, object]:
        return app[RELAY].status()

    await is_publishing(app[RELAY])
    await asyncio.to_thread(virtual_host.limit, "campaign.start", 1)
    for _ in range(30):
        await client.post("/api/v1/campaigns", json=EXAMPLE)
    await eventually(lambda: status()["state"] == "refused", 10, "a refusal")
    assert (status()["circuit"], status()["window"]) == ("half-open", 1)
    assert await connection.fetchval("SELECT bool_and(attempts <= 1) FROM outbox")
    consumer = await consume(apart)
    await consumer.events(30, seconds=60)
    await outbox_is_empty(connection)
    assert (status()["state"], status()["circuit"]) == ("publishing", "closed")


async def test_what_one_queue_refuses_is_no_flood_to_the_others(
    apart: Settings, virtual_host: VirtualHost, api_key: str, aiohttp_client: Start
) -> None:
    app = create_app(apart)
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    await is_publishing(app[RELAY])
    await asyncio.to_thread(virtual_host.limit, "campaign.start", 1)
    for _ in range(50):
        await client.post("/api/v1/campaigns", json=EXAMPLE)
    await eventually(lambda: app[RELAY]._failures >= 4, 20, "some refusals")
    async with broker.connect(apart) as other:
        queue = await (await other.channel()).declare_queue("campaign.import", passive=True)
    # The batch that was under way when the queue was full, and one more at each attempt.
    assert (queue.declaration_result.message_count or 0) <= apart.relay_batch_size / 2


async def test_after_a_failure_batches_grow_from_one(
    idle_client: Client, settings: Settings
) -> None:
    relay = relay_of(idle_client, replace(settings, relay_batch_size=10))
    relay.stop()  # So that its pause is over at once.
    await relay._pause("connecting", "a failure")
    sizes = [relay._window]
    for _ in range(5):
        await relay._judge(Counter(confirmed=1))
        sizes.append(relay._window)
    assert sizes == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(
    ("events", "again", "postponed"),
    [
        (1, False, False),  # The connection may have broken by itself.
        (1, True, True),  # It may be the reason.
        (2, True, False),  # Nobody knows which of the two it is.
    ],
)
async def test_an_event_that_fails_alone_once_more_lets_others_go_first(
    connection: Connection, events: int, again: bool, postponed: bool
) -> None:
    for campaign_id in range(events):
        await insert_event(connection, campaign_id, 1)
    claimed = await queries.claim_events(connection, limit=10)
    results = [(event, TimeoutError()) for event in claimed]
    assert await settlement.settle(connection, results, again=again) == {
        "confirmed": 0,
        "unknown": events,
    }
    row = await connection.fetchrow(
        "SELECT next_attempt_at > now() AS later, last_error FROM outbox"
    )
    assert row is not None
    assert row["later"] is postponed
    assert row["last_error"] == ("its outcome is unknown: TimeoutError" if postponed else None)


@pytest.mark.parametrize(
    ("events", "again", "outcome"),
    [
        (1, True, "parked"),
        (1, False, "unknown"),  # Whatever it was may be over.
        (2, True, "unknown"),  # Nobody knows which of the two it is.
    ],
)
async def test_only_an_event_that_was_rejected_alone_and_again_is_parked(
    connection: Connection, events: int, again: bool, outcome: str
) -> None:
    for campaign_id in range(events):
        await insert_event(connection, campaign_id, 1)
    claimed = await queries.claim_events(connection, limit=10)
    results = [(event, broker.Rejected("406")) for event in claimed]
    assert (await settlement.settle(connection, results, again=again))[outcome] == events
    parked = await connection.fetchval(
        "SELECT count(*) FROM outbox WHERE next_attempt_at = 'infinity'"
    )
    assert parked == (1 if outcome == "parked" else 0)


async def test_batches_of_one_are_a_half_open_circuit_only_after_a_failure(
    idle_client: Client, settings: Settings
) -> None:
    relay = relay_of(idle_client, replace(settings, relay_batch_size=1))
    relay.stop()  # So that its pause is over at once.
    await relay._pause("connecting", "a failure")
    assert relay.status()["circuit"] == "half-open"
    await relay._judge(Counter(confirmed=1))
    assert relay.status()["circuit"] == "closed"
