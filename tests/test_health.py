"""/healthz and /readyz, and requests while the database is in trouble."""

import asyncio
from dataclasses import replace

import pytest

from service import keys
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client, Start, somebody_waits_for_a_lock
from tests.consumers import eventually
from tests.test_create import EXAMPLE


async def test_health_needs_no_key(client: Client) -> None:
    client.session.headers.clear()
    response = await client.get("/healthz")
    assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_a_service_with_database_and_broker_is_ready(client: Client) -> None:
    async def publishes() -> bool:
        return bool((await (await client.get("/readyz")).json())["relay"]["state"] == "publishing")

    await eventually(publishes, 10, "the relay publishes")
    response = await client.get("/readyz")
    body = await response.json()
    assert response.status == 200
    assert (body["status"], body["database"]) == ("ready", "ok")


async def test_without_the_broker_it_is_ready_and_says_why_the_relay_waits(
    settings: Settings, aiohttp_client: Start
) -> None:
    client = await aiohttp_client(create_app(replace(settings, amqp_url=NOWHERE)))

    async def has_tried() -> bool:
        body = await (await client.get("/readyz")).json()
        return body["relay"]["last_error"] is not None

    await eventually(has_tried, 10, "a failed attempt")
    response = await client.get("/readyz")
    body = await response.json()
    assert (response.status, body["status"]) == (200, "ready")
    assert body["relay"]["state"] == "connecting"
    assert body["relay"]["last_error"] == "AMQPConnectionError"


@pytest.mark.parametrize(
    "url", ["postgresql://nobody:hunter2@127.0.0.1:1/none", "postgresql://u:hunter2@[::1]:1/d"]
)
async def test_without_the_database_it_is_unready_and_says_so(
    settings: Settings, aiohttp_client: Start, url: str
) -> None:
    client = await aiohttp_client(create_app(replace(settings, database_url=url)))
    response = await client.get("/readyz")
    body = await response.json()
    assert (response.status, body["status"]) == (503, "unready")
    assert body["database"] == "cannot be used (ConnectionRefusedError)"


async def test_without_the_database_a_create_is_told_to_come_back(
    settings: Settings, aiohttp_client: Start
) -> None:
    nowhere = replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    client = await aiohttp_client(create_app(nowhere))
    headers = {"Authorization": f"Bearer {keys.generate()}"}
    response = await client.post("/api/v1/campaigns", headers=headers)
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert "127.0.0.1" not in await response.text()
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM schema_revisions",
        "DROP TABLE schema_revisions",
        "UPDATE schema_revisions SET revision = 0",
    ],
)
async def test_without_the_schema_it_is_unready_and_says_what_to_do(
    client: Client, connection: Connection, statement: str
) -> None:
    await connection.execute(statement)
    response = await client.get("/readyz")
    assert response.status == 503
    assert "run 'campaigns migrate'" in (await response.json())["database"]


async def test_a_newer_schema_is_as_good(client: Client, connection: Connection) -> None:
    await connection.execute("INSERT INTO schema_revisions (revision) VALUES (0), (1000)")
    assert (await client.get("/readyz")).status == 200


async def test_a_statement_that_takes_too_long_is_a_503(
    settings: Settings, api_key: str, aiohttp_client: Start, connection: Connection
) -> None:
    app = create_app(replace(settings, database_timeout_seconds=0.5))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    async with connection.transaction(), asyncio.timeout(5):
        await connection.execute("LOCK TABLE campaigns")
        assert (await client.post("/api/v1/campaigns", json=EXAMPLE)).status == 503


async def test_a_connection_that_is_cut_is_a_503(client: Client, connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("LOCK TABLE campaigns")
        creating = asyncio.create_task(client.post("/api/v1/campaigns", json=EXAMPLE))
        await eventually(lambda: somebody_waits_for_a_lock(connection), 10, "the create waits")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert (await creating).status == 503
    assert (await client.post("/api/v1/campaigns", json=EXAMPLE)).status == 201
