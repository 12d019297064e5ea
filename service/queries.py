"""Typed access to `queries.sql`: one function for each statement, of the same name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from service import drafts, events, history, idempotency, keys, listings, outbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    import asyncpg

    from service import scans
    from service.postgres import Connection

_STATEMENT = re.compile(r"^-- name: (\w+)\n((?:(?!-- name: ).*\n?)*)", re.MULTILINE)

_TEXTS: dict[str, str] = dict(
    _STATEMENT.findall(Path(__file__).with_name("queries.sql").read_text())
)
# Parts of the statements that list.
_SCAN, _MATCHES = _TEXTS.pop("scan"), _TEXTS.pop("matches")

_COLUMNS = {"created_at": "created_at", "updated_at": "updated_at", "name": "name_key"}


@cache
def _ordered(name: str, order: listings.Order, looked: listings.SortKey) -> str:
    """A statement for an order, which decides on the index and on what lies beyond a place."""
    words = {
        "key": _COLUMNS[order.key],
        "looked": _COLUMNS[looked],
        "begins": "updated_at" if looked == "updated_at" else "created_at",
        "way": "DESC" if order.descending else "ASC",
        "beyond": "<" if order.descending else ">",
    }
    scan = _SCAN.format(**words)
    return _TEXTS[name].format(scan=scan, matches=_MATCHES.format(scan=scan, **words), **words)


# For statements on a range of the history, which may be most of it.
_RANGE_SECONDS = 600.0

# For statements on the whole outbox, which is large after an outage.
_BACKLOG_SECONDS = 30.0

_USUAL = listings.Listing().order
STATEMENTS = {
    name: _ordered(name, _USUAL, _USUAL.key) if re.search(r"\{(?:scan|matches)\}", text) else text
    for name, text in _TEXTS.items()
}


async def schema_revision(connection: Connection) -> int | None:
    """None: `schema.sql` began but has not written its revision."""
    revision: int | None = await connection.fetchval(STATEMENTS["schema_revision"])
    return revision


async def add_key(connection: Connection, grant: keys.Grant, prefix: str, sha256: bytes) -> None:
    await connection.execute(
        STATEMENTS["add_key"],
        grant.organization_id,
        grant.name,
        prefix,
        sha256,
        sorted(grant.scopes),
        grant.expires_at,
    )


async def find_key(connection: Connection, sha256: bytes) -> keys.Caller | None:
    row = await connection.fetchrow(STATEMENTS["find_key"], sha256)
    if row is None:
        return None
    return keys.Caller(
        organization_id=row["organization_id"],
        key_id=row["id"],
        scopes=frozenset(row["scopes"]),
        expires_at=row["expires_at"],
    )


async def list_keys(connection: Connection, organization_id: int) -> list[keys.Key]:
    rows = await connection.fetch(STATEMENTS["list_keys"], organization_id)
    return [keys.Key(**row) for row in rows]


async def revoke_key(connection: Connection, organization_id: int, key_id: int) -> bool:
    """Whether there was a key to revoke."""
    row = await connection.fetchrow(STATEMENTS["revoke_key"], organization_id, key_id)
    return row is not None


async def expire_key(
    connection: Connection, organization_id: int, key_id: int, grace: timedelta
) -> tuple[keys.Grant, timedelta | None] | None:
    """What the key granted, and for how long in all; None: there is no such valid key."""
    row = await connection.fetchrow(STATEMENTS["expire_key"], organization_id, key_id, grace)
    if row is None:
        return None
    grant = keys.Grant(organization_id, row["name"], frozenset(row["scopes"]))
    return grant, row["lifetime"]


async def note_key_usage(connection: Connection, used: dict[tuple[int, int], datetime]) -> None:
    await connection.execute(
        STATEMENTS["note_key_usage"],
        [organization_id for organization_id, _ in used],
        [key_id for _, key_id in used],
        list(used.values()),
    )


async def reserve_campaign_ids(connection: Connection, count: int) -> list[int]:
    rows = await connection.fetch(STATEMENTS["reserve_campaign_ids"], count)
    return [row["id"] for row in rows]


async def create_draft(connection: Connection, version: history.Version) -> None:
    await connection.execute(STATEMENTS["create_draft"], *first_version(version))


def first_version(version: history.Version) -> tuple[object, ...]:
    """What `create_draft` stores, in the order of its parameters."""
    campaign, event = version.campaign, version.event
    return (
        campaign.organization_id,
        campaign.id,
        *_texts(campaign),
        campaign.created_at,
        version.change.key_id,
        version.change.request_id,
        event.id,
        event.body.decode(),
        orjson.dumps(event.headers).decode(),
    )


async def create_drafts(
    connection: Connection,
    drafts_: Sequence[tuple[history.Version, idempotency.Attempt | None]],
    kept: timedelta,
) -> set[int]:
    """The ids of those that were stored; one is not if its attempt's key was used before.

    No two of them have the same key.
    """
    (version, attempt), *others = drafts_
    if not (others or attempt):
        # Without a look for keys, and all that has to wait for it: 10 % of a lone create.
        await create_draft(connection, version)
        return {version.campaign.id}
    if others:
        columns = zip(*(_with_record(*draft) for draft in drafts_), strict=True)
        rows = await connection.fetch(STATEMENTS["create_drafts"], *columns, kept)
    else:
        rows = await connection.fetch(_CREATE_ONE, *_with_record(version, attempt), kept)
    return {row["id"] for row in rows}


# The same for a draft that comes alone: to make an array of each of its values, and a row of these
# again, is a tenth of the time that this takes.
_CREATE_ONE = re.sub(
    r"unnest\(([^)]*)\)", r"(VALUES (\1))", STATEMENTS["create_drafts"].replace("[]", "")
)


def _with_record(
    version: history.Version, attempt: idempotency.Attempt | None
) -> tuple[object, ...]:
    organization_id, *others = first_version(version)
    endpoint, key, fingerprint, _, headers, body = _record(attempt, version.answer)
    return (organization_id, endpoint, key, fingerprint, headers, body, *others)


def _texts(campaign: drafts.Campaign) -> tuple[object, ...]:
    return (
        campaign.name,
        drafts.name_key(campaign.name),
        campaign.description,
        campaign.campaign_type,
        campaign.assistant_id,
        campaign.welcome_message_template,
        campaign.agenda_template,
        campaign.end_call_message_template,
        campaign.sms_message_template,
        orjson.dumps(campaign.fallback_values).decode(),
        campaign.max_attempts,
        campaign.retry_delay_minutes,
    )


async def change_campaign(
    connection: Connection,
    version: history.Version,
    attempt: idempotency.Attempt | None,
    kept: timedelta,
) -> bool:
    """Whether it was stored; it is not if it is not the next one, or the key was used before."""
    campaign, change, event = version.campaign, version.change, version.event
    done: str = await connection.execute(
        STATEMENTS["change_campaign"],
        campaign.organization_id,
        *_record(attempt, version.answer),
        kept,
        campaign.id,
        campaign.version,
        *_texts(campaign),
        campaign.updated_at,
        change.changed_at if change.change == "deleted" else None,
        change.change,
        change.changed_fields,
        change.key_id,
        change.request_id,
        event.id,
        event.type,
        event.body.decode(),
        orjson.dumps(event.headers).decode(),
    )
    return done == "INSERT 0 1"


async def keep_answer(
    connection: Connection,
    organization_id: int,
    attempt: idempotency.Attempt,
    answer: idempotency.Answer,
    kept: timedelta,
) -> bool:
    """Whether it is kept; it is not if the attempt's key was used before."""
    done: str = await connection.execute(
        STATEMENTS["keep_answer"], organization_id, *_record(attempt, answer), kept
    )
    return done == "INSERT 0 1"


def _record(attempt: idempotency.Attempt | None, answer: idempotency.Answer) -> tuple[object, ...]:
    if attempt is None:
        return (None,) * 6
    return (
        attempt.endpoint,
        attempt.key,
        attempt.fingerprint,
        answer.status,
        orjson.dumps(answer.headers).decode(),
        answer.body.decode(),
    )


async def read_campaigns(
    connection: Connection, organization_id: int, campaign_ids: Sequence[int]
) -> list[drafts.Campaign]:
    rows = await connection.fetch(STATEMENTS["read_campaigns"], organization_id, campaign_ids)
    return [_campaign(dict(row)) for row in rows]


def _campaign(row: dict[str, Any]) -> drafts.Campaign:
    texts = ("fallback_values", "variable_mappings", "available_variables")
    return drafts.Campaign(**row | {name: orjson.loads(row[name]) for name in texts})


async def list_campaigns(
    connection: Connection, organization_id: int, scan: scans.Scan, listing: listings.Listing
) -> list[listings.Entry]:
    """What is on the page, and one more than wanted if there are more."""
    cursor, window = listing.cursor, listing.window
    wanted = window.limit + 1
    rows = await _fetch_planned(
        connection,
        _ordered("list_campaigns", scan.order, scan.looked),
        *_scan(organization_id, scan, cursor, scan.reach or window.skip + wanted),
        *_matches(scan, cursor),
        wanted,
        window.skip,
    )
    return [listings.Entry(**row) for row in rows]


async def count_campaigns(
    connection: Connection, organization_id: int, scan: scans.Scan, limit: int
) -> int:
    [row] = await _fetch_planned(
        connection,
        _ordered("count_campaigns", scan.order, scan.looked),
        *_scan(organization_id, scan, None, scan.reach or limit),
        *_matches(scan, None),
        limit,
    )
    count: int = row["count"]
    return count


async def find_end(
    connection: Connection, organization_id: int, scan: scans.Scan, cursor: listings.Cursor | None
) -> listings.Cursor | None:
    """Where to go on with the scan; None: there is nothing that it does not reach."""
    if scan.reach is None or scan.is_of_few:
        return None
    rows = await _fetch_planned(
        connection,
        _ordered("find_end", scan.order, scan.looked),
        *_scan(organization_id, scan, cursor, scan.reach + 1),
    )
    return listings.Cursor(scan.order, rows[0]["place"], rows[0]["id"]) if len(rows) > 1 else None


async def _fetch_planned(
    connection: Connection, statement: str, *arguments: object
) -> list[asyncpg.Record]:
    """Fetch by a plan for these arguments; one for any would not know which filters there are.

    PostgreSQL plans the first five times that a prepared statement is used for its arguments, and
    asyncpg prepares a statement that is asked of it anew (https://www.postgresql.org/docs/18/sql-prepare.html).
    """
    prepared = await connection.prepare(statement)
    return await prepared.fetch(*arguments)


def _scan(
    organization_id: int, scan: scans.Scan, cursor: listings.Cursor | None, limit: int
) -> tuple[object, ...]:
    # The index of time knows no place in another order, and another one is not to be read.
    place = _place(None if scan.is_of_few else cursor)
    return organization_id, *_filters(scan.conditions), *place, limit


def _matches(scan: scans.Scan, cursor: listings.Cursor | None) -> tuple[object, ...]:
    place = _place(cursor if scan.is_of_few else None)
    return *_filters(scan.filters), scan.filters.pattern, *place


def _place(cursor: listings.Cursor | None) -> tuple[object, object]:
    return (None, None) if cursor is None else (cursor.id, cursor.place)


def _filters(filters: listings.Filters) -> tuple[object, ...]:
    return (
        filters.status,
        filters.campaign_type,
        filters.assistant_id,
        filters.created_after,
        filters.created_before,
    )


async def list_history(
    connection: Connection, organization_id: int, campaign_id: int, window: listings.Window
) -> list[history.Change]:
    """The changes, and one more than wanted if there are more."""
    rows = await connection.fetch(
        STATEMENTS["list_history"], organization_id, campaign_id, window.limit + 1, window.skip
    )
    return [history.Change(**row) for row in rows]


async def count_history(connection: Connection, organization_id: int, campaign_id: int) -> int:
    count: int = await connection.fetchval(
        STATEMENTS["count_history"], organization_id, campaign_id
    )
    return count


async def names_without_key(
    connection: Connection, after: tuple[int, int], limit: int
) -> dict[tuple[int, int], str]:
    """Names by the organization and the id of their campaigns, in this order."""
    rows = await connection.fetch(STATEMENTS["names_without_key"], *after, limit)
    return {(row["organization_id"], row["id"]): row["name"] for row in rows}


async def set_name_keys(connection: Connection, name_keys: dict[tuple[int, int], str]) -> None:
    await connection.execute(
        STATEMENTS["set_name_keys"],
        [organization_id for organization_id, _ in name_keys],
        [campaign_id for _, campaign_id in name_keys],
        list(name_keys.values()),
    )


async def prune_campaigns(connection: Connection, kept: timedelta, limit: int) -> int:
    """How many were forgotten."""
    pruned: int = await connection.fetchval(STATEMENTS["prune_campaigns"], kept, limit)
    return pruned


async def find_answer(
    connection: Connection, organization_id: int, attempt: idempotency.Attempt, kept: timedelta
) -> tuple[bytes, idempotency.Answer] | None:
    """The fingerprint of the first request with this key, and its answer."""
    row = await connection.fetchrow(
        STATEMENTS["find_answer"], organization_id, attempt.endpoint, attempt.key, kept
    )
    if row is None:
        return None
    headers = orjson.loads(row["headers"])
    return row["fingerprint"], idempotency.Answer(row["status"], headers, row["body"].encode())


async def prune_answers(connection: Connection, kept: timedelta, limit: int) -> int:
    """How many were forgotten."""
    done: str = await connection.execute(STATEMENTS["prune_answers"], kept, limit)
    return int(done.removeprefix("DELETE "))


async def count_events(connection: Connection, chosen: history.Range) -> list[history.Count]:
    rows = await connection.fetch(
        STATEMENTS["count_events"],
        chosen.since,
        chosen.until,
        chosen.types,
        chosen.organization_id,
        timeout=_RANGE_SECONDS,
    )
    return [history.Count(**row) for row in rows]


async def find_events(
    connection: Connection, chosen: history.Range, after: history.Place, limit: int
) -> list[history.Place]:
    rows = await connection.fetch(
        STATEMENTS["find_events"],
        *after,
        chosen.until,
        chosen.types,
        chosen.organization_id,
        limit,
        timeout=_RANGE_SECONDS,
    )
    return [history.Place(**row) for row in rows]


async def republish_events(connection: Connection, places: Sequence[history.Place]) -> int:
    """How many were not in the outbox any more."""
    done: str = await connection.execute(
        STATEMENTS["republish_events"],
        [place.organization_id for place in places],
        [place.campaign_id for place in places],
        [place.version for place in places],
        timeout=_RANGE_SECONDS,
    )
    return int(done.removeprefix("INSERT 0 "))


async def outbox_exceeds(connection: Connection, events: int) -> bool:
    """Whether more than so many wait."""
    exceeds: bool = await connection.fetchval(
        STATEMENTS["outbox_exceeds"], events, timeout=_BACKLOG_SECONDS
    )
    return exceeds


async def claim_events(connection: Connection, limit: int) -> list[events.Event]:
    rows = await connection.fetch(STATEMENTS["claim_events"], limit)
    return [
        events.Event(
            organization_id=row["organization_id"],
            campaign_id=row["campaign_id"],
            sequence=row["sequence"],
            id=row["event_id"],
            type=row["event_type"],
            body=row["body"].encode(),
            headers=orjson.loads(row["headers"]),
            time=row["created_at"],
        )
        for row in rows
    ]


async def delete_events(connection: Connection, confirmed: Sequence[events.Event]) -> None:
    await connection.execute(
        STATEMENTS["delete_events"],
        [event.organization_id for event in confirmed],
        [event.campaign_id for event in confirmed],
        [event.sequence for event in confirmed],
    )


async def postpone_event(connection: Connection, event: events.Event, reason: str) -> None:
    await connection.execute(
        STATEMENTS["postpone_event"],
        event.organization_id,
        event.campaign_id,
        event.sequence,
        reason,
    )


async def park_event(connection: Connection, event: events.Event, reason: str) -> None:
    await connection.execute(
        STATEMENTS["park_event"],
        event.organization_id,
        event.campaign_id,
        event.sequence,
        reason,
    )


async def count_waiting(connection: Connection) -> outbox.Waiting:
    row = await connection.fetchrow(STATEMENTS["count_waiting"], timeout=_BACKLOG_SECONDS)
    assert row is not None
    return outbox.Waiting(**row)


async def count_reasons(connection: Connection, limit: int) -> list[outbox.Reason]:
    rows = await connection.fetch(STATEMENTS["count_reasons"], limit, timeout=_BACKLOG_SECONDS)
    return [outbox.Reason(**row) for row in rows]


async def count_passages(connection: Connection) -> outbox.Passages:
    row = await connection.fetchrow(STATEMENTS["count_passages"])
    assert row is not None
    return outbox.Passages(**row)


async def list_parked(connection: Connection, limit: int) -> list[outbox.Parked]:
    rows = await connection.fetch(STATEMENTS["list_parked"], limit, timeout=_BACKLOG_SECONDS)
    return [outbox.Parked(**row) for row in rows]


async def find_parked(connection: Connection, event_id: UUID) -> outbox.ParkedEvent | None:
    return _parked(await connection.fetchrow(STATEMENTS["find_parked"], event_id))


async def replay_events(connection: Connection, event_id: UUID | None) -> outbox.Replay:
    """None: all that are parked."""
    row = await connection.fetchrow(STATEMENTS["replay_events"], event_id, timeout=_BACKLOG_SECONDS)
    assert row is not None
    return outbox.Replay(**row)


async def discard_event(connection: Connection, event_id: UUID) -> outbox.ParkedEvent | None:
    """What was deleted; None: no such event was parked."""
    return _parked(await connection.fetchrow(STATEMENTS["discard_event"], event_id))


def _parked(row: asyncpg.Record | None) -> outbox.ParkedEvent | None:
    if row is None:
        return None
    return outbox.ParkedEvent(**dict(row) | {"headers": orjson.loads(row["headers"])})
