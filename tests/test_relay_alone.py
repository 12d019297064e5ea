"""`campaigns relay` and `campaigns serve --no-relay`: two kinds of processes for one service."""

import asyncio
import signal
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from service import broker, relay
from service.app import create_app, create_relay_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Start
from tests.consumers import Consumer, eventually, outbox_is_empty
from tests.processes import Service
from tests.test_create import EXAMPLE

Begin = Callable[..., Service]


async def test_both_kinds_together_deliver_events(
    start_service: Begin,
    settings: Settings,
    api_key: str,
    consumer: Consumer,
    connection: Connection,
) -> None:
    # Nobody but the relay can reach the broker.
    api = await asyncio.to_thread(
        start_service, replace(settings, amqp_url=NOWHERE), "serve --no-relay"
    )
    await asyncio.to_thread(start_service, settings, "relay")
    for _ in range(3):
        assert (await asyncio.to_thread(api.create, api_key, EXAMPLE)).status_code == 201
    await consumer.events(3)
    await outbox_is_empty(connection)


async def test_a_service_without_a_relay_stores_events_and_never_calls_the_broker(
    start_service: Begin, settings: Settings, api_key: str, connection: Connection
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.settimeout(0)
        calling = replace(settings, amqp_url=f"amqp://127.0.0.1:{nobody.getsockname()[1]}/")
        api = await asyncio.to_thread(start_service, calling, "serve --no-relay")
        assert (await asyncio.to_thread(api.create, api_key, EXAMPLE)).status_code == 201
        assert await asyncio.to_thread(api.stop, 10) == 0
        with pytest.raises(BlockingIOError):
            nobody.accept()
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_service_without_a_relay_is_ready_and_says_that_it_is_elsewhere(
    settings: Settings, aiohttp_client: Start
) -> None:
    client = await aiohttp_client(create_app(settings, with_relay=False))
    answer = await client.get("/readyz")
    assert (answer.status, await answer.json()) == (
        200,
        {"status": "ready", "database": "ok", "relay": {"state": "elsewhere"}},
    )


async def test_a_relay_alone_does_not_use_the_login_of_the_service(
    start_service: Begin, settings: Settings, connection: Connection
) -> None:
    alone = await asyncio.to_thread(start_service, settings, "relay")
    await asyncio.to_thread(alone.wait_for_relay)
    logins = await connection.fetch(
        "SELECT DISTINCT usename FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert [row["usename"] for row in logins] == ["campaigns_relay"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_relay_alone_ends_well_when_it_is_told_to(
    start_service: Begin, settings: Settings, number: signal.Signals
) -> None:
    alone = await asyncio.to_thread(start_service, settings, "relay")
    await asyncio.to_thread(alone.wait_for_relay)
    assert await asyncio.to_thread(alone.stop, settings.shutdown_seconds + 2, number) == 0


async def test_a_relay_alone_has_no_api(settings: Settings, aiohttp_client: Start) -> None:
    client = await aiohttp_client(create_relay_app(settings))
    answer = await client.post("/api/v1/campaigns", json=EXAMPLE)
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert (await client.get("/healthz")).status == 200


async def test_a_relay_alone_is_ready_without_the_broker_and_says_so(
    settings: Settings, aiohttp_client: Start
) -> None:
    client = await aiohttp_client(create_relay_app(replace(settings, amqp_url=NOWHERE)))

    async def has_tried() -> bool:
        body = await (await client.get("/readyz")).json()
        return bool(body["relay"]["last_error"] == "AMQPConnectionError")

    await eventually(has_tried, 10, "a failed attempt")
    answer = await client.get("/readyz")
    assert (answer.status, (await answer.json())["database"]) == (200, "ok")


async def test_a_relay_alone_without_its_database_is_unready(
    settings: Settings, aiohttp_client: Start
) -> None:
    nowhere = replace(settings, relay_database_url="postgresql://u:hunter2@127.0.0.1:1/none")
    client = await aiohttp_client(create_relay_app(nowhere))
    answer = await client.get("/readyz")
    assert (answer.status, (await answer.json())["database"]) == (
        503,
        "cannot be used (ConnectionRefusedError)",
    )


async def test_a_relay_alone_whose_login_may_not_relay_is_unready_and_says_what_it_needs(
    settings: Settings, aiohttp_client: Start
) -> None:
    others = replace(settings, relay_database_url=settings.database_url)
    answer = await (await aiohttp_client(create_relay_app(others))).get("/readyz")
    assert answer.status == 503
    assert (await answer.json())["database"].endswith("make it a member of campaigns_relay")


@pytest.mark.parametrize("statement", ["DROP TABLE outbox", "ALTER TABLE outbox DROP headers"])
async def test_a_relay_alone_without_the_schema_is_unready_and_says_what_to_do(
    settings: Settings, aiohttp_client: Start, connection: Connection, statement: str
) -> None:
    await connection.execute(statement)
    answer = await (await aiohttp_client(create_relay_app(settings))).get("/readyz")
    assert answer.status == 503
    assert "run 'campaigns migrate'" in (await answer.json())["database"]


async def test_a_relay_alone_tells_its_health_while_it_publishes(
    settings: Settings, aiohttp_client: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing, done = asyncio.Event(), asyncio.Event()

    async def step(self: relay.Relay, _: broker.Publisher) -> int:
        async with self._pool.acquire():
            publishing.set()
            await done.wait()
        return 0

    monkeypatch.setattr(relay.Relay, "_publish_one", step)
    hurried = replace(settings, database_timeout_seconds=1)
    client = await aiohttp_client(create_relay_app(hurried))
    await asyncio.wait_for(publishing.wait(), 10)
    assert (await client.get("/readyz")).status == 200
    done.set()
