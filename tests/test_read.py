"""`GET /api/v1/campaigns/{id}`."""

import json

import pytest

from service import keys, queries
from service.postgres import Connection
from tests.conftest import Client, create_key
from tests.test_create import EXAMPLE

PATH = "/api/v1/campaigns"


async def test_a_campaign_reads_as_it_was_answered_when_it_was_created(client: Client) -> None:
    created = await client.post(PATH, json=EXAMPLE)
    read = await client.get(created.headers["Location"])
    assert read.status == 200
    assert await read.read() == await created.read()
    assert read.headers["ETag"] == created.headers["ETag"]
    assert read.content_type == "application/json"


@pytest.mark.parametrize(
    ("if_none_match", "status", "reason"),
    [
        ('"1"', 304, "it is known"),
        ('W/"1"', 304, "weak is enough for reading"),
        ('"7", "1"', 304, "one of them"),
        ("*", 304, "whatever it is"),
        ('"2"', 200, "another one"),
        ('"*"', 200, "this is a tag, not a star"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_version_that_is_known_is_not_sent_again(
    client: Client, method: str, if_none_match: str, status: int, reason: str
) -> None:
    created = await client.post(PATH, json=EXAMPLE)
    answer = await client.request(
        method, created.headers["Location"], headers={"If-None-Match": if_none_match}
    )
    assert answer.status == status, reason
    assert answer.headers["ETag"] == '"1"'
    if status == 304:
        assert await answer.read() == b""


@pytest.mark.parametrize("sent", ["1", ""])
async def test_what_is_no_version_is_not_passed_over(client: Client, sent: str) -> None:
    created = await client.post(PATH, json=EXAMPLE)
    answer = await client.get(created.headers["Location"], headers={"If-None-Match": sent})
    assert answer.status == 400


async def test_a_query_that_would_not_be_heeded_is_refused(client: Client) -> None:
    created = await client.post(PATH, json=EXAMPLE)
    answer = await client.get(f"{created.headers['Location']}?version=1")
    assert answer.status == 422


async def test_a_version_that_is_older_is_sent_anew(client: Client) -> None:
    created = await client.post(PATH, json=EXAMPLE)
    await client.patch(created.headers["Location"], json={"name": "New"})
    answer = await client.get(created.headers["Location"], headers={"If-None-Match": '"1"'})
    assert (answer.status, (await answer.json())["name"]) == (200, "New")


async def test_a_campaign_of_another_organization_cannot_be_told_from_one_that_is_not_there(
    client: Client, connection: Connection
) -> None:
    created = await client.post(PATH, json=EXAMPLE)
    stranger = await create_key(connection, keys.Grant(1, "stranger"))
    answers = []
    for path in (created.headers["Location"], f"{PATH}/999999999"):
        answer = await client.get(
            path, headers={"Authorization": f"Bearer {stranger}", "X-Request-ID": "same"}
        )
        headers = {name: value for name, value in answer.headers.items() if name != "Date"}
        answers.append((answer.status, headers, await answer.read()))
    assert answers[0] == answers[1]
    status, _, body = answers[0]
    assert status == 404
    assert json.loads(body) == {
        "type": "urn:problem-type:campaigns:campaign-not-found",
        "title": "There is no such campaign",
        "status": 404,
        "detail": "Your organization has no campaign of this id.",
        "request_id": "same",
    }


async def test_looking_for_a_campaign_leaves_the_rows_of_others_alone(
    connection: Connection,
) -> None:
    # So it takes the same time whether another organization has one of this id or not.
    await connection.execute(
        """
        INSERT INTO campaigns (organization_id, id, version, name, campaign_type, status,
                               assistant_id, fallback_values, max_attempts, retry_delay_minutes,
                               created_at, updated_at)
        SELECT n % 2, n, 1, 'n', 'sms', 'draft', 1, '{}', 3, 30, now(), now()
        FROM generate_series(1, 10000) AS n
        """
    )
    await connection.execute("ANALYZE campaigns")
    async with connection.transaction():
        lines = await connection.fetch(
            f"EXPLAIN (COSTS off) {queries.STATEMENTS['read_campaigns']}", 7, [42]
        )
    assert [line for (line,) in lines] == [
        "Index Scan using campaigns_pkey on campaigns",
        "  Index Cond: ((organization_id = '7'::bigint) AND (id = ANY ('{42}'::bigint[])))",
        "  Filter: (deleted_at IS NULL)",
    ]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("0", "ids begin at 1"),
        ("-1", "ids begin at 1"),
        ("abc", "no number"),
        ("1.0", "no integer"),
        ("01", "an id is written in one way only"),
        ("999999999999999999", "the longest"),
        ("9223372036854775808", "more than the database can hold"),
        ("%D9%A1", "a digit of another script"),
        ("1%D9%A1", "also behind one of ours"),
        ("1%20", "a space"),
    ],
)
async def test_what_is_no_id_of_a_campaign_is_not_found(
    client: Client, given: str, reason: str
) -> None:
    assert (await client.get(f"{PATH}/{given}")).status == 404, reason
