"""Scenario 13: a standby is promoted under load; the old primary comes back as a standby."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from service import postgres
from service.settings import Settings
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import read
from tests.observed import Observe
from tests.standbys import Pair, copy, crash, freeze, promote, refuse_writes, start

# Seconds from when the standby takes writes.
LATEST = 10


@pytest.fixture
def settings(pair: Pair, amqp_url: str) -> Settings:
    """The servers of this test in place of the one that all others share."""
    return replace(
        pair.settings, amqp_url=amqp_url, relay_poll_seconds=0.05, database_timeout_seconds=2
    )


@pytest.fixture
def database_url(pair: Pair) -> str:
    return pair.owner.database_url


async def _crashes(pair: Pair) -> None:
    crash(pair.one)


async def _hangs(pair: Pair) -> None:
    freeze(pair.one)


async def _refuses_writes(pair: Pair) -> None:
    await refuse_writes(pair.one)


Fault = Callable[[Pair], Awaitable[None]]


@pytest.mark.parametrize(
    "primary",
    [
        _crashes,
        pytest.param(_hangs, marks=pytest.mark.minutes),
        pytest.param(_refuses_writes, marks=pytest.mark.minutes),
    ],
)
async def test_a_standby_that_takes_over_under_load_loses_nothing(
    scene: Scene, pair: Pair, observed: Observe, primary: Fault
) -> None:
    for _ in range(2):
        await scene.start()
    async with scene.load() as load:
        await load.goes_on(200)
        await primary(pair)
        await promote(pair.two)
        began, left = time.monotonic(), ""
        await load.goes_on(1, LATEST)
        seconds = time.monotonic() - began
        if primary is _refuses_writes:
            # It still runs and answers, so that whoever does not leave it can stay.
            await eventually(lambda: _is_left(pair), LATEST, "nobody at the old primary")
            left = f", the old primary left {time.monotonic() - began:.1f} s after it"
        await load.goes_on(200)
        # Whatever it was, somebody makes sure that it is over.
        crash(pair.one)
        await asyncio.to_thread(copy, pair.two, pair.one)
        start(pair.one)
        # As a standby it takes connections again.
        await load.goes_on()
        await eventually(lambda: _is_left(pair), LATEST, "nobody at the new standby")
    async with postgres.connect(pair.owner) as connection:
        scene.connection = connection
        await scene.check()
    observed(
        13,
        f"standby promoted while the primary {primary.__name__.strip('_').replace('_', ' ')}",
        f"nothing lost{', nobody stays with the old primary while it runs' if left else ''}",
        f"first success {seconds:.1f} s after the promotion{left}; {scene.ledger.figures()}",
    )


@pytest.mark.minutes
async def test_a_primary_that_nobody_stopped_promises_nothing_that_only_it_has(
    scene: Scene, pair: Pair, observed: Observe
) -> None:
    await scene.start()
    await scene.start()
    async with scene.load() as load:
        await load.goes_on(200)
        await promote(pair.two)
        # Who waited for the standby then has given up once it begins; what it then shows, it may
        # show to callers who ask again with the same key.
        before = scene.ledger.successes
        await asyncio.sleep(15)
        between = scene.ledger.successes - before
        crash(pair.one)
        await load.goes_on(200)
    async with postgres.connect(pair.owner) as connection:
        stored = await read(connection, scene.ledger.organization)
        scene.connection = connection
        await scene.is_at_rest()
    # Its relay may have told of what it showed.
    assert not scene.ledger._lost(stored)
    observed(
        13,
        "standby promoted while the primary goes on without one, for 15 s",
        "nothing lost that was answered",
        f"{between} successes in that time; {scene.ledger.figures()}",
    )


async def _is_left(pair: Pair) -> bool:
    """Whether no service is at the first server."""
    async with postgres.connect(Settings(database_url=pair.one.url)) as connection:
        return not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'campaigns'"
        )
