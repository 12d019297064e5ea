"""Settlement: what becomes of an event in the outbox after an attempt to publish it."""

from collections import Counter
from collections.abc import Sequence

import structlog

from service import broker, events, queries
from service.postgres import Connection

logger = structlog.get_logger(__name__)

OUTCOMES = ("confirmed", "refused", "unknown", "parked")

Result = tuple[events.Event, BaseException | None]


async def settle(connection: Connection, results: Sequence[Result], *, again: bool) -> Counter[str]:
    """Forget what was confirmed, keep all else; answer how many had which outcome.

    What no attempt can publish is parked until an operator decides, and its campaign waits: that
    is sure of one that was rejected `again` when it was alone. All else is tried again: what was
    refused, later; what has an unknown outcome, next. One that was alone when an attempt failed
    `again` may be why, so it lets others go first.
    """
    confirmed = [event for event, result in results if result is None]
    if confirmed:
        await queries.delete_events(connection, confirmed)
    outcomes = Counter(confirmed=len(confirmed))
    alone = len(results) == 1
    for event, result in results:
        if result is not None:
            outcomes[await _keep(connection, event, result, alone=alone, again=again)] += 1
    return outcomes


async def _keep(
    connection: Connection, event: events.Event, result: BaseException, *, alone: bool, again: bool
) -> str:
    reason = str(result) or type(result).__name__
    is_cause = alone and again and isinstance(result, broker.Rejected)
    if isinstance(result, broker.Unpublishable) or is_cause:
        await queries.park_event(connection, event, reason)
        _log("event parked", event, reason)
        return "parked"
    if isinstance(result, broker.NotDelivered):
        await queries.postpone_event(connection, event, reason)
        _log("event not delivered", event, reason)
        return "refused"
    if alone and again:
        await queries.postpone_event(connection, event, f"its outcome is unknown: {reason}")
    return "unknown"


def _log(what: str, event: events.Event, reason: str) -> None:
    logger.warning(
        what,
        event_id=str(event.id),
        organization_id=event.organization_id,
        campaign_id=event.campaign_id,
        sequence=event.sequence,
        reason=reason,
    )
