"""Scenario 14, once more: the database is so slow that no connection to it is left."""

import asyncio
import time

from tests.faults.conftest import Scene
from tests.faults.load import PATH
from tests.observed import Observe
from tests.test_create import EXAMPLE

# So many that each could wait for those before it for much longer than a caller does.
_REQUESTS = 60


async def test_requests_that_wait_for_a_connection_are_refused_in_time(
    scene: Scene, observed: Observe
) -> None:
    replica = await scene.start(database_pool_size=2, database_timeout_seconds=1.0)
    async with scene.load() as load:
        await load.goes_on()
        async with scene.connection.transaction():
            # Whoever writes waits, with a connection.
            await scene.connection.execute("LOCK TABLE outbox IN SHARE MODE")
            began = time.monotonic()
            answers = await asyncio.gather(
                *(
                    load.request("POST", replica.url + PATH, key, EXAMPLE | {"name": key})
                    for key in map("waiting-{}".format, range(_REQUESTS))
                )
            )
            seconds = time.monotonic() - began
        await load.goes_on()
    await scene.check()
    assert {answer.status for answer in answers} == {503}
    observed(
        14,
        f"no statement ends, {_REQUESTS} requests for two connections",
        "each is refused by its deadline, not one after the other",
        f"all refused after {seconds:.1f} s; {scene.ledger.figures()}",
    )
