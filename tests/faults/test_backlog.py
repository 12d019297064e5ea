"""Scenarios 16 and 17: many events wait, or an old transaction keeps those that have left."""

import asyncio
import statistics
import time

import pytest

from service import postgres
from service.postgres import Connection
from service.settings import Settings
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.crowd import OTHER, add, drained, rates
from tests.faults.tally import Tally
from tests.observed import Observe
from tests.processes import peak_memory
from tests.test_create import EXAMPLE

# A backlog that leaves within seconds.
_FEW = 3_000


@pytest.fixture
def ledger(organization: int) -> Tally:
    return Tally(organization, f'"organization_id":{OTHER},'.encode())


@pytest.mark.parametrize(
    ("count", "piece"),
    [
        pytest.param(_FEW, 500, marks=pytest.mark.timeout(600)),
        pytest.param(30_000, 5_000, marks=[pytest.mark.minutes, pytest.mark.timeout(3600)]),
        pytest.param(300_000, 5_000, marks=[pytest.mark.minutes, pytest.mark.timeout(3600)]),
    ],
)
async def test_a_backlog_leaves_as_fast_as_events_ever_do(
    scene: Scene, ledger: Tally, api_key: str, observed: Observe, count: int, piece: int
) -> None:
    service = await scene.start()
    await asyncio.to_thread(service.wait_for_relay)
    async with scene.load(callers=2) as load:
        await load.goes_on()
        steady = [await drained(ledger, scene.connection, piece) for _ in range(3)]
        peak = peak_memory(service.process_id)
        there = ledger.fewest
        await add(scene.connection, count)
        draining = asyncio.create_task(rates(ledger, there, [piece] * (count // piece)))
        began = time.monotonic()
        fresh = (await asyncio.to_thread(service.create, api_key, EXAMPLE)).json()["id"]
        await eventually(
            lambda: _has_left(scene.connection, fresh), 60 + count / 100, "a fresh event"
        )
        waited = time.monotonic() - began
        pieces = await draining
    await scene.check(60)
    more = (peak_memory(service.process_id) - peak) / 2**20
    assert more < 50
    rate = statistics.harmonic_mean(pieces)
    held = "memory is flat"
    # A few seconds tell nothing of a rate.
    if count > _FEW:
        # Of pieces of one size: what else the machine does comes and goes in some of them.
        assert statistics.median(pieces) >= 0.8 * statistics.median(steady)
        # First in, first out: whoever comes last waits for all of it, and for nothing else.
        assert waited <= count / rate + 5
        held += (
            "; they leave at 80 % of the usual rate at least; a fresh event waits for those before"
            " it only"
        )
    observed(
        17,
        f"{count:,} events wait while campaigns are created",
        held,
        f"{rate:,.0f}/s, a median of {statistics.median(pieces):,.0f}/s, before"
        f" {', '.join(f'{each:,.0f}/s' for each in steady)}; memory +{more:.0f} MB; a fresh event"
        f" waited {waited:.0f} s; {ledger.figures()}",
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
        before = await drained(ledger, scene.connection, 2_000)
        async with old.transaction(isolation="repeatable_read"):
            await old.execute("SELECT 1 FROM outbox")
            pieces = range(count // 2_000)
            rates = [await drained(ledger, scene.connection, 2_000) for _ in pieces]
            await load.goes_on()
        after = await drained(ledger, scene.connection, 2_000)
    await scene.check(60)
    observed(
        16,
        f"a transaction is open while {count:,} events leave",
        "nothing lost",
        f"{before:,.0f}/s before, {rates[-1]:,.0f}/s at the end of it, {after:,.0f}/s after it;"
        f" {ledger.figures()}",
    )
