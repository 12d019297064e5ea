"""`GET /api/v1/campaigns/{id}/history`."""

from datetime import UTC, datetime, timedelta

import pytest

from service.postgres import Connection
from tests.conftest import Client
from tests.test_updates import PATH, create, place


async def test_every_change_is_told_the_latest_first(
    client: Client, connection: Connection
) -> None:
    campaign = await create(client)
    patch = {"agenda_template": None, "name": "New", "max_attempts": 3}
    await client.patch(place(campaign), json=patch, headers={"X-Request-ID": "order-17"})
    await client.delete(place(campaign))
    answer = await client.get(f"{place(campaign)}/history")
    page = await answer.json()
    assert answer.status == 200
    key_id = await connection.fetchval("SELECT id FROM api_keys")
    assert [
        (item["version"], item["change"], item["changed_fields"], item["key_id"])
        for item in page["items"]
    ] == [
        (3, "deleted", [], key_id),
        (2, "updated", ["name", "agenda_template"], key_id),
        (1, "created", [], key_id),
    ]
    assert page["items"][1]["request_id"] == "order-17"
    assert page["items"][2]["changed_at"] == campaign["created_at"]
    latest = datetime.fromisoformat(page["items"][0]["changed_at"])
    assert datetime.now(UTC) - latest < timedelta(minutes=1)
    assert page["total"] == 3


@pytest.mark.parametrize("query", ["skip=1&limit=2", "page=2&per_page=2"])
async def test_a_history_has_pages_as_lists_have(client: Client, query: str) -> None:
    campaign = await create(client)
    for name in "abcd":
        await client.patch(place(campaign), json={"name": name})
    answer = await client.get(f"{place(campaign)}/history?{query}")
    page = await answer.json()
    expected = [4, 3] if "skip" in query else [3, 2]
    assert [item["version"] for item in page["items"]] == expected
    assert (page["total"], page["pagination"]["has_next"]) == (5, True)
    assert 'rel="next"' in answer.headers["Link"]


async def test_a_history_has_no_filters(client: Client) -> None:
    answer = await client.get(f"{place(await create(client))}/history?status=draft")
    assert answer.status == 422


async def test_there_is_no_history_of_what_never_was(client: Client) -> None:
    answer = await client.get(f"{PATH}/999999999/history")
    assert answer.status == 404
    document = await answer.json()
    assert document["type"] == "urn:problem-type:campaigns:campaign-not-found"


async def test_the_history_of_a_campaign_is_complete(client: Client) -> None:
    campaign = await create(client)
    for number in range(20):
        await client.patch(place(campaign), json={"name": f"n{number // 2}"})
    page = await (await client.get(f"{place(campaign)}/history")).json()
    # Every second one has changed nothing.
    assert [item["version"] for item in page["items"]] == [*range(11, 0, -1)]
