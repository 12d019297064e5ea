"""Scenarios 16 and 17: many events wait, or an old transaction keeps those that have left."""

import asyncio
import time

import pytest

from service import postgres
from service.postgres import Connection
from service.settings import Settings
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import Arrival, Ledger
from tests.observed import Observe
from tests.processes import peak_memory
from tests.test_create import EXAMPLE

# Whose events wait; nobody asks for its campaigns.
OTHER = 2


class Tally(Ledger):
    """A ledger that only counts the events of the other organization, as they are too many."""

    def __init__(self, organization: int) -> None:
        super().__init__(organization)
        self.counted: dict[str, set[str]] = {name: set() for name in self.arrivals}

    def take(self, queue: str, arrival: Arrival) -> None:
        if b'"organization_id":2,' in arrival.body:
            self.counted[queue].add(arrival.message_id)
        else:
            super().take(queue, arrival)

    @property
    def fewest(self) -> int:
        return min(map(len, self.counted.values()))


@pytest.fixture
def ledger(organization: int) -> Tally:
    return Tally(organization)


async def _add(connection: Connection, count: int) -> None:
    """Have so many events wait at once, each like one that was really stored."""
    await connection.execute(
        """
        INSERT INTO outbox (
            organization_id, campaign_id, sequence, event_id, event_type, body, headers, created_at
        )
        SELECT
            $1::bigint, n, 1, event_id, 'campaign.created',
            replace(
                replace(event_body, model::text, event_id::text),
                format('"organization_id":%s,', organization_id),
                format('"organization_id":%s,', $1)
            ),
            event_headers, now()
        FROM (
            SELECT
                nextval('campaign_ids') AS n,
                gen_random_uuid() AS event_id,
                h.organization_id, h.event_id AS model, h.event_body, h.event_headers
            FROM
                (SELECT * FROM campaign_history WHERE version = 1 LIMIT 1) h,
                generate_series(1, $2)
            OFFSET 0
        ) made
        """,
        OTHER,
        count,
        timeout=120,
    )


async def _drained(ledger: Tally, connection: Connection, count: int) -> float:
    """Add so many; how many events a second reached all queues since then."""
    there = ledger.fewest
    await _add(connection, count)
    return await _rate(ledger, there, count)


async def _rate(ledger: Tally, there: int, count: int) -> float:
    began = time.monotonic()
    await eventually(lambda: ledger.fewest >= there + count, 60 + count / 100, f"{count} events")
    return count / (time.monotonic() - began)


@pytest.mark.parametrize("count", [30_000, 300_000])
@pytest.mark.minutes
@pytest.mark.timeout(3600)
async def test_a_backlog_leaves_as_fast_as_events_ever_do(
    scene: Scene, ledger: Tally, api_key: str, observed: Observe, count: int
) -> None:
    service = await scene.start()
    await asyncio.to_thread(service.wait_for_relay)
    async with scene.load(callers=2) as load:
        await load.goes_on()
        steady = [await _drained(ledger, scene.connection, 5_000) for _ in range(2)]
        peak = peak_memory(service.process_id)
        there = ledger.fewest
        await _add(scene.connection, count)
        draining = asyncio.create_task(_rate(ledger, there, count))
        began = time.monotonic()
        fresh = (await asyncio.to_thread(service.create, api_key, EXAMPLE)).json()["id"]
        await eventually(lambda: _has_left(scene.connection, fresh), count / 100, "a fresh event")
        waited = time.monotonic() - began
        rate = await draining
        steady += [await _drained(ledger, scene.connection, 5_000) for _ in range(2)]
    await scene.check(60)
    more = (peak_memory(service.process_id) - peak) / 2**20
    # The machine may have been busier at one of these times.
    usual = min(steady)
    assert rate >= 0.8 * usual
    assert more < 50
    # First in, first out: whoever comes last waits for all of it, and for nothing else.
    assert waited <= count / rate + 5
    observed(
        17,
        f"{count:,} events wait while campaigns are created",
        "they leave at 80 % of the usual rate at least; memory is flat; a fresh event waits for"
        " those before it only",
        f"{rate:,.0f}/s, usually {usual:,.0f}/s; memory +{more:.0f} MB; a fresh event waited"
        f" {waited:.0f} s; {ledger.figures()}",
    )


async def _has_left(connection: Connection, campaign_id: int) -> bool:
    return not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM outbox WHERE organization_id <> $1 AND campaign_id = $2)",
        OTHER,
        campaign_id,
    )


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(4_000, marks=pytest.mark.timeout(600)),
        pytest.param(50_000, marks=[pytest.mark.minutes, pytest.mark.timeout(3600)]),
    ],
)
async def test_an_old_transaction_does_not_hold_up_events(
    scene: Scene, ledger: Tally, owner: Settings, observed: Observe, count: int
) -> None:
    service = await scene.start()
    await asyncio.to_thread(service.wait_for_relay)
    async with postgres.connect(owner) as old, scene.load(callers=2) as load:
        await load.goes_on()
        before = await _drained(ledger, scene.connection, 2_000)
        async with old.transaction(isolation="repeatable_read"):
            await old.execute("SELECT 1 FROM outbox")
            pieces = range(count // 2_000)
            rates = [await _drained(ledger, scene.connection, 2_000) for _ in pieces]
            await load.goes_on()
        after = await _drained(ledger, scene.connection, 2_000)
    await scene.check(60)
    observed(
        16,
        f"a transaction is open while {count:,} events leave",
        "nothing lost",
        f"{before:,.0f}/s before, {rates[-1]:,.0f}/s at the end of it, {after:,.0f}/s after it;"
        f" {ledger.figures()}",
    )
