"""A broker that stays away: what would fill the disk is refused, and told when to come again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from service.app import create_app
from service.backlog import BACKLOG
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client, Start
from tests.consumers import eventually
from tests.test_create import EXAMPLE

URL = "/api/v1/campaigns"
Ask = Callable[[Client], Awaitable[Any]]


@pytest.fixture
async def app(settings: Settings) -> web.Application:
    return create_app(replace(settings, amqp_url=NOWHERE, outbox_events=2))


@pytest.fixture
async def bounded(app: web.Application, api_key: str, aiohttp_client: Start) -> Client:
    """A client of a service that has one campaign, and is full with two more."""
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    for number in range(2):
        headers = {"Idempotency-Key": f"key-{number}"}
        assert (await client.post(URL, json=EXAMPLE, headers=headers)).status == 201
        await app[BACKLOG].review()
    return client


async def fill(app: web.Application, client: Client) -> None:
    assert (await client.post(URL, json=EXAMPLE)).status == 201
    await app[BACKLOG].review()


async def count(connection: Connection) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM campaign_history), (SELECT count(*) FROM outbox)"
    )
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda c: c.post(URL, json=EXAMPLE), id="create"),
        pytest.param(lambda c: c.post(f"{URL}/1/duplicate", json={}), id="duplicate"),
        pytest.param(lambda c: c.patch(f"{URL}/1", json={"name": "other"}), id="change"),
        pytest.param(lambda c: c.delete(f"{URL}/1"), id="delete"),
    ],
)
async def test_what_would_store_an_event_is_refused_when_too_many_wait(
    bounded: Client, app: web.Application, connection: Connection, ask: Ask
) -> None:
    await fill(app, bounded)
    before = await count(connection)
    answer = await ask(bounded)
    problem = await answer.json()
    assert (answer.status, problem["type"]) == (503, "urn:problem-type:campaigns:outbox-full")
    assert answer.headers["Retry-After"] == "5"
    assert problem["detail"] == "Nothing was stored: more than 2 events wait already."
    assert await count(connection) == before


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda c: c.get(URL), id="list"),
        pytest.param(lambda c: c.get(f"{URL}/1"), id="read"),
        pytest.param(lambda c: c.post(f"{URL}?validate_only=true", json=EXAMPLE), id="validate"),
        pytest.param(lambda c: c.patch(f"{URL}/1", json={"name": EXAMPLE["name"]}), id="no-change"),
        pytest.param(
            lambda c: c.post(URL, json=EXAMPLE, headers={"Idempotency-Key": "key-1"}),
            id="repeated",
        ),
    ],
)
async def test_what_stores_no_event_is_answered_although_too_many_wait(
    bounded: Client, app: web.Application, ask: Ask
) -> None:
    await fill(app, bounded)
    assert (await ask(bounded)).status < 300


async def test_creates_go_on_when_events_have_left(
    bounded: Client, app: web.Application, connection: Connection
) -> None:
    await fill(app, bounded)
    await connection.execute("DELETE FROM outbox WHERE campaign_id = 1")
    await app[BACKLOG].review()
    assert (await bounded.post(URL, json=EXAMPLE)).status == 201


async def test_as_many_as_the_settings_allow_may_wait(bounded: Client) -> None:
    assert (await bounded.post(URL, json=EXAMPLE)).status == 201


async def test_the_service_reviews_the_outbox_by_itself(
    settings: Settings,
    api_key: str,
    aiohttp_client: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.backlog.REVIEW_SECONDS", 0.05)
    app = create_app(replace(settings, amqp_url=NOWHERE, outbox_events=1))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    for _ in range(2):
        await client.post(URL, json=EXAMPLE)

    async def is_refused() -> bool:
        return (await client.post(URL, json=EXAMPLE)).status == 503

    await eventually(is_refused, 10, "a refusal")
