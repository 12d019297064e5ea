"""`POST /api/v1/campaigns/{id}/duplicate`."""

from dataclasses import replace
from typing import Any

import pytest

from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start
from tests.consumers import Consumer
from tests.test_create import EXAMPLE
from tests.test_updates import KEY, PATH, STATUSES, create, place, read, set_status, written

OWN = ("id", "name", "created_at", "updated_at")


async def test_a_duplicate_is_a_new_draft_that_says_the_same(client: Client) -> None:
    campaign = await create(client)
    answer = await client.post(f"{place(campaign)}/duplicate")
    copy = await answer.json()
    assert answer.status == 201
    assert answer.headers["Location"] == f"{PATH}/{copy['id']}" != place(campaign)
    assert answer.headers["ETag"] == '"1"'
    assert copy["name"] == f"{EXAMPLE['name']} (copy)"
    assert copy == campaign | {name: copy[name] for name in OWN}
    assert await read(client, copy) == copy
    assert await read(client, campaign) == campaign


async def test_the_body_says_what_is_different(client: Client) -> None:
    campaign = await create(client)
    said = {
        "name": "Another",
        "campaign_type": "mixed",
        "assistant_id": 7,
        "description": None,
        "fallback_values": {"company": None, "city": "Rome"},
    }
    copy = await (await client.post(f"{place(campaign)}/duplicate", json=said)).json()
    assert copy == campaign | said | {
        "id": copy["id"],
        "created_at": copy["created_at"],
        "updated_at": copy["updated_at"],
        "fallback_values": {"name": "there", "city": "Rome"},
    }


@pytest.mark.parametrize(
    ("name", "copied", "reason"),
    [
        ("n", "n (copy)", "the usual"),
        ("n" * 193, "n" * 193 + " (copy)", "the longest that is not cut"),
        ("n" * 200, "n" * 193 + " (copy)", "longer names are"),
    ],
)
async def test_the_name_says_that_it_is_a_copy(
    client: Client, name: str, copied: str, reason: str
) -> None:
    campaign = await create(client, name=name)
    copy = await (await client.post(f"{place(campaign)}/duplicate")).json()
    assert copy["name"] == copied, reason


@pytest.mark.parametrize("status", STATUSES)
async def test_a_campaign_can_be_duplicated_whatever_has_come_of_it(
    client: Client, connection: Connection, status: str
) -> None:
    campaign = await create(client)
    await set_status(connection, campaign, status)
    await connection.execute(
        'UPDATE campaigns SET total_contacts = 5, variable_mappings = \'{"a": "b"}\', version = 9'
    )
    copy = await (await client.post(f"{place(campaign)}/duplicate")).json()
    assert copy == campaign | {name: copy[name] for name in OWN}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"name": ""}, "#/name"), ({"status": "running"}, "#/status"), ({"x": 1}, "#/x")],
)
async def test_what_is_wrong_is_told_and_nothing_is_stored(
    idle_client: Client, connection: Connection, body: dict[str, Any], pointer: str
) -> None:
    campaign = await create(idle_client)
    answer = await idle_client.post(f"{place(campaign)}/duplicate", json=body)
    assert answer.status == 422
    assert [error["pointer"] for error in (await answer.json())["errors"]] == [pointer]
    assert await written(connection) == (1, 1, 1)


async def test_a_repeated_duplicate_is_one_also_when_the_campaign_is_gone(
    client: Client,
) -> None:
    campaign = await create(client)
    first = await client.post(f"{place(campaign)}/duplicate", headers=KEY)
    await client.delete(place(campaign))
    again = await client.post(f"{place(campaign)}/duplicate", headers=KEY)
    assert (first.status, again.status) == (201, 201)
    assert await first.read() == await again.read()
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_a_duplicate_counts_as_a_create(
    settings: Settings, api_key: str, aiohttp_client: Start
) -> None:
    app = create_app(
        replace(settings, organization_creates_per_second=0.01, organization_creates_burst=2)
    )
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    campaign = await create(client)
    statuses = [(await client.post(f"{place(campaign)}/duplicate")).status for _ in range(2)]
    assert statuses == [201, 429]


async def test_each_queue_is_told_of_a_new_campaign(client: Client, consumer: Consumer) -> None:
    copy = await (await client.post(f"{place(await create(client))}/duplicate")).json()
    for events in (await consumer.events(2)).values():
        [event] = [event for event in events if event["subject"] == str(copy["id"])]
        assert event["type"] == "campaign.created"
        assert event["data"]["campaign"] == copy
