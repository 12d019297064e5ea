"""Events that are parked, as a relay leaves one that no attempt can deliver."""

from uuid import UUID

from service.postgres import Connection


async def park(connection: Connection, campaign_id: int, sequence: int, reason: str) -> UUID:
    """Park an event that waits; answer its id."""
    event_id = await connection.fetchval(
        """
        UPDATE outbox
        SET next_attempt_at = 'infinity', attempts = 3, last_error = $3
        WHERE campaign_id = $1 AND sequence = $2
        RETURNING event_id
        """,
        campaign_id,
        sequence,
        reason,
    )
    assert isinstance(event_id, UUID)
    return event_id
