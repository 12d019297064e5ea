"""`GET /api/v1/campaigns`: pages, orders, filters and cursors."""

import asyncio
import base64
import json
import math
import re
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from yarl import URL

from service import drafts, keys, listings, lists, queries, scans
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, create_key, waiting_for_locks
from tests.consumers import eventually
from tests.targets import Target
from tests.test_create import EXAMPLE
from tests.test_updates import PATH, create, place

Page = dict[str, Any]

# Two equal names, to be told apart by their ids; the order of their ids is that of the list.
NAMES = ["Été", "apple", "Zebra", "apple", "Über 100%", "b_c"]
SORTED = ["apple", "apple", "b_c", "Zebra", "Été", "Über 100%"]


async def insert(connection: Connection, organization: int, count: int) -> None:
    """Campaigns that were created at the same moment in threes."""
    await connection.execute(
        """
        INSERT INTO campaigns (organization_id, id, version, name, name_key, campaign_type, status,
                               assistant_id, fallback_values, max_attempts, retry_delay_minutes,
                               created_at, updated_at)
        SELECT $1, n, 1, 'n' || n, 'n' || n, 'sms', 'draft', 1, '{}', 3, 30,
               timestamptz '2026-01-01Z' + make_interval(mins => n / 3),
               timestamptz '2026-01-01Z' + make_interval(mins => n / 3)
        FROM generate_series(1, $2::integer) AS n
        """,
        organization,
        count,
    )


async def get(client: Client, query: str = "") -> Page:
    answer = await client.get(f"{PATH}?{query}")
    assert answer.status == 200, await answer.text()
    page: Page = await answer.json()
    return page


async def ids(client: Client, query: str = "") -> list[int]:
    return [item["id"] for item in (await get(client, query))["items"]]


def links(answer: Any) -> dict[str, str]:
    return {
        relation: url
        for url, relation in re.findall(r'<(.*?)>; rel="(\w+)"', answer.headers["Link"])
    }


async def test_a_list_holds_whole_campaigns_the_newest_first(client: Client) -> None:
    campaigns = [await create(client, name=name) for name in "abc"]
    assert (await get(client))["items"] == campaigns[::-1]


async def test_an_empty_list_is_a_page_too(client: Client) -> None:
    assert await get(client) == {
        "items": [],
        "total": 0,
        "skip": 0,
        "limit": 50,
        "pagination": {
            "page": 1,
            "per_page": 50,
            "total_items": 0,
            "total_pages": 0,
            "total_is_exact": True,
            "has_next": False,
            "has_prev": False,
            "next_cursor": None,
        },
    }


async def test_campaigns_of_others_are_in_no_list(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization + 1, 3)
    page = await get(client)
    assert (page["items"], page["total"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "skip", "limit", "reason"),
    [
        ("", 0, 50, "the published default"),
        ("skip=2&limit=3", 2, 3, "as the SDK counts"),
        ("limit=3", 0, 3, "from the beginning"),
        ("skip=2", 2, 50, "and the rest"),
        ("page=2&per_page=3", 3, 3, "as sub-resources of campaigns count"),
        ("page=2", 50, 50, "pages of the usual size"),
        ("per_page=3", 0, 3, "the first page"),
        ("limit=2000", 0, 1000, "too much is as much as there may be"),
        ("per_page=999999999999999999", 0, 1000, "however much"),
        ("skip=8", 8, 50, "the last one"),
        ("skip=10000", 10_000, 50, "as far as that goes"),
    ],
)
async def test_both_conventions_name_the_same_parts(
    client: Client,
    connection: Connection,
    organization: int,
    query: str,
    skip: int,
    limit: int,
    reason: str,
) -> None:
    await insert(connection, organization, 9)
    page = await get(client, query)
    expected = [9, 8, 7, 6, 5, 4, 3, 2, 1][skip : skip + limit]
    assert [item["id"] for item in page["items"]] == expected, reason
    assert (page["total"], page["skip"], page["limit"]) == (9, skip, limit)
    pagination = page["pagination"]
    assert (pagination["page"], pagination["per_page"]) == (skip // limit + 1, limit)
    assert pagination["total_pages"] == -(-9 // limit)
    assert pagination["has_next"] is (skip + limit < 9)
    assert pagination["has_prev"] is (skip > 0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"first": "skip=0&limit=50"}),
        ("skip=3&limit=3&status=draft", {
            "first": "status=draft&skip=0&limit=3",
            "prev": "status=draft&skip=0&limit=3",
            "next": "status=draft&skip=6&limit=3",
        }),
        ("skip=1&limit=3", {
            "first": "skip=0&limit=3", "prev": "skip=0&limit=3", "next": "skip=4&limit=3"
        }),
        ("page=2&per_page=3", {
            "first": "page=1&per_page=3",
            "prev": "page=1&per_page=3",
            "next": "page=3&per_page=3",
        }),
        ("page=3&per_page=3", {"first": "page=1&per_page=3", "prev": "page=2&per_page=3"}),
    ],
)  # fmt: skip
async def test_links_lead_on_in_the_convention_of_the_caller(
    client: Client,
    connection: Connection,
    organization: int,
    query: str,
    expected: dict[str, str],
) -> None:
    await insert(connection, organization, 9)
    answer = await client.get(f"{PATH}?{query}")
    assert links(answer) == {relation: f"{PATH}?{query}" for relation, query in expected.items()}


@pytest.mark.parametrize("start", ["limit=4", "per_page=4", "skip=3&limit=2", "sort=name&limit=1"])
async def test_whoever_follows_the_links_sees_each_campaign_once(
    client: Client, connection: Connection, organization: int, start: str
) -> None:
    await insert(connection, organization, 10)
    seen: list[int] = []
    url: str | None = f"{PATH}?{start}"
    while url:
        answer = await client.get(URL(url, encoded=True))
        seen += [item["id"] for item in (await answer.json())["items"]]
        url = links(answer).get("next")
    assert len(seen) == len(set(seen)) == (7 if "skip" in start else 10)


async def by_cursor(client: Client, query: str) -> list[int]:
    page = await get(client, query)
    seen = [item["id"] for item in page["items"]]
    while cursor := page["pagination"]["next_cursor"]:
        page = await get(client, f"{query}&cursor={cursor}")
        seen += [item["id"] for item in page["items"]]
    return seen


@pytest.mark.parametrize("sort", ["created_at", "updated_at", "name"])
@pytest.mark.parametrize("way", ["", "-"])
async def test_a_cursor_reads_the_same_as_one_long_page(
    client: Client, connection: Connection, organization: int, sort: str, way: str
) -> None:
    await insert(connection, organization, 30)
    whole = await ids(client, f"sort={way}{sort}&limit=100")
    assert len(whole) == 30
    assert await by_cursor(client, f"sort={way}{sort}&limit=4") == whole


async def test_a_cursor_reads_what_was_there_also_when_others_come_and_go(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 12)
    page = await get(client, "limit=5")
    # Newer than all, and one that was read already: by counting, the next page would be another.
    await create(client)
    await create(client)
    await client.delete(f"{PATH}/12")
    cursor = page["pagination"]["next_cursor"]
    assert await ids(client, f"limit=5&cursor={cursor}") == [7, 6, 5, 4, 3]


async def test_a_page_is_of_one_moment(
    client: Client,
    connection: Connection,
    organization: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await insert(connection, organization, 6)
    read = queries.read_campaigns

    async def delete_and_read(reading: Connection, *arguments: Any) -> list[drafts.Campaign]:
        await connection.execute("UPDATE campaigns SET deleted_at = now() WHERE id = 3")
        return await read(reading, *arguments)

    monkeypatch.setattr(queries, "read_campaigns", delete_and_read)
    assert await ids(client, "limit=5") == [6, 5, 4, 3, 2]
    monkeypatch.undo()
    assert await ids(client, "limit=5") == [6, 5, 4, 2, 1]


async def test_a_page_beyond_a_cursor_does_not_know_how_far_it_is(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 9)
    cursor = (await get(client, "limit=3"))["pagination"]["next_cursor"]
    answer = await client.get(f"{PATH}?per_page=3&cursor={cursor}")
    page = await answer.json()
    pagination = page["pagination"]
    assert (page["total"], page["skip"], page["limit"]) == (9, None, 3)
    assert (pagination["page"], pagination["has_prev"]) == (None, True)
    assert links(answer) == {
        "next": f"{PATH}?per_page=3&cursor={pagination['next_cursor']}",
    }


async def test_a_cursor_keeps_its_order_and_takes_filters(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 9)
    await connection.execute("UPDATE campaigns SET status = 'paused' WHERE id % 2 = 0")
    page = await get(client, "sort=name&limit=2")
    cursor = page["pagination"]["next_cursor"]
    assert await ids(client, f"cursor={cursor}&status=paused") == [4, 6, 8]


async def test_where_skipping_ends_the_link_goes_on_with_a_cursor(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 10_200)
    answer = await client.get(f"{PATH}?skip=9950&limit=100")
    page = await answer.json()
    assert (page["total"], page["pagination"]["total_is_exact"]) == (10_000, False)
    assert page["items"][-1]["id"] == 151
    following = await client.get(URL(links(answer)["next"], encoded=True))
    assert (await following.json())["items"][0]["id"] == 150


@pytest.mark.parametrize(
    ("count", "total", "exact", "reason"),
    [(10_000, 10_000, True, "just counted"), (10_001, 10_000, False, "one more than is counted")],
)
async def test_a_total_is_counted_to_ten_thousand_and_says_so(
    client: Client,
    connection: Connection,
    organization: int,
    count: int,
    total: int,
    exact: bool,
    reason: str,
) -> None:
    await insert(connection, organization, count)
    page = await get(client, "limit=1")
    assert (page["total"], page["pagination"]["total_is_exact"]) == (total, exact), reason


async def test_the_last_page_that_can_be_counted_leads_on_to_a_cursor(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 10_003)
    url: str | None = f"{PATH}?page=10000&per_page=1"
    seen = []
    while url:
        answer = await client.get(URL(url, encoded=True))
        seen += [item["id"] for item in (await answer.json())["items"]]
        url = links(answer).get("next")
    assert seen == [4, 3, 2, 1]


async def test_a_search_goes_on_behind_what_a_page_looks_through(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 20_005)
    await connection.execute("UPDATE campaigns SET name_key = 'Found' WHERE id IN (2, 3, 11000)")
    answer = await client.get(f"{PATH}?q=ound&limit=2")
    page = await answer.json()
    pagination = page["pagination"]
    assert [item["id"] for item in page["items"]] == [11_000]
    assert (page["total"], pagination["total_is_exact"], pagination["has_next"]) == (1, False, True)
    seen = []
    while following := links(answer).get("next"):
        answer = await client.get(URL(following, encoded=True))
        page = await answer.json()
        seen.append([item["id"] for item in page["items"]])
    # All but the last five are behind two pages, and the second finds nothing.
    assert seen == [[], [3, 2]]
    assert (page["total"], page["pagination"]["total_is_exact"]) == (1, False)


async def test_a_search_through_all_there_is_counts_what_it_finds(
    client: Client, connection: Connection, organization: int
) -> None:
    await insert(connection, organization, 10_000)
    page = await get(client, "q=n1000&limit=1&skip=1")
    assert [item["id"] for item in page["items"]] == [1000]
    assert (page["total"], page["pagination"]["total_is_exact"]) == (2, True)
    assert page["pagination"]["has_next"] is False


VARIED = """
INSERT INTO campaigns (organization_id, id, version, name, name_key, campaign_type, status,
                       assistant_id, fallback_values, max_attempts, retry_delay_minutes,
                       created_at, updated_at)
SELECT $1, n, 1, name, name, (ARRAY['sms', 'call', 'mixed'])[1 + n % 7 % 3],
       (ARRAY['draft', 'paused', 'completed'])[1 + n % 11 % 3], 1 + n % 5 % 2, '{}', 3, 30,
       created_at, created_at + interval '7 minutes' * (n % 13 % 4)
FROM (
    SELECT n, 'n' || n * 7919 % 101 % 40 AS name,
           timestamptz '2026-01-01Z' + make_interval(mins => n / 3) AS created_at
    FROM generate_series(1, 90) AS n
) made
"""
EVERY_FILTER = {
    "status": "paused",
    "campaign_type": "sms",
    "assistant_id": "2",
    "created_after": "2026-01-01T00:05:00Z",
    "created_before": "2026-01-01T00:26:00Z",
    "q": "3",
}


def passes(item: dict[str, Any], query: dict[str, str]) -> bool:
    return (
        all(str(item[key]) == query.get(key, str(item[key])) for key in list(EVERY_FILTER)[:3])
        and query.get("q", "") in item["name"]
        and item["created_at"] > query.get("created_after", "")
        and item["created_at"] < query.get("created_before", "3")
    )


@pytest.mark.parametrize("furthest", [12, 30, 90])
async def test_with_any_filters_in_any_order_a_cursor_finds_all_and_each_once(
    client: Client,
    connection: Connection,
    organization: int,
    monkeypatch: pytest.MonkeyPatch,
    furthest: int,
) -> None:
    await connection.execute(VARIED, organization)
    campaigns = (await get(client, "limit=1000"))["items"]
    for module in (scans, lists):
        monkeypatch.setattr(module, "FURTHEST", furthest)
    short = 0
    for number in range(2 ** len(EVERY_FILTER)):
        names = [name for at, name in enumerate(EVERY_FILTER) if number >> at & 1]
        query = {name: EVERY_FILTER[name] for name in names}
        for order in listings.ORDERS.values():
            expected = [
                item["id"]
                for item in sorted(
                    (item for item in campaigns if passes(item, query)),
                    key=lambda item: (item[order.key], item["id"]),
                    reverse=order.descending,
                )
            ]
            url: URL | None = URL(PATH).with_query(query | {"sort": order.name, "limit": "25"})
            seen = []
            while url:
                page = await (await client.get(url)).json()
                seen += [item["id"] for item in page["items"]]
                pagination = page["pagination"]
                short += pagination["has_next"] and len(page["items"]) < 25
                if pagination["total_is_exact"]:
                    assert page["total"] == len(expected), (query, order)
                else:
                    assert page["total"] <= len(expected), (query, order)
                cursor = pagination["next_cursor"]
                assert pagination["has_next"] is (cursor is not None)
                url = cursor and url.update_query(cursor=cursor)
            assert seen == expected, (query, order)
    assert (short == 0) is (furthest == 90)


LARGE = {f"v{number}": "\U0001f600" * 1_000 for number in range(100)}


async def test_a_page_of_more_bytes_than_are_good_for_anybody_says_what_would_be_right(
    client: Client,
) -> None:
    for number in range(12):
        body = json.dumps(
            EXAMPLE | {"fallback_values": LARGE, "name": f"n{number}"}, ensure_ascii=False
        )
        headers = {"Content-Type": "application/json"}
        await client.post(PATH, data=body.encode(), headers=headers)
    refused = await client.get(f"{PATH}?limit=12")
    assert refused.status == 422
    assert (await refused.json())["errors"] == [
        {
            "parameter": "limit",
            "detail": "These campaigns are too large for one page: ask for 10 at most.",
        }
    ]
    refused = await client.get(f"{PATH}?per_page=12")
    assert [error["parameter"] for error in (await refused.json())["errors"]] == ["per_page"]
    assert len(await ids(client, "limit=10")) == 10
    assert len(await ids(client, "skip=10&limit=10")) == 2


async def test_lists_leave_connections_to_others_and_to_lists_of_others(
    client: Client, connection: Connection, settings: Settings, organization: int
) -> None:
    stranger = await create_key(connection, keys.Grant(organization + 1, "stranger"))
    most = settings.database_pool_size // 2
    most_of_one = math.ceil(settings.database_pool_size / 4)

    def get_lists(**headers: str) -> list["asyncio.Task[aiohttp.ClientResponse]"]:
        listing = (client.get(PATH, headers=headers) for _ in range(3 * most))
        return [asyncio.ensure_future(each) for each in listing]

    async def wait(number: int) -> None:
        async def do_wait() -> bool:
            return await waiting_for_locks(connection) == number

        await eventually(do_wait, 10, f"{number} lists that wait")

    async with connection.transaction():
        await connection.execute("LOCK TABLE campaigns IN ACCESS EXCLUSIVE MODE")
        lists = get_lists()
        await wait(most_of_one)
        lists += get_lists(Authorization=f"Bearer {stranger}")
        await wait(most)
        # This needs a connection, but not the table, and all other places are free.
        assert (await client.get("/readyz")).status == 200
        previews = client.post(f"{PATH}/template-preview", json={"template": "a"})
        assert (await previews).status == 200
    assert {(await answer).status for answer in lists} == {200}


@pytest.mark.parametrize("sort", ["created_at", "updated_at", "name"])
async def test_each_order_has_two_ways(client: Client, sort: str) -> None:
    campaigns = [await create(client, name=name) for name in NAMES]
    await client.patch(place(campaigns[1]), json={"max_attempts": 9})
    current = (await get(client))["items"]
    key = drafts.name_key if sort == "name" else datetime.fromisoformat
    expected = sorted(current, key=lambda item: (key(item[sort]), item["id"]))
    assert (await get(client, f"sort={sort}"))["items"] == expected
    assert (await get(client, f"sort=-{sort}"))["items"] == expected[::-1]


async def test_names_are_sorted_whatever_their_case(client: Client) -> None:
    for name in NAMES:
        await create(client, name=name)
    page = await get(client, "sort=name")
    assert [item["name"] for item in page["items"]] == SORTED


FILTERED = [
    {"campaign_type": "call", "assistant_id": 1, "name": "February Reminders"},
    {"campaign_type": "sms", "assistant_id": 2, "name": "february offers"},
    {"campaign_type": "sms", "assistant_id": 1, "name": "100% off_er\\s"},
    {"campaign_type": "mixed", "assistant_id": 3, "name": "STRAßE"},
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=draft", [3, 1, 0]),
        ("status=paused", [2]),
        ("status=running", []),
        ("campaign_type=sms", [2, 1]),
        ("assistant_id=1", [2, 0]),
        ("assistant_id=9223372036854775807", []),
        ("assistant_id=1&campaign_type=sms&status=paused", [2]),
        ("assistant_id=2&campaign_type=call", []),
        ("q=februar", [1, 0]),
        ("q=FEBRUARY", [1, 0]),
        ("q=%20offers%20", [1]),
        ("q=100%25", [2]),
        ("q=100%25%25", []),
        ("q=%20100%25%20", [2]),
        ("q=off_er%5C", [2]),
        ("q=off_ers", []),
        ("q=%", [2]),
        ("q=_", [2]),
        ("q=strasse", [3]),
        ("q=a%E1%BA%9Ee", [3]),
        ("q=february&campaign_type=call", [0]),
    ],
)
async def test_a_filter_leaves_what_is_asked_for(
    client: Client, connection: Connection, query: str, expected: list[int]
) -> None:
    campaigns = [await create(client, **said) for said in FILTERED]
    await connection.execute(
        "UPDATE campaigns SET status = 'paused' WHERE id = $1", campaigns[2]["id"]
    )
    page = await get(client, query)
    assert [item["id"] for item in page["items"]] == [campaigns[n]["id"] for n in expected]
    assert page["total"] == len(expected)


@pytest.mark.parametrize(
    ("query", "expected", "reason"),
    [
        ("created_after=2026-01-01T00:01:00Z", [8, 7, 6], "later than that minute"),
        ("created_before=2026-01-01T00:01:00Z", [2, 1], "earlier"),
        ("created_after=2026-01-01T00:00:59.999999Z&created_before=2026-01-01T00:02:00Z",
         [5, 4, 3], "between"),
        ("created_after=2026-01-01T01:01:00%2B01:00", [8, 7, 6], "another zone"),
        ("created_after=0001-01-01T00:00:00Z", [8, 7, 6, 5, 4, 3, 2, 1], "the first of all days"),
        ("created_before=9999-12-31T23:59:59Z", [8, 7, 6, 5, 4, 3, 2, 1], "the last"),
    ],
)  # fmt: skip
async def test_times_are_boundaries_that_do_not_count(
    client: Client,
    connection: Connection,
    organization: int,
    query: str,
    expected: list[int],
    reason: str,
) -> None:
    await insert(connection, organization, 8)
    assert await ids(client, query) == expected, reason


def cursor_of(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


NOW = "2026-01-01T00:00:00+00:00"
NO_CURSOR = "Is not the next_cursor of a list of campaigns."
NO_TIME = "Must be a time with its zone, such as 2026-01-31T12:00:00Z; '+' is written '%2B' here."
NO_STATUS = "Must be one of: draft, scheduled, running, paused, completed, cancelled, failed."
NO_ORDER = "Must be one of: created_at, -created_at, updated_at, -updated_at, name, -name."
NO_SEARCH = "Must be 1 to 200 characters of a name."
NO_LIMIT = "Must be an integer from 1 to 1000."
NO_PAGE = "Must be an integer from 1 to 10001. Go on with the next_cursor of a page instead."
NO_SKIP = "Must be an integer from 0 to 10000. Go on with the next_cursor of a page instead."


@pytest.mark.parametrize(
    ("query", "parameter", "detail", "reason"),
    [
        ("limit=0", "limit", NO_LIMIT, "nothing is asked for"),
        ("limit=-1", "limit", NO_LIMIT, "less than nothing"),
        ("limit=", "limit", NO_LIMIT, "no number"),
        ("limit=1.5", "limit", NO_LIMIT, "no integer"),
        ("limit=%D9%A1", "limit", NO_LIMIT, "another script"),
        ("limit=1_0", "limit", NO_LIMIT, "Python's own spelling"),
        ("limit=" + "9" * 5_000, "limit", NO_LIMIT, "too long to read"),
        ("skip=10001", "skip", NO_SKIP, "further than that goes"),
        ("page=0", "page", NO_PAGE, "pages begin at 1"),
        ("page=202", "page", "Is too far on. Go on with the next_cursor of a page instead.",
         "10,050 to skip"),
        ("page=1&skip=0", "page", "Cannot be combined with 'skip'.", "two conventions"),
        ("page=1&limit=5", "page", "Cannot be combined with 'limit'.", "two conventions"),
        ("per_page=1&limit=5", "per_page", "Cannot be combined with 'limit'.", "two sizes"),
        ("status=Draft", "status", NO_STATUS, "one spelling is enough"),
        ("campaign_type=fax", "campaign_type", "Must be one of: call, sms, mixed.", "no type"),
        ("sort=id", "sort", NO_ORDER, "no order"),
        ("assistant_id=0", "assistant_id", "Must be an integer from 1 to 9223372036854775807.",
         "ids begin at 1"),
        ("assistant_id=9223372036854775808", "assistant_id",
         "Must be an integer from 1 to 9223372036854775807.", "more than the database can hold"),
        ("created_after=2026-01-01", "created_after", NO_TIME, "no zone"),
        ("created_after=2026-01-01T00:00:00", "created_after", NO_TIME, "no zone"),
        ("created_after=2026-01-01T00:00:00+01:00", "created_after", NO_TIME, "a space now"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "created_before", NO_TIME, "before all"),
        ("created_before=now", "created_before", NO_TIME, "no time"),
        ("q=", "q", NO_SEARCH, "nothing"),
        ("q=%20%20", "q", NO_SEARCH, "blanks around it do not count"),
        ("q=" + "a" * 201, "q", NO_SEARCH, "longer than a name"),
        ("q=abc%FF", "q", NO_SEARCH, "no UTF-8"),
        ("q=abc%00", "q", NO_SEARCH, "no text has it"),
        ("statsu=draft", "statsu", "Is not a parameter of this call. Did you mean 'status'?",
         "a typo would list all"),
        ("status=draft&status=paused", "status", "Is given more than once.", "nobody knows which"),
        ("cursor=", "cursor", NO_CURSOR, "nothing"),
        ("cursor=%2B%2B", "cursor", NO_CURSOR, "no such characters"),
        ("cursor=abc", "cursor", NO_CURSOR, "no JSON"),
        (f"cursor={cursor_of('id', 1, 1)}", "cursor", NO_CURSOR, "no order"),
        (f"cursor={cursor_of(['name'], 'a', 1)}", "cursor", NO_CURSOR, "no order"),
        (f"cursor={cursor_of('name', 'a')}", "cursor", NO_CURSOR, "no id"),
        (f"cursor={cursor_of('name', 1, 1)}", "cursor", NO_CURSOR, "no name"),
        (f"cursor={cursor_of('name', None, 1)}", "cursor", NO_CURSOR, "no name"),
        (f"cursor={cursor_of('name', {'a': 1}, 1)}", "cursor", NO_CURSOR, "no name"),
        (f"cursor={cursor_of('name', chr(0), 1)}", "cursor", NO_CURSOR, "no text has it"),
        (f"cursor={cursor_of('created_at', 'a', 1)}", "cursor", NO_CURSOR, "no time"),
        (f"cursor={cursor_of('created_at', '2026-01-01', 1)}", "cursor", NO_CURSOR, "no zone"),
        (f"cursor={cursor_of('created_at', '0001-01-01T00:00+14:00', 1)}", "cursor", NO_CURSOR,
         "before all"),
        (f"cursor={cursor_of('created_at', NOW, 2**63)}", "cursor", NO_CURSOR, "no id"),
        (f"cursor={cursor_of('created_at', NOW, True)}", "cursor", NO_CURSOR, "no id"),
        (f"cursor={cursor_of('created_at', NOW, 1)}&skip=1", "skip",
         "Cannot be combined with 'cursor'.", "two places"),
        (f"cursor={cursor_of('created_at', NOW, 1)}&page=2", "page",
         "Cannot be combined with 'cursor'.", "two places"),
        (f"cursor={cursor_of('created_at', NOW, 1)}&sort=name", "cursor",
         "Belongs to a list in another order.", "no place in it"),
    ],
)  # fmt: skip
def test_a_query_that_is_not_understood_is_told_where(
    target: Target, query: str, parameter: str, detail: str, reason: str
) -> None:
    answer = target.request("GET", f"?{query}", b"", {})
    document = json.loads(answer.body)
    assert answer.status == 422, reason
    assert document["type"] == "urn:problem-type:campaigns:invalid-parameters"
    assert document["errors"] == [{"parameter": parameter, "detail": detail}], reason


async def test_all_that_is_wrong_with_a_query_is_told_at_once(client: Client) -> None:
    answer = await client.get(f"{PATH}?limit=x&page=1&cursor=x&foo=1&sort=x")
    errors = (await answer.json())["errors"]
    named = [error["parameter"] for error in errors]
    assert named == ["limit", "page", "cursor", "foo", "sort"]
