"""Scenario 15: writers of one campaign commit contrary to how they began, and relays crash."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TypeAlias

import asyncpg
import pytest

from service.settings import Settings
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import Ledger
from tests.faults.load import PATH
from tests.observed import Observe
from tests.test_create import EXAMPLE

_CAMPAIGNS, _WRITERS, _RELAYS = 20, 3, 4

# What change_campaign does, in a transaction that a test may hold open: the campaign is locked.
_CHANGE = """
    WITH campaign AS (
        UPDATE campaigns SET version = version + 1
        WHERE organization_id = $1 AND id = $2
        RETURNING id, version, name
    ),

    event AS (
        SELECT id, version, gen_random_uuid() AS event_id, json_build_object(
            'sequence', lpad(version::text, 10, '0'),
            'data', json_build_object('campaign', json_build_object(
                'id', id, 'organization_id', $1::bigint, 'name', name
            ))
        )::text AS body
        FROM campaign
    ),

    history AS (
        INSERT INTO campaign_history (organization_id, campaign_id, version, change,
                                      changed_fields, changed_at, event_id, event_body)
        SELECT $1, id, version, 'updated', '{}', now(), event_id, body FROM event
    )
    INSERT INTO outbox (organization_id, campaign_id, sequence, event_id, event_type, body, headers,
                        created_at)
    SELECT $1, id, version, event_id, 'campaign.updated', body, '{}', now() FROM event
"""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@pytest.fixture
async def writers(owner: Settings) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(
        owner.database_url, min_size=0, max_size=4 * _WRITERS, command_timeout=20
    ) as pool:
        yield pool


async def change_contrarily(pool: Pool, organization: int, campaign_id: int) -> None:
    """Who begins last is the first to change, so that its event looks younger than the next."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(pool.acquire()) for _ in range(_WRITERS)]
        for connection in connections:
            await connection.execute("BEGIN")
        for connection in reversed(connections):
            await connection.execute(_CHANGE, organization, campaign_id)
            await connection.execute("ROLLBACK" if random.random() < 0.1 else "COMMIT")


async def more_arrive(ledger: Ledger, count: int) -> None:
    enough = ledger.received + count
    await eventually(lambda: ledger.received >= enough, 60, f"{count} more messages")


async def write_while_relays_crash(
    scene: Scene, pool: Pool, crashes: int, altered: dict[str, str] | None = None
) -> int:
    """Kill one of four relays again and again, each time when something arrived; count changes."""
    api = await scene.start(command="serve --no-relay")
    async with scene.load(api, callers=0) as load:
        bodies = [
            await load.insist("POST", PATH, f"key-{number}", EXAMPLE | {"name": f"key-{number}"})
            for number in range(_CAMPAIGNS)
        ]
    ids = [json.loads(body)["id"] for body in bodies if body]
    relays = [
        await scene.start(command="relay", altered=altered, wait=False) for _ in range(_RELAYS)
    ]
    changes, over = 0, asyncio.Event()

    async def write(some: list[int]) -> None:
        nonlocal changes
        # Alone with these, or writers of two tasks would wait for each other's connections.
        while not over.is_set():
            await change_contrarily(pool, scene.ledger.organization, random.choice(some))
            changes += _WRITERS

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(write(ids[number::4]))
        for _ in range(crashes):
            await more_arrive(scene.ledger, 300)
            relays.pop(random.randrange(_RELAYS)).kill()
            relays.append(await scene.start(command="relay", altered=altered, wait=False))
        over.set()
    return changes


@pytest.mark.parametrize("crashes", [6, pytest.param(60, marks=pytest.mark.minutes)])
@pytest.mark.timeout(900)
async def test_events_of_a_campaign_stay_in_order_whoever_writes_them_and_whatever_crashes(
    scene: Scene, observed: Observe, writers: Pool, crashes: int
) -> None:
    changes = await write_while_relays_crash(scene, writers, crashes)
    await scene.check(60)
    observed(
        15,
        f"writers commit contrary to how they began, 10 % roll back, {crashes} of four relays "
        "killed",
        "every first delivery in order, in each queue",
        f"{changes:,} transactions; {scene.ledger.figures()}",
    )


async def test_the_same_without_a_look_at_earlier_events_is_out_of_order(
    scene: Scene, observed: Observe, writers: Pool
) -> None:
    changes = await write_while_relays_crash(scene, writers, 3, {"CLAIM": "plain"})
    with pytest.raises(AssertionError, match="in the order") as objection:
        await scene.check(60)
    observed(
        15,
        "the same, with a claim that only skips locked events",
        "nothing: that claim loses the order",
        f"{changes:,} transactions; {str(objection.value).splitlines()[0]}"[:100],
    )
