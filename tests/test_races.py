"""Many who change the same campaign at the same time, over ten replicas."""

import asyncio
import itertools
import secrets
from collections import Counter
from typing import Any

import pytest

from service import drafts, queries
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start, somebody_waits_for_a_lock
from tests.consumers import QUEUES, Consumer, eventually
from tests.test_updates import KEY, Campaign, create, place, read

EDITORS = 50

Replicas = list[Client]


@pytest.fixture
async def replicas(settings: Settings, api_key: str, aiohttp_client: Start) -> Replicas:
    """Ten services on one database, each with connections and a relay of its own."""
    headers = {"Authorization": f"Bearer {api_key}"}
    return [await aiohttp_client(create_app(settings), headers=headers) for _ in range(10)]


async def edit(client: Client, campaign: Campaign, entry: str, attempts: int = 1) -> list[int]:
    """Add a fallback value to the version that was read; read again when it has changed."""
    statuses: list[int] = []
    while len(statuses) < attempts and 200 not in statuses:
        seen = await client.get(place(campaign))
        answer = await client.patch(
            place(campaign),
            json={"fallback_values": {entry: secrets.token_hex(4)}},
            headers={"If-Match": seen.headers["ETag"]},
        )
        statuses.append(answer.status)
    return statuses


async def edit_all_at_once(
    replicas: Replicas, campaign: Campaign, attempts: int = 1
) -> list[list[int]]:
    return await asyncio.gather(
        *(
            edit(replicas[number % len(replicas)], campaign, f"e{number}", attempts)
            for number in range(EDITORS)
        )
    )


async def history(client: Client, campaign: Campaign) -> list[dict[str, Any]]:
    answer = await client.get(f"{place(campaign)}/history?limit=100")
    items: list[dict[str, Any]] = (await answer.json())["items"]
    return items[::-1]


async def test_of_fifty_editors_the_winners_changes_are_all_there_and_no_others(
    replicas: Replicas, consumer: Consumer
) -> None:
    campaign = await create(replicas[0], fallback_values={})
    statuses = await edit_all_at_once(replicas, campaign)
    assert {status for [status] in statuses} == {200, 412}
    winners = {f"e{number}" for number, [status] in enumerate(statuses) if status == 200}
    after = await read(replicas[1], campaign)
    assert after["fallback_values"].keys() == winners
    assert after["version"] == 1 + len(winners)
    versions = [change["version"] for change in await history(replicas[2], campaign)]
    assert versions == [*range(1, after["version"] + 1)]
    for events in (await consumer.events(after["version"])).values():
        first_deliveries = list({event["id"]: event for event in events}.values())
        assert [int(event["sequence"]) for event in first_deliveries] == versions
        # Each event tells of one winner more than the one before.
        told = [event["data"]["campaign"]["fallback_values"].keys() for event in first_deliveries]
        assert [len(entries) for entries in told] == [*range(after["version"])]
        assert all(before < now for before, now in itertools.pairwise(told))


async def test_whoever_reads_again_gets_its_change_in(replicas: Replicas) -> None:
    campaign = await create(replicas[0], fallback_values={})
    statuses = await edit_all_at_once(replicas, campaign, attempts=500)
    assert all(attempts[-1] == 200 for attempts in statuses)
    after = await read(replicas[0], campaign)
    assert after["version"] == EDITORS + 1
    assert after["fallback_values"].keys() == {f"e{number}" for number in range(EDITORS)}


async def test_without_its_guard_the_same_race_loses_changes(
    replicas: Replicas, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = queries.STATEMENTS["change_campaign"]
    unguarded = guarded.replace("        AND version = $10 - 1\n", "        AND $10 > 1\n")
    assert unguarded != guarded
    monkeypatch.setitem(queries.STATEMENTS, "change_campaign", unguarded)
    # The second line of defence: a version has one place in the history and in the outbox.
    for table in ("campaign_history", "outbox"):
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    campaign = await create(replicas[0], fallback_values={})
    statuses = Counter(status for [status] in await edit_all_at_once(replicas, campaign))
    after = await read(replicas[0], campaign)
    assert len(after["fallback_values"]) < statuses[200]


async def test_without_if_match_all_changes_get_in_entry_by_entry(replicas: Replicas) -> None:
    campaign = await create(replicas[0], fallback_values={})

    async def patch(number: int) -> int:
        client = replicas[number % len(replicas)]
        entry = {f"e{number}": number}
        answer = await client.patch(place(campaign), json={"fallback_values": entry})
        return answer.status

    statuses = await asyncio.gather(*(patch(number) for number in range(EDITORS)))
    assert set(statuses) == {200}
    after = await read(replicas[0], campaign)
    assert after["version"] == EDITORS + 1
    assert after["fallback_values"] == {f"e{number}": number for number in range(EDITORS)}


async def test_in_one_process_nobody_reads_what_is_about_to_change(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await create(client, fallback_values={})
    read_campaigns, readings = queries.read_campaigns, Counter[str]()

    async def count_and_read(*arguments: Any) -> list[drafts.Campaign]:
        readings["campaign"] += 1
        return await read_campaigns(*arguments)

    monkeypatch.setattr(queries, "read_campaigns", count_and_read)
    patches = (
        client.patch(place(campaign), json={"fallback_values": {f"e{number}": 1}})
        for number in range(EDITORS)
    )
    assert {answer.status for answer in await asyncio.gather(*patches)} == {200}
    assert readings["campaign"] == EDITORS


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PATCH", "", 200), ("PUT", "", 200), ("DELETE", "", 200), ("POST", "/duplicate", 201)],
)
async def test_fifty_repetitions_of_one_request_are_one(
    replicas: Replicas, connection: Connection, method: str, path: str, status: int
) -> None:
    # Several times, as it takes one that looks before another has stored, and fails afterwards.
    for _ in range(5):
        campaign = await create(replicas[0])
        said = {} if method == "DELETE" else {"name": "New"}
        answers = await asyncio.gather(
            *(
                client.request(
                    method, place(campaign) + path, json=said, headers=KEY | {"If-Match": '"1"'}
                )
                for client in replicas * (EDITORS // len(replicas))
            )
        )
        assert {answer.status for answer in answers} == {status}
        assert len({await answer.read() for answer in answers}) == 1
        replayed = [answer.headers.get("Idempotency-Replayed") for answer in answers]
        assert Counter(replayed) == {None: 1, "true": EDITORS - 1}
    # Each time a create, and what was done once.
    assert await connection.fetchval("SELECT count(*) FROM campaign_history") == 10


async def answer_elsewhere(connection: Connection, campaign: Campaign) -> None:
    """As another replica would, to a request to delete the campaign."""
    await connection.execute(
        """
        INSERT INTO idempotency_records
        VALUES ($1, $2, $3, sha256('{}'), 200, '{}', '{"message":"elsewhere"}')
        """,
        campaign["organization_id"],
        f"DELETE {place(campaign)}",
        KEY["Idempotency-Key"],
    )


async def test_an_attempt_that_is_done_elsewhere_while_it_looks_is_answered_as_that(
    client: Client, connection: Connection
) -> None:
    campaign = await create(client)
    async with connection.transaction():
        # It finds no answer, and waits for the campaign.
        await connection.execute("LOCK TABLE campaigns IN ACCESS EXCLUSIVE MODE")
        late = asyncio.create_task(client.delete(place(campaign), headers=KEY))
        await eventually(lambda: somebody_waits_for_a_lock(connection), 10, "a request that waits")
        await connection.execute("UPDATE campaigns SET deleted_at = now()")
        await answer_elsewhere(connection, campaign)
    answer = await late
    assert answer.status == 200
    assert await answer.json() == {"message": "elsewhere"}
    assert answer.headers["Idempotency-Replayed"] == "true"


async def test_a_change_whose_key_is_used_up_meanwhile_is_not_made(
    client: Client, connection: Connection
) -> None:
    campaign = await create(client)
    async with connection.transaction():
        # It has found no answer, and waits to change the version that it has read.
        await connection.execute("SELECT FROM campaigns FOR UPDATE")
        late = asyncio.create_task(client.delete(place(campaign), headers=KEY))
        await eventually(lambda: somebody_waits_for_a_lock(connection), 10, "a request that waits")
        await answer_elsewhere(connection, campaign)
    assert await (await late).json() == {"message": "elsewhere"}
    assert (await client.get(place(campaign))).status == 200


async def test_of_fifty_deletions_one_is_told_and_the_others_find_nothing(
    replicas: Replicas, connection: Connection
) -> None:
    campaign = await create(replicas[0])
    answers = await asyncio.gather(
        *(client.delete(place(campaign)) for client in replicas * (EDITORS // len(replicas)))
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 404: EDITORS - 1}
    assert await connection.fetchval("SELECT count(*) FROM campaign_history") == 2


async def test_editors_of_a_campaign_that_is_deleted_meanwhile_find_nothing(
    replicas: Replicas, consumer: Consumer
) -> None:
    campaign = await create(replicas[0])

    async def rename(number: int) -> int:
        client = replicas[number % len(replicas)]
        return (await client.patch(place(campaign), json={"name": f"n{number}"})).status

    async def delete() -> int:
        return (await replicas[5].delete(place(campaign))).status

    editors = [rename(number) for number in range(EDITORS)]
    deleted, *renamed = await asyncio.gather(delete(), *editors)
    assert deleted == 200
    assert set(renamed) <= {200, 404}
    last = 2 + renamed.count(200)
    arrived = await consumer.events(last)
    for queue in QUEUES:
        events = list({event["id"]: event for event in arrived[queue]}.values())
        assert [int(event["sequence"]) for event in events] == [*range(1, last + 1)]
        assert events[-1]["type"] == "campaign.deleted"
