"""Idempotency: what is repeated under its key is answered again, and not done again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from service import keys, postgres, pruning, queries
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import (
    NOWHERE,
    Client,
    Start,
    create_key,
    somebody_waits_for_a_lock,
)
from tests.consumers import Consumer, eventually, outbox_is_empty
from tests.processes import Service
from tests.proxies import Proxy
from tests.test_create import EXAMPLE

PATH = "/api/v1/campaigns"
KEY = {"Idempotency-Key": "7c4a8d09"}
ANOTHER_KEY = {"Idempotency-Key": "another"}
DAY = timedelta(days=1)

StartProxy = Callable[[str], Awaitable[Proxy]]


async def count(connection: Connection, table: str = "campaigns") -> int:
    number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 (ours)
    return number


async def test_a_repeated_request_gets_the_first_answer_byte_for_byte(
    client: Client, connection: Connection
) -> None:
    first = await client.post(PATH, json=EXAMPLE, headers=KEY)
    second = await client.post(PATH, json=EXAMPLE, headers=KEY)
    assert (first.status, second.status) == (201, 201)
    assert await first.read() == await second.read()
    for header in ("Location", "ETag", "Content-Type"):
        assert first.headers[header] == second.headers[header]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert await count(connection) == 1


async def test_the_first_answer_is_given_also_when_the_campaign_has_changed(
    client: Client, connection: Connection
) -> None:
    first = await client.post(PATH, json=EXAMPLE, headers=KEY)
    await connection.execute("UPDATE campaigns SET name = 'changed', version = 2")
    second = await client.post(PATH, json=EXAMPLE, headers=KEY)
    assert await first.read() == await second.read()
    assert second.headers["ETag"] == '"1"'


async def test_a_key_with_another_body_is_refused_and_nothing_is_stored(
    client: Client, connection: Connection
) -> None:
    await client.post(PATH, json=EXAMPLE, headers=KEY)
    refused = await client.post(PATH, json=EXAMPLE | {"name": "other"}, headers=KEY)
    document = await refused.json()
    assert refused.status == 422
    assert document["type"] == "urn:problem-type:campaigns:idempotency-key-reused"
    assert await count(connection) == 1


VALUES = {"a": 1, "b": True}
SAID: dict[str, Any] = {
    "name": "n",
    "campaign_type": "sms",
    "assistant_id": 1,
    "fallback_values": VALUES,
}


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        (json.dumps(SAID, indent=3), "other spaces"),
        (json.dumps(dict(reversed(SAID.items()))), "names in another order"),
        (json.dumps(SAID | {"fallback_values": dict(reversed(VALUES.items()))}), "also inside"),
        (json.dumps(SAID).replace("n", "\\u006e"), "escapes"),
        (json.dumps(SAID | {"name": " n "}), "white space that is taken off"),
        (json.dumps(SAID | {"max_attempts": 3}), "a default"),
        (json.dumps(SAID | {"description": None}), "null for what is not given"),
    ],
)
async def test_what_says_the_same_is_the_same_request(
    client: Client, connection: Connection, again: str, reason: str
) -> None:
    headers = KEY | {"Content-Type": "application/json"}
    await client.post(PATH, data=json.dumps(SAID), headers=headers)
    answer = await client.post(PATH, data=again, headers=headers)
    assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (201, "true"), reason
    assert await count(connection) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "m"}, "another name"),
        ({"fallback_values": {"a": 1.0, "b": True}}, "1.0 is told as 1.0, and 1 as 1"),
        ({"fallback_values": {"a": True, "b": True}}, "true is not 1"),
        ({"max_attempts": 4}, "no default"),
        ({"description": ""}, "an empty description is one"),
    ],
)
async def test_what_says_something_else_is_another_request(
    client: Client, change: dict[str, Any], reason: str
) -> None:
    await client.post(PATH, json=SAID, headers=KEY)
    assert (await client.post(PATH, json=SAID | change, headers=KEY)).status == 422, reason


async def test_what_failed_validation_is_not_recorded(
    client: Client, connection: Connection
) -> None:
    assert (await client.post(PATH, json={}, headers=KEY)).status == 422
    assert await count(connection, "idempotency_records") == 0
    corrected = await client.post(PATH, json=EXAMPLE, headers=KEY)
    assert corrected.status == 201
    assert "Idempotency-Replayed" not in corrected.headers


async def test_a_check_without_a_create_uses_no_key_up(
    client: Client, connection: Connection
) -> None:
    await client.post(f"{PATH}?validate_only=true", json=EXAMPLE, headers=KEY)
    assert await count(connection, "idempotency_records") == 0


async def test_a_check_tells_also_of_a_key_that_is_none(client: Client) -> None:
    answer = await client.post(
        f"{PATH}?validate_only=true", json=EXAMPLE, headers={"Idempotency-Key": ""}
    )
    assert answer.status == 400


async def test_another_organization_may_use_the_same_key(
    client: Client, connection: Connection
) -> None:
    other = await create_key(connection, keys.Grant(1, "other"))
    await client.post(PATH, json=EXAMPLE, headers=KEY)
    answer = await client.post(
        PATH, json=EXAMPLE | {"name": "other"}, headers=KEY | {"Authorization": f"Bearer {other}"}
    )
    assert answer.status == 201
    assert (await answer.json())["organization_id"] == 1
    assert await count(connection) == 2


async def test_another_key_of_the_organization_gets_the_same_answer(
    client: Client, connection: Connection, organization: int
) -> None:
    other = await create_key(connection, keys.Grant(organization, "rotated"))
    await client.post(PATH, json=EXAMPLE, headers=KEY)
    answer = await client.post(
        PATH, json=EXAMPLE, headers=KEY | {"Authorization": f"Bearer {other}"}
    )
    assert answer.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("abc", '"abc"', "quoted, as the proposed standard has it"),
        ('a"\\b', '"a\\"\\\\b"', "quotes and backslashes are escaped in quotes"),
        ("a, b", '"a, b"', "a comma is a character"),
    ],
)
async def test_a_key_is_the_same_with_and_without_quotes(
    client: Client, first: str, second: str, reason: str
) -> None:
    await client.post(PATH, json=EXAMPLE, headers={"Idempotency-Key": first})
    again = await client.post(PATH, json=EXAMPLE, headers={"Idempotency-Key": second})
    assert again.headers.get("Idempotency-Replayed") == "true", reason


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (["x" * 255], "the longest"),
        (['"' + "x" * 255 + '"'], "the longest, not counting quotes"),
        (["~"], "the shortest"),
    ],
)
async def test_a_key_has_up_to_255_printable_characters(
    client: Client, sent: list[str], reason: str
) -> None:
    answer = await client.post(PATH, json=EXAMPLE, headers=[("Idempotency-Key", s) for s in sent])
    assert answer.status == 201, reason


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ([""], "empty"),
        (['""'], "empty in quotes"),
        (["x" * 256], "too long"),
        (['"' + "x" * 256 + '"'], "too long in quotes"),
        (["schlüssel"], "not ASCII"),
        (["a\tb"], "not printable"),
        (['"abc'], "quotes that do not end"),
        (['"a"b"'], "a quote in quotes"),
        (['"a\\b"'], "an unknown escape"),
        (['"abc";x=1'], "parameters"),
        (["a", "a"], "two headers"),
    ],
)
async def test_what_is_no_key_is_refused_and_nothing_is_stored(
    client: Client, connection: Connection, sent: list[str], reason: str
) -> None:
    answer = await client.post(PATH, json=EXAMPLE, headers=[("Idempotency-Key", s) for s in sent])
    assert answer.status == 400, reason
    assert (await answer.json())["type"].endswith(":invalid-idempotency-key")
    assert await count(connection) == 0


async def test_campaign_event_and_answer_are_stored_together_or_not_at_all(
    client: Client, connection: Connection
) -> None:
    await connection.execute("ALTER TABLE outbox ADD CONSTRAINT closed CHECK (false) NOT VALID")
    assert (await client.post(PATH, json=EXAMPLE, headers=KEY)).status == 500
    assert await count(connection, "idempotency_records") == 0
    await connection.execute("ALTER TABLE outbox DROP CONSTRAINT closed")
    answer = await client.post(PATH, json=EXAMPLE, headers=KEY)
    assert "Idempotency-Replayed" not in answer.headers
    assert await count(connection) == 1


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without one"])
async def test_fifty_at_once_over_two_replicas_are_one_campaign_if_they_have_one_key(
    settings: Settings,
    api_key: str,
    start_service: Callable[[Settings], Service],
    consumer: Consumer,
    connection: Connection,
    keyed: bool,
) -> None:
    services = [start_service(settings), start_service(settings)]
    headers = {"Authorization": f"Bearer {api_key}"} | (KEY if keyed else {})

    async def create(service: Service) -> tuple[int, bytes, str, str | None]:
        async with session.post(f"{service.url}{PATH}", json=EXAMPLE) as response:
            replayed = response.headers.get("Idempotency-Replayed")
            return response.status, await response.read(), response.headers["Location"], replayed

    async with aiohttp.ClientSession(headers=headers) as session:
        answers = await asyncio.gather(*(create(services[number % 2]) for number in range(50)))
    expected = 1 if keyed else 50
    assert len({answer[:3] for answer in answers}) == expected
    assert [answer[3] for answer in answers].count(None) == expected
    assert {answer[0] for answer in answers} == {201}
    assert await count(connection) == expected
    arrived = await consumer.events(expected)
    await outbox_is_empty(connection)
    assert [len(events) for events in arrived.values()] == [expected] * 3


@pytest.mark.parametrize(
    ("headers", "campaigns"), [(KEY, 1), ({}, 2)], ids=["with a key", "without one"]
)
async def test_a_connection_that_is_cut_at_the_commit_makes_a_second_campaign_only_without_a_key(
    settings: Settings,
    api_key: str,
    aiohttp_client: Start,
    start_proxy: StartProxy,
    connection: Connection,
    headers: dict[str, str],
    campaigns: int,
) -> None:
    proxy = await start_proxy(settings.database_url)
    app = create_app(replace(settings, database_url=proxy.url, amqp_url=NOWHERE))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    # From here on, a create is one exchange with the database, and its answer follows the commit.
    await client.post(PATH, json=EXAMPLE, headers=headers and ANOTHER_KEY)
    proxy.cutting = True
    assert (await client.post(PATH, json=EXAMPLE, headers=headers)).status == 503
    proxy.cutting = False
    assert await count(connection) == 2
    retried = await client.post(PATH, json=EXAMPLE, headers=headers)
    assert retried.status == 201
    assert await count(connection) == await count(connection, "outbox") == 1 + campaigns


async def test_a_service_that_is_killed_after_the_commit_answers_the_retry_when_it_is_back(
    settings: Settings,
    api_key: str,
    start_service: Callable[[Settings], Service],
    start_proxy: StartProxy,
    connection: Connection,
) -> None:
    proxy = await start_proxy(settings.database_url)
    settings = replace(settings, database_url=proxy.url, amqp_url=NOWHERE)
    killed = await asyncio.to_thread(start_service, settings)
    # From here on, a create is one exchange with the database, and its answer follows the commit.
    await asyncio.to_thread(killed.create, api_key, EXAMPLE, ANOTHER_KEY)
    proxy.passing.clear()
    creating = asyncio.create_task(asyncio.to_thread(killed.create, api_key, EXAMPLE, KEY))

    async def is_committed() -> bool:
        return await count(connection) == 2

    await eventually(is_committed, 10, "the commit")
    killed.kill()
    with pytest.raises(OSError, match="Connection"):
        await creating
    proxy.passing.set()
    service = await asyncio.to_thread(start_service, settings)
    retried = await asyncio.to_thread(service.create, api_key, EXAMPLE, KEY)
    assert (retried.status_code, retried.headers["Idempotency-Replayed"]) == (201, "true")
    assert await count(connection) == await count(connection, "outbox") == 2


@pytest.mark.parametrize(
    ("end", "replayed"), [("ROLLBACK", None), ("COMMIT", "true")], ids=["fails", "succeeds"]
)
async def test_who_comes_second_waits_for_how_the_first_one_ends(
    client: Client, connection: Connection, end: str, replayed: str | None
) -> None:
    await client.post(PATH, json=EXAMPLE, headers=KEY)
    await connection.execute("BEGIN")
    await connection.execute("UPDATE idempotency_records SET key = 'first'")
    second = asyncio.create_task(
        client.post(PATH, json=EXAMPLE, headers={"Idempotency-Key": "first"})
    )
    await eventually(lambda: somebody_waits_for_a_lock(connection), 10, "the second waits")
    await connection.execute(end)
    answer = await second
    assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (201, replayed)


async def age(connection: Connection, by: timedelta) -> None:
    await connection.execute(
        "UPDATE idempotency_records SET created_at = created_at - $1::interval", by
    )


async def test_a_key_that_was_kept_long_enough_is_new_again(
    client: Client, connection: Connection
) -> None:
    first = await client.post(PATH, json=EXAMPLE, headers=KEY)
    await age(connection, DAY)
    other = await client.post(PATH, json=EXAMPLE | {"name": "other"}, headers=KEY)
    again = await client.post(PATH, json=EXAMPLE | {"name": "other"}, headers=KEY)
    assert other.status == again.status == 201
    assert await other.read() == await again.read() != await first.read()
    assert await count(connection) == 2


async def test_until_then_it_is_not(client: Client, connection: Connection) -> None:
    await client.post(PATH, json=EXAMPLE, headers=KEY)
    await age(connection, DAY - timedelta(minutes=1))
    again = await client.post(PATH, json=EXAMPLE, headers=KEY)
    assert again.headers["Idempotency-Replayed"] == "true"


async def store_five(client: Client, connection: Connection) -> None:
    """Four old answers and a new one."""
    for number in range(5):
        await client.post(PATH, json=EXAMPLE, headers={"Idempotency-Key": str(number)})
    await connection.execute(
        "UPDATE idempotency_records SET created_at = now() - $1::interval WHERE key <> '4'", DAY
    )


async def test_old_answers_are_pruned_in_batches_and_new_ones_stay(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 3)
    await store_five(client, connection)
    assert client.app is not None
    await pruning.prune(client.app[postgres.POOL], queries.prune_answers, DAY)
    assert await connection.fetchval("SELECT array_agg(key) FROM idempotency_records") == ["4"]


async def test_pruning_waits_for_nobody(client: Client, connection: Connection) -> None:
    await store_five(client, connection)
    assert client.app is not None
    async with connection.transaction():
        await connection.execute("SELECT FROM idempotency_records WHERE key = '1' FOR UPDATE")
        await pruning.prune(client.app[postgres.POOL], queries.prune_answers, DAY)
        left = await connection.fetch("SELECT key FROM idempotency_records ORDER BY key")
    assert [key for (key,) in left] == ["1", "4"]


async def test_old_answers_are_pruned_once_in_a_while(
    settings: Settings,
    client: Client,
    aiohttp_client: Start,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store_five(client, connection)
    monkeypatch.setattr(pruning, "_SECONDS", 0.05)
    await aiohttp_client(create_app(settings))

    async def is_pruned() -> bool:
        return await count(connection, "idempotency_records") == 1

    await eventually(is_pruned, 10, "old answers are pruned")
