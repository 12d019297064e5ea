"""Many events that wait at once, and how fast they reach all queues."""

import time
from collections.abc import Sequence

from service.postgres import Connection
from tests.consumers import eventually
from tests.faults.tally import Tally

# Whose events wait; nobody asks for its campaigns.
OTHER = 2


async def add(connection: Connection, count: int) -> None:
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


async def drained(ledger: Tally, connection: Connection, count: int) -> float:
    """Add so many; how many events a second reached all queues since then."""
    there = ledger.fewest
    await add(connection, count)
    [rate] = await rates(ledger, there, [count])
    return rate


async def rates(ledger: Tally, there: int, pieces: Sequence[int]) -> list[float]:
    """How many events a second reach all queues, of each piece that comes after what is there."""
    found: list[float] = []
    for piece in pieces:
        there, began = there + piece, time.monotonic()
        await _reached(ledger, there, 60 + piece / 100)
        found.append(piece / (time.monotonic() - began))
    return found


async def _reached(ledger: Tally, count: int, seconds: float) -> None:
    await eventually(lambda: ledger.fewest >= count, seconds, f"{count} events in each queue")
