"""The relay, step by step and as a loop."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import cast

import pytest
import structlog
from aiohttp import web

from service import broker, commits, events, postgres, queries, relay
from service.app import create_app, create_relay_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client, Start, insert_event, relay_of, somebody_waits_for_a_lock
from tests.consumers import Consumer, eventually, is_publishing, outbox_is_empty
from tests.test_circuit import running
from tests.test_create import EXAMPLE


async def test_a_step_publishes_one_batch_and_says_how_many(
    idle_client: Client, settings: Settings, publisher: broker.Publisher, connection: Connection
) -> None:
    for _ in range(3):
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    stepped = relay_of(idle_client, replace(settings, relay_batch_size=2))
    assert [(await stepped.step(publisher))["confirmed"] for _ in range(3)] == [2, 1, 0]
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_batch_is_locked_while_it_is_published(
    settings: Settings, connection: Connection, idle_client: Client
) -> None:
    await insert_event(connection, campaign_id=1, sequence=1)
    seen_by_another: list[list[events.Event]] = []

    class Publisher:
        async def publish(self, batch: Sequence[events.Event]) -> list[None]:
            seen_by_another.append(await queries.claim_events(connection, limit=10))
            return [None for _ in batch]

    stepped = relay_of(idle_client, settings)
    await stepped.step(cast(broker.Publisher, Publisher()))
    assert seen_by_another == [[]]


async def test_an_event_of_unknown_outcome_stays_as_it_was(
    idle_client: Client, settings: Settings, connection: Connection
) -> None:
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    before = await connection.fetchrow("SELECT * FROM outbox")
    async with broker.publisher(settings) as broken:
        await broken._channel.close()
        await relay_of(idle_client, settings).step(broken)
        assert broken.doubt
    assert await connection.fetchrow("SELECT * FROM outbox") == before


async def test_a_create_wakes_the_relay_once_it_is_committed(
    settings: Settings,
    api_key: str,
    aiohttp_client: Start,
    connection: Connection,
    consumer: Consumer,
) -> None:
    patient = create_app(replace(settings, relay_poll_seconds=3600))
    client = await aiohttp_client(patient, headers={"Authorization": f"Bearer {api_key}"})
    await is_publishing(patient[relay.RELAY])
    async with connection.transaction():
        # Lets the relay look, and the statement of the create wait.
        await connection.execute("LOCK TABLE outbox IN SHARE MODE")
        creating = asyncio.create_task(client.post("/api/v1/campaigns", json=EXAMPLE))
        await eventually(lambda: somebody_waits_for_a_lock(connection), 10, "the create waits")
    assert (await creating).status == 201
    await consumer.events(1, seconds=5)


async def test_a_wake_during_a_step_is_not_lost(
    settings: Settings, idle_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = relay_of(idle_client, replace(settings, relay_poll_seconds=3600))
    steps = 0

    async def step(_: object) -> int:
        nonlocal steps
        steps += 1
        if steps == 1:
            woken.wake()
        else:
            woken.stop()
        return 0

    monkeypatch.setattr(woken, "_publish_one", step)
    await asyncio.wait_for(woken.run(), 5)
    assert steps == 2


async def test_a_backlog_is_published_without_pauses(
    settings: Settings, idle_client: Client, connection: Connection, aiohttp_client: Start
) -> None:
    for _ in range(5):
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    await aiohttp_client(create_app(replace(settings, relay_batch_size=1, relay_poll_seconds=3600)))
    await outbox_is_empty(connection)


async def test_events_that_come_one_after_the_other_share_a_batch(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BREATH_SECONDS", 1.0)
    batches: list[int] = []
    real = queries.delete_events

    async def delete_events(connection: Connection, confirmed: Sequence[events.Event]) -> None:
        await real(connection, confirmed)
        batches.append(len(confirmed))

    monkeypatch.setattr(queries, "delete_events", delete_events)
    await is_publishing(client.app[relay.RELAY])
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await eventually(lambda: 1 in batches, 10, "the first event")
    for _ in range(5):
        await client.post("/api/v1/campaigns", json=EXAMPLE)
    await outbox_is_empty(connection)
    # The first one alone, as nothing came before it.
    assert batches == [1, 5]


class Forgetting:
    """Holds up or fails what forgets events; the first time it is tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.began, self.may_go_on = asyncio.Event(), asyncio.Event()
        self._error = error
        self._real = queries.delete_events
        monkeypatch.setattr(queries, "delete_events", self._delete)

    async def _delete(self, connection: Connection, confirmed: Sequence[events.Event]) -> None:
        if not self.began.is_set():
            self.began.set()
            await self.may_go_on.wait()
            if self._error:
                raise self._error
        await self._real(connection, confirmed)


class Claims:
    """Lets a relay look for the second time only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_look_again = asyncio.Event()
        self.found: list[int] = []
        self._real = queries.claim_events
        monkeypatch.setattr(queries, "claim_events", self._claim)

    async def _claim(self, connection: Connection, limit: int) -> list[events.Event]:
        if self.found:
            await self.may_look_again.wait()
        claimed = await self._real(connection, limit)
        self.found.append(len(claimed))
        return claimed


async def test_a_small_batch_holds_up_nobody_while_it_is_forgotten(
    idle_client: Client,
    settings: Settings,
    consumer: Consumer,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgetting = Forgetting(monkeypatch)
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    claims = Claims(monkeypatch)
    async with running(relay_of(idle_client, settings)):
        await asyncio.wait_for(forgetting.began.wait(), 10)
        await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
        claims.may_look_again.set()
        await consumer.events(2, seconds=5)
        forgetting.may_go_on.set()
        await outbox_is_empty(connection)


async def test_what_waits_for_an_event_that_is_being_forgotten_waits_for_no_poll(
    idle_client: Client,
    settings: Settings,
    consumer: Consumer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgetting = Forgetting(monkeypatch)
    created = await (await idle_client.post("/api/v1/campaigns", json=EXAMPLE)).json()
    claims = Claims(monkeypatch)
    async with running(relay_of(idle_client, replace(settings, relay_poll_seconds=3600))):
        await asyncio.wait_for(forgetting.began.wait(), 10)
        path, change = f"/api/v1/campaigns/{created['id']}", {"max_attempts": 5}
        assert (await idle_client.patch(path, json=change, headers={"If-Match": "*"})).status == 200
        claims.may_look_again.set()
        await eventually(lambda: claims.found == [1, 0], 10, "it has looked for the second event")
        forgetting.may_go_on.set()
        await consumer.events(2, seconds=5)


async def test_what_cannot_be_forgotten_is_published_again(
    idle_client: Client,
    settings: Settings,
    consumer: Consumer,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgetting = Forgetting(monkeypatch, postgres.Unavailable("the connection broke"))
    forgetting.may_go_on.set()
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    unlucky = relay_of(idle_client, replace(settings, relay_poll_seconds=0.1))
    with structlog.testing.capture_logs() as logged:
        async with running(unlucky):
            arrived = consumer.messages["campaign.import"]
            await eventually(lambda: len(arrived) == 2, 10, "the event, twice")
            await outbox_is_empty(connection)
    assert "the connection broke" in [line.get("detail") for line in logged]


async def test_a_relay_ends_when_all_that_was_confirmed_is_forgotten(
    idle_client: Client,
    settings: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgetting = Forgetting(monkeypatch)
    await insert_event(connection, campaign_id=1, sequence=1)
    stopped = relay_of(idle_client, settings)
    ending = asyncio.create_task(stopped.run())
    await asyncio.wait_for(forgetting.began.wait(), 10)
    stopped.stop()
    await asyncio.sleep(0)
    assert not ending.done()
    forgetting.may_go_on.set()
    await asyncio.wait_for(ending, 10)
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert stopped.status()["state"] == "stopped"


async def test_a_relay_that_cannot_forget_at_its_end_says_so(
    idle_client: Client,
    settings: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgetting = Forgetting(monkeypatch, postgres.Unavailable("the connection broke"))
    await insert_event(connection, campaign_id=1, sequence=1)
    stopped = relay_of(idle_client, settings)
    with structlog.testing.capture_logs() as logged:
        ending = asyncio.create_task(stopped.run())
        await asyncio.wait_for(forgetting.began.wait(), 10)
        stopped.stop()
        forgetting.may_go_on.set()
        await asyncio.wait_for(ending, 10)
    assert [line["detail"] for line in logged if line["event"] == "relay failed"] == [
        "the connection broke"
    ]


async def test_enough_events_do_not_wait_for_the_end_of_a_breath(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BREATH_SECONDS", 3600.0)
    await is_publishing(client.app[relay.RELAY])
    for _ in range(1 + relay._ENOUGH):
        await client.post("/api/v1/campaigns", json=EXAMPLE)
    await outbox_is_empty(connection)


async def test_half_as_many_events_are_enough_if_they_are_stored_together(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BREATH_SECONDS", 3600.0)
    monkeypatch.setattr(commits, "_PATIENCE_SECONDS", 3600.0)
    await is_publishing(client.app[relay.RELAY])
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await outbox_is_empty(connection)
    async with connection.transaction():
        # The statement of the first one waits, so that the others share the next ones.
        await connection.execute("LOCK TABLE outbox IN SHARE MODE")
        creates = [
            asyncio.create_task(client.post("/api/v1/campaigns", json=EXAMPLE))
            for _ in range(2 + relay._ENOUGH // 2)
        ]
        waiting = client.app[commits.COMMITS]._waiting
        await eventually(lambda: len(waiting) == len(creates) - 1, 10, "the others wait")
    await asyncio.gather(*creates)
    await outbox_is_empty(connection)


async def test_a_relay_that_takes_a_breath_ends_at_once(
    idle_client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BREATH_SECONDS", 3600)
    breathing = relay_of(idle_client, settings)
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    running = asyncio.create_task(breathing.run())
    await eventually(lambda: breathing.status()["confirmed"] == 1, 10, "an event")
    breathing.stop()
    await asyncio.wait_for(running, 2)


async def test_a_future_that_the_client_cancels_itself_does_not_end_the_relay(
    idle_client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = broker.publisher
    attempts: list[Settings] = []

    def cancelled_at_first(
        settings: Settings, gone: set[str]
    ) -> AbstractAsyncContextManager[broker.Publisher]:
        attempts.append(settings)
        if len(attempts) == 1:
            raise asyncio.CancelledError  # No broker provokes it at will.
        return real(settings, gone)

    monkeypatch.setattr(broker, "publisher", cancelled_at_first)
    survivor = relay_of(idle_client, settings)
    running = asyncio.create_task(survivor.run())
    await is_publishing(survivor)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_unexpected_error_does_not_end_the_relay(
    client: Client, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failed = queries.claim_events, asyncio.Event()

    async def fail_once(connection: Connection, limit: int) -> list[events.Event]:
        if failed.is_set():
            return await claim(connection, limit)
        failed.set()
        raise ZeroDivisionError

    monkeypatch.setattr(queries, "claim_events", fail_once)
    await asyncio.wait_for(failed.wait(), 5)
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await consumer.events(1)


async def test_without_the_database_the_relay_waits_for_it(
    settings: Settings, aiohttp_client: Start
) -> None:
    app = create_app(replace(settings, relay_database_url="postgresql://nobody@127.0.0.1:1/none"))
    client = await aiohttp_client(app)

    async def waits() -> bool:
        body = await (await client.get("/readyz")).json()
        return bool(body["relay"]["state"] == "waiting for the database")

    await eventually(waits, 10, "the relay waits for the database")


def test_retries_come_less_and_less_often() -> None:
    for failures, seconds in enumerate([0.25, 0.5, 1, 2, 4, 5, 5], start=1):
        assert 0.8 * seconds <= relay._retry_delay(failures) <= 1.2 * seconds
    assert relay._retry_delay(100_000) <= 6


async def test_success_ends_a_row_of_failures(settings: Settings, idle_client: Client) -> None:
    recovered = relay_of(idle_client, settings)
    recovered._failures = 9
    running = asyncio.create_task(recovered.run())
    await is_publishing(recovered)
    assert recovered._failures == 0
    recovered.stop()
    await running


async def test_a_stopped_relay_ends_soon_although_the_broker_is_away(
    idle_client: Client, settings: Settings
) -> None:
    stopped = relay_of(idle_client, replace(settings, amqp_url=NOWHERE))
    stopped._failures = 9  # So many that its pause is long.
    running = asyncio.create_task(stopped.run())
    await eventually(lambda: stopped.status()["last_error"] is not None, 10, "a failed attempt")
    stopped.stop()
    await asyncio.wait_for(running, 2)
    assert stopped.status()["state"] == "stopped"


@pytest.mark.parametrize("make", [create_app, create_relay_app])
async def test_a_process_that_stops_finishes_its_batch(
    make: Callable[[Settings], web.Application],
    settings: Settings,
    aiohttp_client: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, finished = asyncio.Event(), asyncio.Event()

    async def step(self: relay.Relay, _: broker.Publisher) -> int:
        began.set()
        await self._stopping.wait()
        # A batch takes some time, or it would be over before anybody could have cancelled it.
        await asyncio.sleep(0.5)
        finished.set()
        return 0

    monkeypatch.setattr(relay.Relay, "_publish_one", step)
    client = await aiohttp_client(make(settings))
    await asyncio.wait_for(began.wait(), 10)
    await client.close()
    assert finished.is_set()


async def test_a_relay_whose_login_may_not_do_its_work_says_so_and_stays_connected(
    settings: Settings, aiohttp_client: Start
) -> None:
    client = await aiohttp_client(
        create_app(replace(settings, relay_database_url=settings.database_url))
    )

    async def waits() -> bool:
        relay = (await (await client.get("/readyz")).json())["relay"]
        return (relay["state"], relay["last_error"]) == (
            "waiting for the database",
            "InsufficientPrivilegeError",
        )

    await eventually(waits, 10, "the relay says what it lacks")
