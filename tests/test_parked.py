"""`campaigns events parked ...`: events that no attempt can deliver, and what becomes of them."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from service import queries
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start, insert_event, somebody_waits_for_a_lock
from tests.consumers import Consumer, eventually, outbox_is_empty
from tests.parking import park
from tests.test_commands import campaigns
from tests.test_updates import create, place

SOME_ID = "114277dd-3431-4d16-a7ad-ed1c2379f804"
EVERY_COMMAND = ("show", "replay", "discard", "discard --yes")

Done = subprocess.CompletedProcess[str]


def parked(owner: Settings, command: str, *options: object) -> Done:
    words = [*command.split(), *map(str, options)]
    return campaigns("events", "parked", *words, settings=owner)


def printed(done: Done) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


async def a_parked_event(connection: Connection, behind: int = 0) -> uuid.UUID:
    """Event 1 of campaign 7, with others behind it."""
    for sequence in range(1, behind + 2):
        await insert_event(connection, 7, sequence, organization_id=5)
    return await park(connection, 7, 1, "too large for the broker")


async def in_outbox(connection: Connection) -> list[tuple[Any, ...]]:
    """All events, by campaign and sequence, and whether they are parked."""
    rows = await connection.fetch(
        "SELECT campaign_id, sequence, next_attempt_at = 'infinity' FROM outbox ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_parked_events_are_listed_as_a_table(owner: Settings, connection: Connection) -> None:
    event_id = await a_parked_event(connection, behind=2)
    await insert_event(connection, 8, 1)  # Waits, but is not parked.
    done = parked(owner, "list")
    heading, _, row = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert heading.split() == [
        "organization", "campaign", "sequence", "type", "event", "id", "since", "attempts",
        "behind", "reason",
    ]  # fmt: skip
    cells = row.split()
    assert cells[:5] == ["5", "7", "1", "campaign.created", str(event_id)]
    assert cells[7:] == ["3", "2", "too", "large", "for", "the", "broker"]


async def test_parked_events_are_listed_as_json_for_scripts(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection, behind=2)
    listed = printed(parked(owner, "list", "--json"))
    [event] = listed["events"]
    assert event.pop("created_at").endswith("Z")
    assert listed["more"] is False
    assert event == {
        "organization_id": 5,
        "campaign_id": 7,
        "sequence": 1,
        "type": "campaign.created",
        "event_id": str(event_id),
        "attempts": 3,
        "behind": 2,
        "reason": "too large for the broker",
    }


def test_a_list_of_none_says_so(owner: Settings) -> None:
    done = parked(owner, "list")
    assert (done.returncode, done.stdout) == (0, "No event is parked.\n")


async def test_a_list_has_a_limit_begins_with_the_oldest_and_says_if_there_are_more(
    owner: Settings, connection: Connection
) -> None:
    for campaign_id in (1, 2, 3):
        await insert_event(connection, campaign_id, 1)
        await park(connection, campaign_id, 1, "too large")
        await connection.execute(
            "UPDATE outbox SET created_at = now() - make_interval(days => $1::integer)"
            " WHERE campaign_id = $1",
            campaign_id,
        )
    listed = printed(parked(owner, "list", "--json", "--limit", 2))
    assert [event["campaign_id"] for event in listed["events"]] == [3, 2]
    assert listed["more"] is True
    done = parked(owner, "list", "--limit", 2)
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr == "There are more than these 2: --limit shows them.\n"
    assert printed(parked(owner, "list", "--json", "--limit", 3))["more"] is False


async def test_an_event_is_shown_with_a_body_that_people_can_read(
    owner: Settings, connection: Connection, idle_client: Client
) -> None:
    campaign = await create(idle_client)
    event_id = await park(connection, campaign["id"], 1, "too large")
    done = parked(owner, "show", "--event-id", event_id)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in (
        f"event id {event_id}",
        f"campaign {campaign['id']}",
        "sequence 1",
        "events behind it 0",
        "in the history yes",
        "reason too large",
    ):
        assert line in lines
    assert any(line.startswith("header request-id ") for line in lines)
    body = json.loads(done.stdout.partition("\n\n")[2])
    assert body["data"]["campaign"] == campaign


async def test_an_event_is_shown_as_json_with_the_bytes_that_would_be_published(
    owner: Settings, connection: Connection, idle_client: Client
) -> None:
    campaign = await create(idle_client, name="Größer")
    event_id = await park(connection, campaign["id"], 1, "too large")
    shown = printed(parked(owner, "show", "--json", "--event-id", event_id))
    stored = await connection.fetchrow("SELECT * FROM outbox")
    assert stored is not None
    assert shown["body"] == stored["body"]
    assert shown["headers"] == json.loads(stored["headers"])
    assert shown["in_history"] is True


async def test_a_body_that_nobody_can_read_is_shown_as_it_is(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection)
    await connection.execute("UPDATE outbox SET body = '{broken'")
    done = parked(owner, "show", "--event-id", event_id)
    assert (done.returncode, done.stdout.endswith("\n\n{broken\n")) == (0, True)


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_an_unknown_id_is_told_in_one_sentence(owner: Settings, command: str) -> None:
    done = parked(owner, command, "--event-id", SOME_ID)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"campaigns: no parked event has the id {SOME_ID}: it has left the outbox, or is to be "
        "tried again, or never was; see 'events parked list'\n"
    )


@pytest.mark.parametrize("command", EVERY_COMMAND)
@pytest.mark.parametrize("minutes", [0, 1])
async def test_an_event_that_is_not_parked_is_left_as_it_is(
    owner: Settings, connection: Connection, command: str, minutes: int
) -> None:
    await insert_event(connection, 7, 1)
    await connection.execute(
        "UPDATE outbox SET attempts = 1, next_attempt_at = now() + make_interval(mins => $1)",
        minutes,
    )
    before = await connection.fetchrow("SELECT * FROM outbox")
    assert before is not None
    done = parked(owner, command, "--event-id", before["event_id"])
    assert done.returncode == 2
    assert "no parked event has the id" in done.stderr
    assert await connection.fetchrow("SELECT * FROM outbox") == before


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("list --limit 0", "give a number from 1"),
        ("list --limit many", "give a number from 1"),
        ("show", "--event-id"),
        ("show --event-id 7", "give the id of an event"),
        ("replay", "--all --event-id"),
        (f"replay --all --event-id {SOME_ID}", "not allowed with"),
        ("discard --yes", "--event-id"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(command: str, reason: str) -> None:
    done = campaigns("events", "parked", *command.split())
    assert done.returncode == 2
    assert reason in done.stderr


async def test_a_replay_makes_an_event_due_and_tells_how_many_were_behind(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection, behind=2)
    await insert_event(connection, 8, 1)
    await park(connection, 8, 1, "too large")
    done = parked(owner, "replay", "--event-id", event_id)
    assert (done.returncode, done.stdout) == (
        0,
        "1 event is due again, and 2 events are to follow that waited behind.\n",
    )
    assert await in_outbox(connection) == [
        (7, 1, False), (7, 2, False), (7, 3, False), (8, 1, True),
    ]  # fmt: skip
    row = await connection.fetchrow(
        "SELECT attempts, next_attempt_at <= now() AS due FROM outbox WHERE event_id = $1", event_id
    )
    assert row is not None
    assert tuple(row) == (0, True)


async def test_all_parked_events_are_replayed_at_once(
    owner: Settings, connection: Connection
) -> None:
    await a_parked_event(connection, behind=3)
    # Parked behind one that is parked: counted as what it is, and those behind both once.
    await park(connection, 7, 3, "too large")
    for organization_id in (5, 6):
        await insert_event(connection, 8, 1, organization_id=organization_id)
    await park(connection, 8, 1, "too large")
    assert printed(parked(owner, "replay", "--all", "--json")) == {"replayed": 4, "behind": 2}
    assert not any(is_parked for *_, is_parked in await in_outbox(connection))


def test_a_replay_of_none_says_so(owner: Settings) -> None:
    done = parked(owner, "replay", "--all")
    assert (done.returncode, done.stdout) == (
        0,
        "0 events are due again, and 0 events are to follow that waited behind.\n",
    )


async def test_after_a_replay_each_queue_gets_the_event_and_those_behind_it_in_order(
    owner: Settings,
    settings: Settings,
    connection: Connection,
    idle_client: Client,
    aiohttp_client: Start,
    consumer: Consumer,
) -> None:
    campaign = await create(idle_client)
    for name in ("second", "third"):
        await idle_client.patch(place(campaign), json={"name": name})
    event_id = await park(connection, campaign["id"], 1, "too large")
    await aiohttp_client(create_app(settings))
    # What the relay sends after the others were stored shows that it has passed them by.
    other = await create(idle_client)
    for events in (await consumer.events(1)).values():
        assert [event["subject"] for event in events] == [str(other["id"])]

    async def only_the_three_wait() -> bool:
        return len(await in_outbox(connection)) == 3

    await eventually(only_the_three_wait, 20, "the other event being confirmed")
    done = await asyncio.to_thread(parked, owner, "replay", "--event-id", event_id)
    assert done.returncode == 0, done.stderr
    for events in (await consumer.events(4)).values():
        assert [(event["subject"], event["sequence"]) for event in events[1:]] == [
            (str(campaign["id"]), f"{sequence:010}") for sequence in (1, 2, 3)
        ]
    await outbox_is_empty(connection)


async def test_without_yes_nothing_is_discarded_and_what_would_be_is_told(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection, behind=1)
    before = await in_outbox(connection)
    done = parked(owner, "discard", "--event-id", event_id)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "campaigns: nothing is discarded without --yes, which deletes "
        f"campaign.created {event_id}, sequence 1 of campaign 7 of organization 5. "
        "Consumers of this campaign see a gap in the sequence where 1 is missing. "
        "1 event is behind it, free to go. "
        "The history does not keep this event: nothing can send it later.\n"
    )
    assert await in_outbox(connection) == before


async def test_a_discarded_event_is_gone_alone_and_the_log_says_who_did_it(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection, behind=1)
    await insert_event(connection, 8, 1)
    await park(connection, 8, 1, "too large")
    done = campaigns(
        "events", "parked", "discard", "--yes", "--event-id", str(event_id),
        settings=owner, environment={"LOGNAME": "olga", "LOG_FORMAT": "json"},
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == (
        f"Discarded campaign.created {event_id}, sequence 1 of campaign 7 of organization 5."
    )
    assert await in_outbox(connection) == [(7, 2, False), (8, 1, True)]
    logged = json.loads(done.stderr)
    told = {name: logged[name] for name in ("event", "by", "event_id", "campaign_id", "reason")}
    assert told == {
        "event": "event discarded",
        "by": "olga",
        "event_id": str(event_id),
        "campaign_id": 7,
        "reason": "too large for the broker",
    }


async def test_a_discarded_event_is_printed_as_json_with_all_that_it_was(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection)
    shown = printed(parked(owner, "show", "--json", "--event-id", event_id))
    done = parked(owner, "discard", "--yes", "--json", "--event-id", event_id)
    assert (done.returncode, json.loads(done.stdout)) == (0, shown)


async def test_a_discarded_event_can_be_sent_later_by_the_command_that_is_told(
    owner: Settings, connection: Connection, idle_client: Client
) -> None:
    campaign = await create(idle_client)
    await create(idle_client)
    event_id = await park(connection, campaign["id"], 1, "too large")
    before = await connection.fetchrow(
        "SELECT body, headers::text FROM outbox WHERE event_id = $1", event_id
    )
    done = parked(owner, "discard", "--yes", "--event-id", event_id)
    *_, last = done.stdout.splitlines()
    text, _, command = last.partition(": campaigns ")
    assert text == "The history keeps this event, and this sends it later"
    assert len(await in_outbox(connection)) == 1
    assert campaigns(*command.split(), settings=owner).returncode == 0
    after = await connection.fetchrow(
        "SELECT body, headers::text FROM outbox WHERE event_id = $1", event_id
    )
    assert after == before


async def meets_a_lock(connection: Connection, command: Callable[[], Done]) -> "asyncio.Task[Done]":
    """Start a command that comes to wait for what this connection has changed."""
    running = asyncio.create_task(asyncio.to_thread(command))
    await eventually(lambda: somebody_waits_for_a_lock(connection), 20, "a command that waits")
    return running


@pytest.mark.parametrize("command", ["replay", "discard --yes"])
async def test_an_event_that_somebody_replays_at_the_same_time_is_left_to_the_relay(
    owner: Settings, connection: Connection, command: str
) -> None:
    event_id = await a_parked_event(connection)
    async with connection.transaction():
        assert (await queries.replay_events(connection, event_id)).replayed == 1
        # As a relay does that refuses it again.
        await connection.execute("UPDATE outbox SET attempts = 1")
        running = await meets_a_lock(
            connection, lambda: parked(owner, command, "--event-id", event_id)
        )
    done = await running
    assert done.returncode == 2
    assert "no parked event has the id" in done.stderr
    assert await in_outbox(connection) == [(7, 1, False)]
    assert await connection.fetchval("SELECT attempts FROM outbox") == 1


@pytest.mark.parametrize("command", ["replay", "discard --yes"])
async def test_an_event_that_somebody_discards_at_the_same_time_is_gone_once(
    owner: Settings, connection: Connection, command: str
) -> None:
    event_id = await a_parked_event(connection, behind=1)
    async with connection.transaction():
        assert await queries.discard_event(connection, event_id)
        running = await meets_a_lock(
            connection, lambda: parked(owner, command, "--event-id", event_id)
        )
    done = await running
    assert done.returncode == 2
    assert await in_outbox(connection) == [(7, 2, False)]


async def test_a_replay_of_all_leaves_alone_what_a_relay_holds(
    owner: Settings, connection: Connection
) -> None:
    await a_parked_event(connection)
    await insert_event(connection, 8, 1)
    async with connection.transaction():
        assert len(await queries.claim_events(connection, limit=10)) == 1
        # Would wait for the relay, if it looked at what is not parked.
        done = await asyncio.to_thread(parked, owner, "replay", "--all", "--json")
    assert printed(done) == {"replayed": 1, "behind": 0}


async def test_a_replayed_event_is_claimed_by_one_relay_and_no_discard_takes_it_away(
    owner: Settings, connection: Connection
) -> None:
    event_id = await a_parked_event(connection)
    assert parked(owner, "replay", "--event-id", event_id).returncode == 0
    async with connection.transaction():
        [claimed] = await queries.claim_events(connection, limit=10)
        done = await asyncio.to_thread(parked, owner, "discard --yes", "--event-id", event_id)
        assert done.returncode == 2
        await queries.delete_events(connection, [claimed])
    assert await in_outbox(connection) == []
