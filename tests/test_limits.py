"""Fair limits: token buckets for keys and organizations."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from service import keys, limits
from service.app import create_app
from service.limits import Buckets, Limit
from service.postgres import Connection
from service.settings import DEFAULT_FILE, Settings, load
from tests.conftest import Client, Start, create_key
from tests.test_create import EXAMPLE
from tests.test_docs import REQUESTS

PATH = "/api/v1/campaigns"
PREVIEW = "/api/v1/campaigns/template-preview"

StartLimited = Callable[..., Awaitable[Client]]


@pytest.fixture
def start_limited(settings: Settings, api_key: str, aiohttp_client: Start) -> StartLimited:
    """Start a service with limits; buckets fill so slowly that no test sees it."""

    async def start(**changes: Any) -> Client:
        app = create_app(replace(settings, **changes))
        return await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})

    return start


async def test_a_key_may_send_so_many_requests_at_once_and_no_more(
    start_limited: StartLimited,
) -> None:
    client = await start_limited(key_requests_per_second=0.01, key_requests_burst=3)
    statuses = [(await client.post(PREVIEW, json={"template": "a"})).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


@pytest.mark.usefixtures("clock")
async def test_a_request_too_many_is_told_when_to_come_back(start_limited: StartLimited) -> None:
    client = await start_limited(key_requests_per_second=0.5, key_requests_burst=1)
    await client.post(PREVIEW, json={"template": "a"})
    refused = await client.post(PREVIEW, json={"template": "a"})
    document = await refused.json()
    assert refused.status == 429
    assert refused.headers["Retry-After"] == "2"
    assert document["type"] == "urn:problem-type:campaigns:too-many-requests"
    assert document["detail"] == (
        "Your key may send requests at a rate of 0.5 a second, at most 1 at once. Try again in 2 s."
    )


async def test_another_key_of_the_organization_has_a_bucket_of_its_own(
    start_limited: StartLimited, connection: Connection, organization: int
) -> None:
    client = await start_limited(key_requests_per_second=0.01, key_requests_burst=1)
    other = await create_key(connection, keys.Grant(organization, "other"))
    await client.post(PREVIEW, json={"template": "a"})
    answer = await client.post(
        PREVIEW, json={"template": "a"}, headers={"Authorization": f"Bearer {other}"}
    )
    assert answer.status == 200


async def test_an_organization_may_create_so_many_campaigns_with_all_of_its_keys(
    start_limited: StartLimited, connection: Connection, organization: int
) -> None:
    client = await start_limited(organization_creates_per_second=0.01, organization_creates_burst=2)
    other = await create_key(connection, keys.Grant(organization, "other"))
    await client.post(PATH, json=EXAMPLE)
    await client.post(PATH, json=EXAMPLE, headers={"Authorization": f"Bearer {other}"})
    refused = await client.post(PATH, json=EXAMPLE)
    assert refused.status == 429
    assert (await refused.json())["detail"].startswith(
        "Your organization may create campaigns at a rate of 0.01 a second, at most 2 at once."
    )
    assert await connection.fetchval("SELECT count(*) FROM campaigns") == 2


async def test_other_organizations_are_not_held_up(
    start_limited: StartLimited, connection: Connection
) -> None:
    client = await start_limited(organization_creates_per_second=0.01, organization_creates_burst=1)
    other = await create_key(connection, keys.Grant(1, "other"))
    await client.post(PATH, json=EXAMPLE)
    assert (await client.post(PATH, json=EXAMPLE)).status == 429
    answer = await client.post(PATH, json=EXAMPLE, headers={"Authorization": f"Bearer {other}"})
    assert answer.status == 201


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (PATH, {}, "a refused one"),
        (f"{PATH}?validate_only=true", EXAMPLE, "one that is only checked"),
        (PREVIEW, {"template": "a"}, "a preview"),
    ],
)
async def test_what_creates_nothing_does_not_count_as_a_campaign(
    start_limited: StartLimited, path: str, body: dict[str, object], reason: str
) -> None:
    client = await start_limited(organization_creates_per_second=0.01, organization_creates_burst=1)
    before = (await client.post(path, json=body)).status
    assert (await client.post(PATH, json=EXAMPLE)).status == 201, reason
    # Nor is it held up by what was created.
    assert (await client.post(path, json=body)).status == before


async def test_a_campaign_that_is_answered_again_is_not_counted_again(
    start_limited: StartLimited,
) -> None:
    client = await start_limited(organization_creates_per_second=0.01, organization_creates_burst=2)
    key = {"Idempotency-Key": "a"}
    first = await client.post(PATH, json=EXAMPLE, headers=key)
    again = await client.post(PATH, json=EXAMPLE, headers=key)
    reused = await client.post(PATH, json=EXAMPLE | {"name": "x"}, headers=key)
    assert [first.status, again.status, reused.status] == [201, 201, 422]
    assert "RateLimit" not in again.headers
    assert [(await client.post(PATH, json=EXAMPLE)).status for _ in range(2)] == [201, 429]


async def test_a_key_that_is_none_costs_no_campaign(start_limited: StartLimited) -> None:
    client = await start_limited(organization_creates_per_second=0.01, organization_creates_burst=1)
    wrong = await client.post(PATH, json=EXAMPLE, headers={"Idempotency-Key": ""})
    assert wrong.status == 400
    assert (await client.post(PATH, json=EXAMPLE)).status == 201


@pytest.mark.usefixtures("clock")
async def test_every_answer_says_what_is_left(start_limited: StartLimited) -> None:
    client = await start_limited(
        key_requests_per_second=0.5,
        key_requests_burst=2,
        organization_creates_per_second=0.01,
        organization_creates_burst=5,
    )
    created = await client.post(PATH, json=EXAMPLE)
    assert created.headers["RateLimit-Policy"] == '"requests";q=2;w=4, "creates";q=5;w=500'
    assert created.headers["RateLimit"] == '"requests";r=1;t=2, "creates";r=4;t=100'
    invalid = await client.post(PATH, json={})
    assert invalid.status == 422
    assert invalid.headers["RateLimit-Policy"] == '"requests";q=2;w=4'
    assert invalid.headers["RateLimit"] == '"requests";r=0;t=4'
    refused = await client.post(PATH, json=EXAMPLE)
    assert refused.status == 429
    assert refused.headers["RateLimit"] == '"requests";r=0;t=4'


async def test_health_is_not_limited(start_limited: StartLimited) -> None:
    client = await start_limited(key_requests_per_second=0.01, key_requests_burst=1)
    for _ in range(3):
        health = await client.get("/healthz")
        assert health.status == 200
        assert "RateLimit" not in health.headers


async def test_one_key_with_128_connections_is_not_disturbed_by_default(
    client: Client, api_key: str
) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=128), headers={"Authorization": f"Bearer {api_key}"}
    ) as session:
        creating = (session.post(client.make_url(PATH), json=EXAMPLE) for _ in range(512))
        answers = await asyncio.gather(*creating)
    assert {answer.status for answer in answers} == {201}
    assert not any(header.startswith("RateLimit") for header in answers[0].headers)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still, for a test to set."""
    now = [1000.0]
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_bucket_fills_at_its_rate_and_no_higher_than_its_burst(clock: list[float]) -> None:
    buckets = Buckets(Limit("a", "b", burst=3, per_second=2))

    def taken() -> int:
        return [buckets.take("x").exceeded for _ in range(10)].index(True)

    assert taken() == 3
    clock[0] += 0.5
    assert taken() == 1
    clock[0] += 0.75
    assert taken() == 1
    clock[0] += 0.25
    assert taken() == 1, "half a token was left"
    clock[0] += 1000
    assert taken() == 3


def test_whoever_comes_back_when_told_is_let_in(clock: list[float]) -> None:
    buckets = Buckets(Limit("a", "b", burst=1, per_second=0.3))
    buckets.take("x")
    clock[0] += buckets.take("x").retry_after_seconds
    assert not buckets.take("x").exceeded


def test_a_refused_request_costs_nothing(clock: list[float]) -> None:
    buckets = Buckets(Limit("a", "b", burst=1, per_second=1))
    for _ in range(100):
        buckets.take("x")
    clock[0] += 1
    assert not buckets.take("x").exceeded


def test_no_more_buckets_are_remembered_than_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "_REMEMBERED", 10)
    buckets = Buckets(Limit("a", "b", burst=1, per_second=1))
    for number in range(100):
        buckets.take(number)
    assert len(buckets._buckets) == 10


@pytest.mark.usefixtures("clock")
async def test_with_the_example_for_production_the_answer_is_as_the_page_shows(
    start_limited: StartLimited,
) -> None:
    example = load({"CONFIG_FILE": str(DEFAULT_FILE.with_name("production.toml"))})
    client = await start_limited(
        key_requests_per_second=example.key_requests_per_second,
        key_requests_burst=example.key_requests_burst,
        organization_creates_per_second=example.organization_creates_per_second,
        organization_creates_burst=example.organization_creates_burst,
    )
    answer = await client.post(PATH, json=EXAMPLE)
    for header in ("RateLimit-Policy", "RateLimit"):
        assert f"\n{header}: {answer.headers[header]}\n" in REQUESTS


def test_the_headers_are_what_the_proposed_standard_asks_for() -> None:
    quota = Buckets(Limit("a", "b", burst=1_000_000, per_second=0.001)).take("x")
    assert re.fullmatch(r'"a";q=\d{1,15};w=\d{1,15}', quota.policy)
    assert re.fullmatch(r'"a";r=\d{1,15};t=\d{1,15}', quota.state)
