"""`campaigns events republish`: events of the past are sent again as they were."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage

from service import events, history, queries, republishing, topology
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, insert_event
from tests.consumers import Consumer, eventually, outbox_is_empty
from tests.processes import ROOT
from tests.test_commands import campaigns
from tests.test_create import EXAMPLE
from tests.test_updates import create, place

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALWAYS = ("--from", "2000-01-01T00:00:00Z", "--to", "2999-01-01T00:00:00Z")
EVERYTHING = history.Range(since=NOON, until=NOON + timedelta(hours=1), types=topology.EVENT_TYPES)


async def insert_history(
    connection: Connection,
    campaign_id: int,
    *changes: str,
    organization_id: int = 1,
    begin: datetime = NOON,
    with_bytes: bool = True,
) -> None:
    """A campaign's history, with a second between its changes."""
    for version, change in enumerate(changes, start=1):
        await connection.execute(
            """
            INSERT INTO campaign_history (organization_id, campaign_id, version, change,
                                          changed_fields, changed_at,
                                          event_id, event_body, event_headers)
            VALUES ($1, $2, $3, $4, '{}', $5, CASE WHEN $6 THEN gen_random_uuid() END,
                    CASE WHEN $6 THEN '{}' END, CASE WHEN $6 THEN '{}'::json END)
            """,
            organization_id,
            campaign_id,
            version,
            change,
            begin + timedelta(seconds=version - 1),
            with_bytes,
        )


async def in_outbox(connection: Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT organization_id, campaign_id, sequence FROM outbox ORDER BY created_at, sequence"
    )
    return [tuple(row) for row in rows]


async def republished(owner: Settings, *options: str) -> dict[str, Any]:
    """The summary of a run that succeeds."""
    done = await asyncio.to_thread(
        campaigns, "events", "republish", "--json", *options, settings=owner
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def everything(message: AbstractIncomingMessage) -> tuple[object, ...]:
    return (
        message.body,
        message.message_id,
        message.type,
        message.timestamp,
        message.headers,
        message.content_type,
        message.delivery_mode,
        message.routing_key,
    )


async def test_what_is_sent_again_is_identical_and_in_order(
    client: Client, owner: Settings, connection: Connection, consumer: Consumer
) -> None:
    first, second = await create(client), await create(client)
    for campaign in (first, second):
        headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        await client.patch(place(campaign), json={"name": "Größer \U0001f4de"}, headers=headers)
        await client.delete(place(campaign))
    await consumer.events(6)
    await outbox_is_empty(connection)
    summary = await republished(owner, *ALWAYS, "--rate", "50")
    assert (summary["events"], summary["republished"]) == (6, 6)

    def all_have_come() -> bool:
        return all(len(messages) == 12 for messages in consumer.messages.values())

    await eventually(all_have_come, 20, "six more messages in each queue")
    for messages in consumer.messages.values():
        for campaign in (first, second):
            source = f"/api/v1/campaigns/{campaign['id']}"
            ours = [m for m in messages if json.loads(m.body)["source"] == source]
            assert [everything(m) for m in ours[:3]] == [everything(m) for m in ours[3:]]
            assert [json.loads(m.body)["sequence"] for m in ours[3:]] == [
                "0000000001",
                "0000000002",
                "0000000003",
            ]


async def test_a_dry_run_sends_nothing_and_tells_what_it_would(
    owner: Settings, connection: Connection
) -> None:
    await insert_history(connection, 1, "created", "updated", "updated", organization_id=7)
    await insert_history(connection, 2, "created", organization_id=8)
    done = campaigns("events", "republish", *ALWAYS, "--dry-run", "--rate", "2", settings=owner)
    heading, _, *rows, last = done.stdout.splitlines()
    assert done.returncode == 0
    assert heading.split() == ["organization", "type", "events", "not", "available"]
    assert [row.split() for row in rows] == [
        ["7", "campaign.created", "1", "0"],
        ["7", "campaign.updated", "2", "0"],
        ["8", "campaign.created", "1", "0"],
    ]
    assert last == "4 events are to be sent again, in about 2 seconds."
    assert await in_outbox(connection) == []


async def test_a_dry_run_tells_the_same_as_json(owner: Settings, connection: Connection) -> None:
    await insert_history(connection, 1, "created", organization_id=7)
    assert await republished(owner, *ALWAYS, "--dry-run") == {
        "from": "2000-01-01T00:00:00Z",
        "to": "2999-01-01T00:00:00Z",
        "dry_run": True,
        "events": 1,
        "unavailable": 0,
        "republished": 0,
        "already_waiting": 0,
        "continue_from": None,
        "counts": [
            {"organization_id": 7, "type": "campaign.created", "events": 1, "unavailable": 0}
        ],
    }


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        # The first moment belongs to the range, the last one does not.
        (["--from", "2026-11-23T12:00:01Z", "--to", "2026-11-23T12:00:02Z"], [(1, 1, 2)]),
        (["--from", "2026-11-23T13:00:01+01:00", "--to", "2026-11-23T12:00:02Z"], [(1, 1, 2)]),
        ([*ALWAYS, "--type", "campaign.deleted"], [(1, 1, 3)]),
        (
            [*ALWAYS, "--type", "campaign.deleted", "--type", "campaign.updated"],
            [(1, 1, 2), (1, 1, 3)],
        ),
        ([*ALWAYS, "--organization", "2"], [(2, 2, 1)]),
    ],
)
async def test_only_what_is_chosen_is_sent_again(
    owner: Settings, connection: Connection, options: list[str], sent: list[tuple[int, int, int]]
) -> None:
    await insert_history(connection, 1, "created", "updated", "deleted")
    await insert_history(connection, 2, "created", organization_id=2)
    summary = await republished(owner, *options)
    assert (summary["events"], summary["republished"]) == (len(sent), len(sent))
    assert await in_outbox(connection) == sent


async def test_an_event_that_still_waits_gets_no_second_copy(
    owner: Settings, connection: Connection
) -> None:
    await insert_history(connection, 1, "created", "updated")
    await insert_event(connection, campaign_id=1, sequence=1)
    waiting = await connection.fetchrow("SELECT * FROM outbox")
    done = campaigns("events", "republish", *ALWAYS, settings=owner)
    assert done.stdout == (
        "1 event is in the outbox again, for the relay to publish; 1 had not left it yet.\n"
    )
    assert await connection.fetchrow("SELECT * FROM outbox WHERE sequence = 1") == waiting
    assert len(await in_outbox(connection)) == 2


async def test_events_without_bytes_are_named_and_the_others_are_sent(
    owner: Settings, connection: Connection
) -> None:
    await insert_history(connection, 1, "created")
    await insert_history(connection, 2, "created", "updated", with_bytes=False)
    done = campaigns("events", "republish", *ALWAYS, settings=owner)
    assert done.stderr == (
        "2 events are not available: they were stored by a release that kept no bytes.\n"
    )
    assert await in_outbox(connection) == [(1, 1, 1)]


@pytest.mark.parametrize("with_bytes", [None, False])
async def test_a_range_with_nothing_to_send_is_refused(
    owner: Settings, connection: Connection, with_bytes: bool | None
) -> None:
    if with_bytes is not None:
        await insert_history(connection, 1, "created", with_bytes=with_bytes)
    done = campaigns("events", "republish", *ALWAYS, "--json", settings=owner)
    reason = (
        "there are no such events in this range"
        if with_bytes is None
        else "nothing can be sent again: 1 event is not available: "
        "they were stored by a release that kept no bytes"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"campaigns: {reason}\n")


@pytest.mark.parametrize("to", ["2026-11-23T12:00:00Z", "2026-11-23T11:00:00Z"])
def test_a_range_that_ends_before_it_begins_is_refused(owner: Settings, to: str) -> None:
    range_ = ("--from", "2026-11-23T12:00:00Z", "--to", to)
    done = campaigns("events", "republish", *range_, settings=owner)
    assert (done.returncode, done.stderr) == (2, "campaigns: --from has to be before --to\n")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--from", "2026-11-23T12:00:00"),
        ("--to", "yesterday"),
        ("--type", "campaign.started"),
        ("--organization", "0"),
        ("--rate", "0"),
        ("--rate", "1e9"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: str) -> None:
    done = campaigns("events", "republish", *ALWAYS, option, value)
    assert done.returncode == 2
    assert f"argument {option}: " in done.stderr


def test_only_the_owner_may(settings: Settings) -> None:
    done = campaigns("events", "republish", *ALWAYS, settings=settings)
    assert done.returncode == 2
    assert done.stderr.endswith("; this needs the DATABASE_URL of the tables' owner\n")


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("rate", [0.5, 1, 25, 100, 10_000])
async def test_the_rate_is_kept(rate: float) -> None:
    clock = Clock()
    pace = republishing.Pace(rate, clock, clock.sleep)
    passed = 0
    for _ in range(50):
        await pace.turn(pace.batch)
        passed += pace.batch
        # The first batch waits for nobody.
        assert passed - pace.batch <= rate * clock.now + 0.001
    assert clock.now == pytest.approx((passed - pace.batch) / rate)


async def test_time_that_was_lost_is_not_made_up_for() -> None:
    clock = Clock()
    pace = republishing.Pace(10, clock, clock.sleep)
    await pace.turn(1)
    clock.now = 100  # A slow statement.
    for _ in range(11):
        await pace.turn(1)
    assert clock.now == pytest.approx(101)


async def test_batches_and_pages_lose_nothing_and_keep_the_order(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for campaign_id in range(1, 6):
        # All at the same times, so that pages end between equals.
        await insert_history(connection, campaign_id, "created", "updated", "updated")
    monkeypatch.setattr(republishing, "_PAGE", 4)
    clock, sizes = Clock(), []
    progress = republishing.Progress()
    await republishing.republish(
        connection,
        EVERYTHING,
        republishing.Pace(30, clock, clock.sleep),
        progress,
        lambda: sizes.append(progress.done),
    )
    assert sizes == [3, 4, 7, 8, 11, 12, 15]
    assert progress.continue_from is None
    claimed = [event.sequence for event in await queries.claim_events(connection, 100)]
    assert claimed == [1] * 5
    assert len(await in_outbox(connection)) == 15


async def test_an_interruption_tells_the_oldest_event_that_may_be_missing(
    connection: Connection,
) -> None:
    await insert_history(connection, 1, "created", *["updated"] * 9)
    turns = 0

    async def sleep(_: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise KeyboardInterrupt

    progress = republishing.Progress()
    pace = republishing.Pace(30, Clock(), sleep)
    with pytest.raises(KeyboardInterrupt):
        await republishing.republish(connection, EVERYTHING, pace, progress, lambda: None)
    assert progress.done == pace.batch == 3
    assert progress.continue_from == NOON + timedelta(seconds=3)


def test_the_type_of_an_event_follows_from_the_change() -> None:
    assert events.CREATED == "campaign.created"
    assert events.UPDATED == "campaign.updated"
    assert events.DELETED == "campaign.deleted"


def started(
    owner: Settings, *options: str, stderr: int = subprocess.PIPE
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "service", "events", "republish", *ALWAYS, *options],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": owner.database_url},
        # Shells start what runs in the background with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_run_says_where_to_go_on(
    owner: Settings, connection: Connection, number: signal.Signals
) -> None:
    await insert_history(connection, 1, "created", *["updated"] * 9)
    process = started(owner, "--rate", "0.5", "--json")

    async def has_begun() -> bool:
        return len(await in_outbox(connection)) == 1

    await eventually(has_begun, 20, "the first event")
    process.send_signal(number)
    printed, told = await asyncio.to_thread(process.communicate, timeout=10)
    assert process.returncode == 130
    assert json.loads(printed)["continue_from"] == "2026-11-23T12:00:01Z"
    assert told == (
        "Interrupted after 1 of 10 events. Go on with --from 2026-11-23T12:00:01Z; "
        "what is sent twice has the same id.\n"
    )
    summary = await republished(owner, "--from", "2026-11-23T12:00:01Z", *ALWAYS[2:])
    assert (summary["republished"], len(await in_outbox(connection))) == (9, 10)


async def test_a_run_that_is_repeated_is_harmless(
    client: Client, owner: Settings, connection: Connection, consumer: Consumer
) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await consumer.events(1)
    for _ in range(2):
        await republished(owner, *ALWAYS)
        await outbox_is_empty(connection)
    for messages in consumer.messages.values():
        await eventually(lambda messages=messages: len(messages) == 3, 10, "three copies")
        assert len({message.message_id for message in messages}) == 1


async def test_progress_is_shown_on_a_terminal_only(
    owner: Settings, connection: Connection
) -> None:
    await insert_history(connection, 1, "created", "updated")
    ours, theirs = pty.openpty()
    process = started(owner, stderr=theirs)
    os.close(theirs)
    await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 0
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert shown == f"\r[{'#' * 30}] 2 of 2 events\r\n"
