"""The statements of the outbox: which event goes next, and what becomes of it."""

import json
from typing import Any

import pytest

from service import postgres, queries
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import insert_event


async def test_the_oldest_event_of_a_campaign_goes_first_and_alone(
    connection: Connection,
) -> None:
    for sequence in (2, 1, 3):
        await insert_event(connection, campaign_id=7, sequence=sequence)
    await insert_event(connection, campaign_id=8, sequence=1)
    async with connection.transaction():
        claimed = await queries.claim_events(connection, limit=10)
    assert {(event.campaign_id, event.sequence) for event in claimed} == {(7, 1), (8, 1)}


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("sizes", "claimed"),
    [
        pytest.param([MIB] * 6, 4, id="those that fit"),
        pytest.param([5 * MIB, 1], 1, id="one that is larger by itself"),
    ],
)
async def test_a_batch_takes_four_mebibytes_or_one_event(
    connection: Connection, sizes: list[int], claimed: int
) -> None:
    for number, size in enumerate(sizes):
        await insert_event(connection, campaign_id=number, sequence=1, body="x" * size)
    batch = await queries.claim_events(connection, limit=10)
    assert [event.campaign_id for event in batch] == list(range(claimed))


async def test_events_that_one_relay_holds_are_passed_over_by_another(
    connection: Connection, owner: Settings
) -> None:
    for campaign_id in (1, 2):
        await insert_event(connection, campaign_id=campaign_id, sequence=1)
    async with postgres.connect(owner) as other, connection.transaction():
        [held] = await queries.claim_events(connection, limit=1)
        [free] = await queries.claim_events(other, limit=10)
    assert {held.campaign_id, free.campaign_id} == {1, 2}


async def test_due_events_go_longest_waiting_first_and_none_passes_an_earlier_one(
    connection: Connection,
) -> None:
    for campaign_id, sequence, due_in in [(1, 1, 60), (1, 2, -90), (2, 1, -10), (3, 1, -20)]:
        await insert_event(connection, campaign_id, sequence)
        await connection.execute(
            "UPDATE outbox SET next_attempt_at = now() + make_interval(secs => $3)"
            " WHERE campaign_id = $1 AND sequence = $2",
            campaign_id,
            sequence,
            due_in,
        )
    claimed = await queries.claim_events(connection, limit=10)
    assert [(event.campaign_id, event.sequence) for event in claimed] == [(3, 1), (2, 1)]


async def test_no_other_event_is_postponed_or_forgotten(connection: Connection) -> None:
    for key in [(1, 7, 1), (1, 7, 2), (1, 8, 1), (2, 7, 1)]:
        organization_id, campaign_id, sequence = key
        await insert_event(connection, campaign_id, sequence, organization_id=organization_id)
    event = next(
        event
        for event in await queries.claim_events(connection, limit=10)
        if (event.organization_id, event.campaign_id) == (1, 7)
    )
    await queries.postpone_event(connection, event, "no")
    assert await connection.fetchval("SELECT count(*) FROM outbox WHERE attempts > 0") == 1
    await queries.delete_events(connection, [event])
    left = await connection.fetch(
        "SELECT organization_id, campaign_id, sequence FROM outbox ORDER BY 1, 2, 3"
    )
    assert [tuple(row) for row in left] == [(1, 7, 2), (1, 8, 1), (2, 7, 1)]


async def test_an_event_waits_longer_after_each_refusal(connection: Connection) -> None:
    await insert_event(connection, campaign_id=1, sequence=1)
    waits = []
    async with connection.transaction():
        [event] = await queries.claim_events(connection, limit=1)
        for _ in range(8):
            await queries.postpone_event(connection, event, "no")
            waits.append(
                await connection.fetchval(
                    "SELECT extract(epoch FROM next_attempt_at - now()) FROM outbox"
                )
            )
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


FEW = 5
MANY = 3_000


def rows(plan: dict[str, Any]) -> float:
    """What all nodes of an executed plan have looked at."""
    removed = sum(count for name, count in plan.items() if name.startswith("Rows Removed"))
    looked = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return float(looked) + sum(rows(inner) for inner in plan.get("Plans", ()))


@pytest.mark.parametrize(
    ("name", "parameters", "arguments"),
    [
        ("claim_events", "integer", str(FEW)),
        (
            "delete_events",
            "bigint[], bigint[], integer[]",
            f"array_fill(1, ARRAY[{FEW}]), ARRAY[1, 2, 3, 4, {MANY}], array_fill(1, ARRAY[{FEW}])",
        ),
    ],
)
async def test_a_plan_from_when_the_outbox_was_empty_reads_no_more_than_a_batch(
    connection: Connection, name: str, parameters: str, arguments: str
) -> None:
    """A broker comes back after an hour: what the relay has planned before it is still used."""
    await connection.execute("VACUUM (ANALYZE) outbox")
    await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE planned ({parameters}) AS {queries.STATEMENTS[name]}")
    await connection.execute(f"EXECUTE planned ({arguments})")
    await connection.execute(
        """
        INSERT INTO outbox (organization_id, campaign_id, sequence, event_id, event_type,
                            body, headers, created_at)
        SELECT 1, n, 1, gen_random_uuid(), 'campaign.created', '{}', '{}', now()
        FROM generate_series(1, $1) AS n
        """,
        MANY,
    )
    explained = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE planned ({arguments})"
    [found] = json.loads(await connection.fetchval(explained))
    assert rows(found["Plan"]) < 20 * FEW
