"""Slots: a bound on what is worked on at the same time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from service import keys
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start, create_key, waiting_for_locks
from tests.consumers import eventually
from tests.test_create import EXAMPLE

PATH = "/api/v1/campaigns"


@pytest.fixture
async def client(settings: Settings, api_key: str, aiohttp_client: Start) -> Client:
    """A client of a service that works on two requests at the same time."""
    app = create_app(replace(settings, http_concurrent_requests=2))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    # The key is known from now on.
    await client.post(PATH, json=EXAMPLE)
    return client


@asynccontextmanager
async def busy(client: Client, connection: Connection) -> AsyncIterator[None]:
    """Have it work on two creates meanwhile, which wait for a lock."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE campaigns")
        working = []
        for number in (1, 2):
            working.append(asyncio.create_task(client.post(PATH, json=EXAMPLE)))

            async def waits(number: int = number) -> bool:
                # At the same time they would share a statement, and wait for one lock.
                return await waiting_for_locks(connection) == number

            await eventually(waits, 10, "the create waits")
        yield
    answers = await asyncio.gather(*working)
    assert [answer.status for answer in answers] == [201, 201]


async def test_one_request_more_than_there_are_slots_is_told_at_once_to_come_back(
    client: Client, connection: Connection
) -> None:
    async with busy(client, connection):
        refused = await client.post(PATH, json=EXAMPLE)
    document = await refused.json()
    assert refused.status == 503
    assert refused.headers["Retry-After"] == "1"
    assert document["type"] == "urn:problem-type:campaigns:overloaded"
    assert document["detail"] == "The service works on 2 requests already."


async def test_health_is_told_in_any_case(client: Client, connection: Connection) -> None:
    async with busy(client, connection):
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/readyz")).status == 200


async def test_an_overload_fills_no_log_with_tracebacks(
    client: Client, connection: Connection
) -> None:
    async with busy(client, connection):
        with structlog.testing.capture_logs() as logged:
            await client.post(PATH, json=EXAMPLE)
    assert [(entry["event"], entry.get("status")) for entry in logged] == [("request", 503)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{}", "a refusal"), (json.dumps(EXAMPLE).encode(), "a success"), (b"", "a broken body")],
)
async def test_a_slot_is_free_again_after(client: Client, body: bytes, reason: str) -> None:
    headers = {"Content-Type": "application/json"}
    for _ in range(3):
        await client.post(PATH, data=body, headers=headers)
    assert (await client.post(PATH, json=EXAMPLE)).status == 201, reason


class SlowCaller:
    """Sends half a body when it is asked for one, and the other half when a test says so."""

    def __init__(self, client: Client) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self._client = client

    async def create(self) -> int:
        """The status of the answer."""
        headers = {"Content-Type": "application/json"}
        answer = await self._client.post(PATH, data=self._body(), headers=headers, expect100=True)
        return answer.status

    async def _body(self) -> AsyncIterator[bytes]:
        body = json.dumps(EXAMPLE).encode()
        yield body[:20]
        self.asked.set()
        await self.go.wait()
        yield body[20:]


async def test_who_sends_a_body_slowly_holds_nobody_up(client: Client) -> None:
    callers = [SlowCaller(client) for _ in range(5)]
    creating = [asyncio.create_task(caller.create()) for caller in callers]
    async with asyncio.timeout(10):
        for caller in callers:
            await caller.asked.wait()
    assert (await client.post(PATH, json=EXAMPLE)).status == 201
    for caller, created in zip(callers, creating, strict=True):
        caller.go.set()
        assert await created == 201


async def test_an_organization_has_no_more_than_its_share_slow_bodies_included(
    settings: Settings, api_key: str, aiohttp_client: Start, connection: Connection
) -> None:
    app = create_app(replace(settings, organization_concurrent_requests=2))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    other = {"Authorization": f"Bearer {await create_key(connection, keys.Grant(1, 'other'))}"}
    callers = [SlowCaller(client) for _ in range(2)]
    creating = [asyncio.create_task(caller.create()) for caller in callers]
    async with asyncio.timeout(10):
        for caller in callers:
            await caller.asked.wait()
    refused = await client.post(PATH, json=EXAMPLE)
    document = await refused.json()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert document["type"] == "urn:problem-type:campaigns:too-many-at-once"
    assert document["detail"] == "Your organization has 2 requests under way already."
    assert (await client.post(PATH, json=EXAMPLE, headers=other)).status == 201
    for caller in callers:
        caller.go.set()
    assert await asyncio.gather(*creating) == [201, 201]
    assert (await client.post(PATH, json=EXAMPLE)).status == 201


async def test_a_body_that_is_complete_when_all_slots_are_taken_is_told_to_come_back(
    client: Client, connection: Connection
) -> None:
    caller = SlowCaller(client)
    creating = asyncio.create_task(caller.create())
    async with asyncio.timeout(10):
        await caller.asked.wait()
    async with busy(client, connection):
        caller.go.set()
        assert await creating == 503
    assert (await client.post(PATH, json=EXAMPLE)).status == 201
