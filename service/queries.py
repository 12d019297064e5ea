"""Typed access to `queries.sql`: one function for each statement, of the same name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from service import drafts, events, idempotency, keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from service.postgres import Connection

_STATEMENT = re.compile(r"^-- name: (\w+)\n((?:(?!-- name: ).*\n?)*)", re.MULTILINE)

STATEMENTS = dict(_STATEMENT.findall(Path(__file__).with_name("queries.sql").read_text()))


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


async def create_draft(
    connection: Connection,
    campaign: drafts.Campaign,
    event: events.Event,
    answer: idempotency.Answer,
    attempt: idempotency.Attempt | None,
    kept: timedelta,
) -> bool:
    """Whether it was stored; it is not if the attempt's key was used before."""
    done: str = await connection.execute(
        STATEMENTS["create_draft"],
        campaign.organization_id,
        campaign.id,
        campaign.version,
        campaign.name,
        campaign.description,
        campaign.campaign_type,
        campaign.status,
        campaign.assistant_id,
        campaign.welcome_message_template,
        campaign.agenda_template,
        campaign.end_call_message_template,
        campaign.sms_message_template,
        orjson.dumps(campaign.fallback_values).decode(),
        campaign.max_attempts,
        campaign.retry_delay_minutes,
        campaign.created_at,
        campaign.updated_at,
        event.id,
        event.type,
        event.body.decode(),
        orjson.dumps(event.headers).decode(),
        *_record(attempt, answer),
        kept,
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


async def find_campaign(
    connection: Connection, organization_id: int, campaign_id: int
) -> drafts.Campaign | None:
    row = await connection.fetchrow(STATEMENTS["find_campaign"], organization_id, campaign_id)
    if row is None:
        return None
    texts = ("fallback_values", "variable_mappings", "available_variables")
    return drafts.Campaign(**dict(row) | {name: orjson.loads(row[name]) for name in texts})


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
