"""`DELETE /api/v1/campaigns/{id}`, and what is left of a deleted campaign, and for how long."""

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from service import postgres, pruning, queries
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start
from tests.consumers import Consumer, eventually
from tests.test_updates import KEY, PATH, STATUSES, create, place, set_status, written

MONTH = timedelta(days=30)


async def test_a_deleted_campaign_is_gone_and_the_answer_is_the_published_one(
    client: Client,
) -> None:
    campaign = await create(client)
    answer = await client.delete(place(campaign))
    assert answer.status == 200
    assert await answer.read() == b'{"message":"Campaign deleted successfully"}'
    assert answer.content_type == "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/duplicate"),
    ],
)
async def test_of_a_deleted_campaign_nobody_knows(client: Client, method: str, path: str) -> None:
    campaign = await create(client)
    await client.delete(place(campaign))
    said = {} if method == "DELETE" else {"name": "New"}
    answer = await client.request(method, place(campaign) + path, json=said)
    assert answer.status == 404
    document = await answer.json()
    assert document["type"] == "urn:problem-type:campaigns:campaign-not-found"


async def test_a_deleted_campaign_is_in_no_list(client: Client) -> None:
    campaign, other = await create(client), await create(client)
    await client.delete(place(campaign))
    page = await (await client.get(PATH)).json()
    assert ([item["id"] for item in page["items"]], page["total"]) == ([other["id"]], 1)


@pytest.mark.parametrize("status", STATUSES)
async def test_a_campaign_can_be_deleted_unless_it_is_running(
    idle_client: Client, connection: Connection, status: str
) -> None:
    campaign = await create(idle_client)
    await set_status(connection, campaign, status)
    answer = await idle_client.delete(place(campaign))
    assert answer.status == (409 if status == "running" else 200)
    if status == "running":
        document = await answer.json()
        assert document["type"] == "urn:problem-type:campaigns:campaign-status"
        assert document["detail"] == "A running campaign cannot be deleted: stop it first."
        assert await written(connection) == (1, 1, 1)


@pytest.mark.parametrize(("if_match", "status"), [('"1"', 412), ('"2"', 200), ("*", 200)])
async def test_only_the_version_that_was_read_is_deleted(
    client: Client, if_match: str, status: int
) -> None:
    campaign = await create(client)
    await client.patch(place(campaign), json={"name": "New"})
    answer = await client.delete(place(campaign), headers={"If-Match": if_match})
    assert answer.status == status


async def test_each_queue_is_told_what_the_campaign_was(client: Client, consumer: Consumer) -> None:
    campaign = await create(client)
    await client.delete(place(campaign))
    for events in (await consumer.events(2)).values():
        deleted = events[1]
        assert deleted["type"] == "campaign.deleted"
        assert deleted["dataschema"] == "urn:campaign-service:event:campaign.deleted:1"
        assert deleted["sequence"] == "0000000002"
        assert deleted["data"] == {
            "campaign": campaign | {"version": 2, "updated_at": deleted["time"]}
        }


async def test_a_repeated_delete_with_a_key_is_answered_as_the_first(client: Client) -> None:
    campaign = await create(client)
    first = await client.delete(place(campaign), headers=KEY)
    again = await client.delete(place(campaign), headers=KEY)
    assert (first.status, again.status) == (200, 200)
    assert await first.read() == await again.read()
    assert again.headers["Idempotency-Replayed"] == "true"


async def delete_long_ago(client: Client, connection: Connection, number: int) -> None:
    for _ in range(number):
        await client.delete(place(await create(client)))
    async with connection.transaction():
        # Nobody but the owner of the table can say so.
        await connection.execute("ALTER TABLE campaigns DISABLE TRIGGER campaigns_deletion")
        await connection.execute(
            "UPDATE campaigns SET deleted_at = now() - $1::interval WHERE deleted_at IS NOT NULL",
            MONTH,
        )
        await connection.execute("ALTER TABLE campaigns ENABLE TRIGGER campaigns_deletion")


async def left(connection: Connection) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM campaigns), (SELECT count(*) FROM campaign_history)"
    )
    assert row is not None
    return tuple(row)


async def prune(client: Client, kept: timedelta = MONTH) -> None:
    assert client.app is not None
    await pruning.prune(client.app[postgres.POOL], queries.prune_campaigns, kept)


async def no_event_waits(connection: Connection) -> None:
    await connection.execute("DELETE FROM outbox")


async def test_campaigns_deleted_long_ago_are_pruned_in_batches_with_their_history(
    idle_client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 3)
    await delete_long_ago(idle_client, connection, 5)
    await idle_client.delete(place(await create(idle_client)))
    await create(idle_client)
    await no_event_waits(connection)
    await prune(idle_client)
    # One that was deleted just now, with two versions, and one that is there.
    assert await left(connection) == (2, 3)


async def test_a_campaign_of_which_an_event_is_under_way_is_kept(
    idle_client: Client, connection: Connection
) -> None:
    await delete_long_ago(idle_client, connection, 1)
    await prune(idle_client)
    assert await left(connection) == (1, 2)
    await no_event_waits(connection)
    await prune(idle_client)
    assert await left(connection) == (0, 0)


async def test_nothing_that_is_not_deleted_is_pruned(
    idle_client: Client, connection: Connection
) -> None:
    await create(idle_client)
    await no_event_waits(connection)
    await prune(idle_client, -MONTH)
    assert await left(connection) == (1, 1)


async def test_deleted_campaigns_are_pruned_once_in_a_while(
    settings: Settings,
    idle_client: Client,
    aiohttp_client: Start,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await delete_long_ago(idle_client, connection, 1)
    await no_event_waits(connection)
    monkeypatch.setattr(pruning, "_SECONDS", 0.05)
    await aiohttp_client(create_app(replace(settings, deleted_days=29)))

    async def is_pruned() -> bool:
        return await left(connection) == (0, 0)

    await eventually(is_pruned, 10, "deleted campaigns are pruned")


async def test_nobody_can_delete_today_and_say_that_it_was_long_ago(
    settings: Settings, connection: Connection, idle_client: Client
) -> None:
    await create(idle_client)
    await no_event_waits(connection)
    async with postgres.connect(settings) as service:
        await service.execute("UPDATE campaigns SET deleted_at = '-infinity'")
        assert await queries.prune_campaigns(service, -MONTH, 10) == 0
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="is deleted already"):
            await service.execute("UPDATE campaigns SET deleted_at = '-infinity'")
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="is deleted already"):
            await service.execute("UPDATE campaigns SET deleted_at = NULL")
    assert await left(connection) == (1, 1)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (None, 200, "the usual"),
        ({}, 200, "some clients send it always"),
        ({"dry_run": True}, 422, "it would not be heeded"),
    ],
)
async def test_a_delete_has_nothing_to_say(
    client: Client, body: object, status: int, reason: str
) -> None:
    campaign = await create(client)
    assert (await client.delete(place(campaign), json=body)).status == status, reason


async def test_pruning_uses_tables_of_ours_only(
    settings: Settings, connection: Connection, idle_client: Client
) -> None:
    await delete_long_ago(idle_client, connection, 1)
    await no_event_waits(connection)
    async with postgres.connect(settings) as service:
        # What a caller of a function with the owner's rights might try.
        await service.execute("CREATE TEMP TABLE campaigns (LIKE public.campaigns)")
        assert await queries.prune_campaigns(service, MONTH, 10) == 1
    assert await left(connection) == (0, 0)
