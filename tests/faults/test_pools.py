"""Scenario 14, once more: the database is so slow that no connection to it is left."""

import asyncio
import json
import time

from tests.faults.conftest import Scene
from tests.faults.ledger import Ledger
from tests.faults.load import PATH
from tests.observed import Observe

# So many that each could wait for those before it for much longer than a caller does.
_REQUESTS = 40
_CHANGE = {"description": "waits"}


async def test_requests_that_wait_for_a_connection_are_refused_in_time(
    scene: Scene, observed: Observe
) -> None:
    replica = await scene.start(database_pool_size=2, database_timeout_seconds=1.0)
    async with scene.load() as load:
        await load.goes_on(4 * _REQUESTS)
        async with scene.connection.transaction():
            # Whoever writes waits, with a connection; creates would share one.
            await scene.connection.execute("LOCK TABLE outbox IN SHARE MODE")
            began = time.monotonic()
            answers = await asyncio.gather(
                *(
                    load.request("PATCH", f"{replica.url}{PATH}/{number}", key, _CHANGE, number)
                    for number in _there(scene.ledger)
                    for key in [f"waiting-{number}"]
                )
            )
            seconds = time.monotonic() - began
        await load.goes_on()
    await scene.check()
    assert len(answers) == _REQUESTS
    assert {answer.status for answer in answers} == {503}
    observed(
        14,
        f"no statement ends, {_REQUESTS} requests for two connections",
        "each is refused by its deadline, not one after the other",
        f"all refused after {seconds:.1f} s; {scene.ledger.figures()}",
    )


def _there(ledger: Ledger) -> list[int]:
    """Campaigns that nobody has deleted."""
    done = [outcome for outcome in ledger.outcomes if outcome.status in (200, 201)]
    made = {json.loads(outcome.body)["id"] for outcome in done if outcome.method == "POST"}
    gone = {outcome.campaign_id for outcome in done if outcome.method == "DELETE"}
    return sorted(made - gone)[:_REQUESTS]
