"""Every list is read by an index, and no more of it than a page needs, among a million campaigns.

What is examined is counted, and nothing is timed: a count is the same on any machine.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from dev import crowds
from service import postgres, queries, scans
from service.drafts import CampaignType, Status
from service.listings import FURTHEST, ORDERS, Cursor, Filters, Listing, Window
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import _administer, _url_of

# The first of each worker waits until the database is made.
pytestmark = pytest.mark.timeout(300)

LARGE, MEDIUM, SMALL, LATE = 1, 2, 3, 4
# What comes last in the table is found last by who reads all of it.
SIZES = {LARGE: 1_000_000, MEDIUM: 10_000, SMALL: 3_000, LATE: 50_000}

# A campaign that was changed more often than any is.
EDITED, VERSIONS = 500, 5_000


def ago(days: float) -> datetime:
    return crowds.NEWEST - timedelta(days=days)


# Rows or buffers. A page of 50 takes 51 rows twice, from an index and by their ids, and at most
# four buffers for each.
PAGE = 1_000
# A page of 50 beyond as many as can be skipped, or all of a filter if they are as cheaply sorted.
DEEP = 3 * FURTHEST
# All that a page looks through, and one more that tells whether this is all.
LOOKED_THROUGH = FURTHEST + PAGE

ASSISTANTS = {
    100: "the busiest: one in seven campaigns",
    250: "one of many",
    7: "has made none for years",
    8: "has made ten in all",
    9_999: "has made none",
}
SINGLE: dict[str, Filters] = {
    "none": Filters(),
    **{status: Filters(status=status) for status in get_args(Status)},
    **{kind: Filters(campaign_type=kind) for kind in get_args(CampaignType)},
    **{f"assistant {n}": Filters(assistant_id=n) for n in ASSISTANTS},
}
RANGES = {
    "the last day": Filters(created_after=ago(1)),
    "the last 100 days": Filters(created_after=ago(100)),
    "a day long ago": Filters(created_after=ago(501), created_before=ago(500)),
    "the future": Filters(created_after=ago(-1)),
    "the past": Filters(created_before=ago(1_001)),
}
OLD_RANGES = {
    "the first 100 days": Filters(created_before=ago(900)),
    "100 days long ago": Filters(created_after=ago(600), created_before=ago(500)),
}
WORDS = {
    "a rare word": Filters(q="ZEBRA"),
    "no word": Filters(q="xylophone"),
    "no word, not in ASCII": Filters(q="привет"),
    "a number": Filters(q="call 123456"),
    "one letter": Filters(q="z"),
    "a frequent word": Filters(q="reminder"),
    "a frequent word of old": Filters(q="pilot"),
    "frequent words that never meet": Filters(q="reminder pilot"),
    "what every fourth begins with": Filters(q="winter"),
    "three words": Filters(q="winter visit reminder"),
}
COMBINED = {
    "drafts of the dormant": Filters(status="draft", assistant_id=7),
    "failed and new in kind": Filters(status="failed", campaign_type="mixed"),
    "completed by a rare assistant": Filters(status="completed", assistant_id=8),
    "drafts by call": Filters(status="draft", campaign_type="call"),
    "drafts with a frequent word": Filters(status="draft", q="reminder"),
    "completed with a word of old": Filters(status="completed", q="pilot"),
    "calls with a word of old": Filters(campaign_type="call", q="pilot"),
    "a word of old that was created lately": Filters(q="pilot", created_after=ago(800)),
    "completed calls": Filters(status="completed", campaign_type="call"),
    "completed, of old, and new in kind": Filters(
        status="completed", campaign_type="mixed", created_before=ago(100)
    ),
    "drafts with a word of old": Filters(status="draft", q="pilot"),
    "drafts of the first days": Filters(status="draft", created_before=ago(900)),
    "completed on the last day": Filters(status="completed", created_after=ago(1)),
    "what the dormant did lately": Filters(assistant_id=7, created_after=ago(10)),
    "what one did on a day": Filters(
        assistant_id=100, created_after=ago(501), created_before=ago(500)
    ),
    "a rare word in its status": Filters(status="completed", q="zebra"),
    "three at once": Filters(status="failed", campaign_type="mixed", assistant_id=100),
}
LOOKING = RANGES | OLD_RANGES | WORDS | COMBINED


class Plan:
    """What PostgreSQL did for a statement."""

    def __init__(self, explained: str) -> None:
        [document] = json.loads(explained)
        self._root: dict[str, Any] = document["Plan"]
        self.text = json.dumps(self._root, indent=1)

    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    @property
    def is_sequential(self) -> bool:
        return any(node["Node Type"] == "Seq Scan" for node in self.nodes())

    @property
    def is_of_indexes_only(self) -> bool:
        return {node["Node Type"] for node in self._scans()} == {"Index Only Scan"}

    @property
    def examined(self) -> float:
        """Rows that were looked at, whether or not they were what was looked for."""
        removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        return sum(
            float(node["Actual Rows"] + sum(node.get(key, 0) for key in removed))
            * int(node["Actual Loops"])
            for node in self._scans()
        )

    def _scans(self) -> Iterator[dict[str, Any]]:
        # What these two pass on, or have passed on to them, is looked at by another.
        others = {"Bitmap Index Scan", "Subquery Scan"}
        kinds = ((node["Node Type"], node) for node in self.nodes())
        return (node for kind, node in kinds if "Scan" in kind and kind not in others)

    @property
    def buffers(self) -> int:
        hit, read = self._root["Shared Hit Blocks"], self._root["Shared Read Blocks"]
        assert isinstance(hit, int)
        assert isinstance(read, int)
        return hit + read

    def check(self, bound: int) -> None:
        """Let a test fail unless an index led to no more than so many rows and buffers."""
        assert not self.is_sequential, self.text
        assert self.indexes, self.text
        assert self.examined <= bound, self.text
        assert self.buffers <= bound + PAGE, self.text


class Explaining:
    """A connection on which every statement of the service is first explained, then executed.

    So it is planned as the service has it planned: from its text, and for its arguments.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[Plan] = []

    async def _explain(self, statement: str, arguments: tuple[object, ...]) -> None:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        self.plans.append(Plan(await self._connection.fetchval(explain, *arguments)))

    async def fetch(self, statement: str, *arguments: object) -> object:
        await self._explain(statement, arguments)
        return await self._connection.fetch(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> object:
        await self._explain(statement, arguments)
        return await self._connection.fetchval(statement, *arguments)

    async def prepare(self, statement: str) -> "_Prepared":
        return _Prepared(self, statement)


class _Prepared:
    def __init__(self, connection: Explaining, statement: str) -> None:
        self._connection, self._statement = connection, statement

    async def fetch(self, *arguments: object) -> object:
        return await self._connection.fetch(self._statement, *arguments)


HISTORY = """
INSERT INTO campaign_history (
    organization_id, campaign_id, version, change, changed_fields, changed_at
)
SELECT organization_id, id, v, 'updated', '{name}', updated_at
FROM campaigns c, generate_series(1, CASE WHEN c.id = $2::bigint THEN $3::integer ELSE 2 END) AS v
WHERE organization_id = $1 AND id <= 100000
"""


@pytest.fixture(scope="module")
def crowd(template_database: str) -> str:
    """A database with a million campaigns and more: one for all workers, gone with its server."""

    async def fill(url: str) -> None:
        async with postgres.connect(Settings(database_url=url)) as connection:
            await crowds.gather(connection, SIZES)
            await connection.execute(HISTORY, LARGE, EDITED, VERSIONS, timeout=60)
            await connection.execute("VACUUM (ANALYZE) campaign_history")

    with (Path(os.environ["TEST_STATE"]) / "plans").open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        made.seek(0)
        if not made.read():
            asyncio.run(_administer(f"CREATE DATABASE plans TEMPLATE {template_database}"))
            asyncio.run(fill(_url_of("plans")))
            made.write("made")
    return _url_of("plans")


@pytest.fixture
async def connection(crowd: str) -> AsyncIterator[Connection]:
    """A session such as the service has, of the owner, who may also drop an index."""
    settings = Settings(database_url=crowd, database_timeout_seconds=60)
    async with postgres.pool(crowd, 1, settings) as pool, pool.acquire() as acquired:
        yield acquired


async def plans_of(
    connection: Connection, listing: Listing, organization_id: int = LARGE
) -> tuple[Plan, list[Plan]]:
    """What reads the page, and what else is done for it."""
    explaining = Explaining(connection)
    whose = (cast(Connection, explaining), organization_id)
    scan = await scans.choose(*whose, listing)
    await queries.count_campaigns(*whose, scan, FURTHEST + 1)
    await queries.find_end(*whose, scan, None)
    await queries.find_end(*whose, scan, listing.cursor)
    await queries.list_campaigns(*whose, scan, listing)
    *others, page = explaining.plans
    return page, others


async def plan_of_page(
    connection: Connection, listing: Listing, organization_id: int = LARGE
) -> Plan:
    page, _ = await plans_of(connection, listing, organization_id)
    return page


async def cursor_into(
    connection: Connection, listing: Listing, skip: int = 50, organization_id: int = LARGE
) -> Cursor | None:
    """Where a page ends that begins there, or all that a page looks through; None: nowhere."""
    before = replace(listing, window=Window(skip=skip, limit=1))
    scan = await scans.choose(connection, organization_id, before)
    if found := await queries.list_campaigns(connection, organization_id, scan, before):
        return listing.cursor_at(found[0])
    return await queries.find_end(connection, organization_id, scan, None)


async def check_pages(connection: Connection, listing: Listing, bound: int) -> None:
    """The first page, and one that a cursor leads to; and what else is done for them."""
    cursor = await cursor_into(connection, listing)
    for place in {None, cursor}:
        page, others = await plans_of(connection, replace(listing, cursor=place))
        page.check(bound)
        for plan in others:
            plan.check(LOOKED_THROUGH)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SINGLE)
async def test_a_page_with_at_most_one_filter_reads_its_own_campaigns_only(
    connection: Connection, name: str, order: str
) -> None:
    await check_pages(connection, Listing(filters=SINGLE[name], order=ORDERS[order]), PAGE)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", LOOKING)
async def test_a_page_with_any_filters_looks_through_no_more_than_it_tells(
    connection: Connection, name: str, order: str
) -> None:
    listing = Listing(filters=LOOKING[name], order=ORDERS[order])
    await check_pages(connection, listing, LOOKED_THROUGH)


@pytest.mark.parametrize("order", ["created_at", "-created_at"])
@pytest.mark.parametrize("name", RANGES | OLD_RANGES)
async def test_a_page_of_a_time_reads_its_own_campaigns_only_in_the_order_of_time(
    connection: Connection, name: str, order: str
) -> None:
    await check_pages(connection, Listing(filters=LOOKING[name], order=ORDERS[order]), PAGE)


async def test_what_was_created_lately_is_found_at_once_in_the_order_of_updates(
    connection: Connection,
) -> None:
    listing = Listing(filters=Filters(created_after=ago(100)), order=ORDERS["updated_at"])
    scan = await scans.choose(connection, LARGE, listing)
    assert len(await queries.list_campaigns(connection, LARGE, scan, listing)) == 51


@pytest.mark.parametrize("order", ORDERS)
async def test_of_several_filters_the_rarest_leads_so_that_a_page_finds_all_that_it_has(
    connection: Connection, order: str
) -> None:
    listing = Listing(filters=Filters(status="completed", assistant_id=8), order=ORDERS[order])
    scan = await scans.choose(connection, LARGE, listing)
    found = await queries.list_campaigns(connection, LARGE, scan, listing)
    rare = """
        SELECT count(*) FROM campaigns
        WHERE organization_id = $1 AND assistant_id = 8 AND status = 'completed'
        """
    assert len(found) == await connection.fetchval(rare, LARGE)
    assert found
    assert await queries.find_end(connection, LARGE, scan, None) is None


@pytest.mark.parametrize("order", ["created_at", "-created_at", "-updated_at"])
async def test_a_search_for_what_is_frequent_reads_what_is_between(
    connection: Connection, order: str
) -> None:
    await check_pages(connection, Listing(filters=Filters(q="reminder"), order=ORDERS[order]), PAGE)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["none", "completed", "call", "assistant 100", "draft"])
async def test_a_page_far_on_reads_what_is_skipped_and_its_own(
    connection: Connection, name: str, order: str
) -> None:
    listing = Listing(filters=SINGLE[name], order=ORDERS[order], window=Window(skip=FURTHEST))
    (await plan_of_page(connection, listing)).check(DEEP)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["none", "completed", "call"])
async def test_a_cursor_leads_as_far_as_one_likes(
    connection: Connection, name: str, order: str
) -> None:
    listing = Listing(filters=SINGLE[name], order=ORDERS[order])
    cursor = await cursor_into(connection, listing, skip=150_000)
    assert cursor
    (await plan_of_page(connection, replace(listing, cursor=cursor))).check(PAGE)


@pytest.mark.parametrize("name", SINGLE | RANGES | OLD_RANGES)
async def test_a_count_looks_into_an_index_only(connection: Connection, name: str) -> None:
    filters = (SINGLE | RANGES | OLD_RANGES)[name]
    _, [count, *_] = await plans_of(connection, Listing(filters=filters))
    assert count.is_of_indexes_only


@pytest.mark.parametrize("organization_id", [MEDIUM, SMALL, LATE])
@pytest.mark.parametrize("name", SINGLE)
async def test_the_campaigns_of_others_are_not_read(
    connection: Connection, name: str, organization_id: int
) -> None:
    page, [count] = await plans_of(connection, Listing(filters=SINGLE[name]), organization_id)
    count.check(FURTHEST + 1)
    page.check(PAGE)


# Each of these is at one end of time.
DRAFT, MIXED, DORMANT = SINGLE["draft"], SINGLE["mixed"], SINGLE["assistant 7"]

# The list that each index is for.
NEEDED = {
    "campaigns_created_at": Listing(),
    "campaigns_updated_at": Listing(order=ORDERS["-updated_at"]),
    "campaigns_name_key": Listing(order=ORDERS["name"]),
    "campaigns_status": Listing(filters=DRAFT, order=ORDERS["created_at"]),
    "campaigns_status_updated_at": Listing(filters=DRAFT, order=ORDERS["updated_at"]),
    "campaigns_status_name_key": Listing(filters=DRAFT, order=ORDERS["name"]),
    "campaigns_campaign_type": Listing(filters=MIXED, order=ORDERS["created_at"]),
    "campaigns_campaign_type_updated_at": Listing(filters=MIXED, order=ORDERS["updated_at"]),
    "campaigns_campaign_type_name_key": Listing(filters=MIXED, order=ORDERS["name"]),
    "campaigns_assistant_id": Listing(filters=DORMANT),
    "campaigns_assistant_id_updated_at": Listing(filters=DORMANT, order=ORDERS["-updated_at"]),
    "campaigns_assistant_id_name_key": Listing(filters=DORMANT, order=ORDERS["name"]),
}


@pytest.mark.parametrize("index", NEEDED)
async def test_an_index_is_used_by_its_list_which_reads_more_without_it(
    connection: Connection, index: str
) -> None:
    listing = NEEDED[index]
    plan = await plan_of_page(connection, listing)
    # The campaigns of the page are fetched by the other.
    assert plan.indexes == {index, "campaigns_pkey"}
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"DROP INDEX {index}")
        without = await plan_of_page(connection, listing)
    finally:
        await transaction.rollback()
    plan.check(PAGE)
    with pytest.raises(AssertionError):
        without.check(PAGE)


async def test_every_index_for_lists_is_needed_by_one(connection: Connection) -> None:
    rows = await connection.fetch(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'campaigns' AND schemaname = 'public'"
    )
    others = {"campaigns_pkey", "campaigns_deleted_at"}
    assert {row["indexname"] for row in rows} - others == NEEDED.keys()


SMALL_TABLE = """
CREATE TEMPORARY TABLE campaigns (LIKE public.campaigns INCLUDING ALL) ON COMMIT DROP;
INSERT INTO campaigns OVERRIDING SYSTEM VALUE
SELECT * FROM public.campaigns WHERE organization_id = 2;
ANALYZE campaigns;
"""


async def test_a_small_table_is_not_read_as_a_whole_to_be_sorted(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute(SMALL_TABLE)
        _, [count] = await plans_of(connection, Listing(), MEDIUM)
        assert not count.is_sequential
        # Or nobody would know any more what this setting of the service's sessions is there for.
        await connection.execute("SET LOCAL enable_seqscan = on")
        _, [count] = await plans_of(connection, Listing(), MEDIUM)
        assert count.is_sequential


@pytest.mark.parametrize(
    ("campaign_id", "skip", "bound"),
    [
        (EDITED, 0, PAGE),
        (EDITED, VERSIONS - 10, VERSIONS),
        (EDITED + 1, 0, PAGE),
        (10**9, 0, PAGE),
    ],
)
async def test_the_history_of_a_campaign_is_read_and_that_of_no_other(
    connection: Connection, campaign_id: int, skip: int, bound: int
) -> None:
    explaining = Explaining(connection)
    asked = cast(Connection, explaining)
    await queries.list_history(asked, LARGE, campaign_id, Window(skip=skip))
    await queries.count_history(asked, LARGE, campaign_id)
    page, count = explaining.plans
    page.check(bound)
    count.check(VERSIONS)
    assert page.indexes | count.indexes == {"campaign_history_pkey"}
