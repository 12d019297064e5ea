"""`campaigns events parked ...`: what operators do with events that no attempt can deliver."""

import argparse
import getpass
import os
import sys
from datetime import timedelta
from uuid import UUID

import orjson
import structlog
from tabulate import tabulate

from service import outbox, postgres, queries
from service.failure import Failure
from service.outbox import ParkedEvent
from service.settings import Settings

logger = structlog.get_logger(__name__)

# The end of a range does not belong to it.
_MOMENT = timedelta(microseconds=1)


def list_(options: argparse.Namespace, settings: Settings) -> None:
    """Print parked events, the oldest first."""
    limit = options.limit
    found = postgres.run(settings, lambda connection: queries.list_parked(connection, limit + 1))
    events, more = found[:limit], len(found) > limit
    if options.json:
        _print_json({"events": events, "more": more})
        return
    if not events:
        print("No event is parked.")
        return
    heading = [
        "organization", "campaign", "sequence", "type", "event id", "since", "attempts", "behind",
        "reason",
    ]  # fmt: skip
    rows = [
        (
            event.organization_id,
            event.campaign_id,
            event.sequence,
            event.type,
            event.event_id,
            f"{event.created_at:%Y-%m-%d %H:%M}",
            event.attempts,
            event.behind,
            " ".join(event.reason.split()),
        )
        for event in events
    ]
    print(tabulate(rows, heading, disable_numparse=True))
    if more:
        print(f"There are more than these {limit}: --limit shows them.", file=sys.stderr)


def show(options: argparse.Namespace, settings: Settings) -> None:
    """Print all of a parked event."""
    event = _find(options.event_id, settings)
    if options.json:
        _print_json(event)
        return
    rows = [
        ("event id", event.event_id),
        ("type", event.type),
        ("organization", event.organization_id),
        ("campaign", event.campaign_id),
        ("sequence", event.sequence),
        ("since", event.created_at.isoformat()),
        ("attempts", event.attempts),
        ("events behind it", event.behind),
        ("in the history", "yes" if event.in_history else "no"),
        ("reason", event.reason),
        *((f"header {name}", value) for name, value in event.headers.items()),
    ]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    print(f"\n{_readable(event.body)}")


def _readable(body: str) -> str:
    """A body that nobody can read may be the very reason why it is parked."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body


def replay(options: argparse.Namespace, settings: Settings) -> None:
    """Let the relay try again."""
    event_id = None if options.all else options.event_id
    done = postgres.run(settings, lambda connection: queries.replay_events(connection, event_id))
    if not (done.replayed or options.all):
        raise _not_parked(options.event_id)
    if options.json:
        _print_json(done)
        return
    print(
        f"{outbox.events(done.replayed)} due again, "
        f"and {outbox.events(done.behind)} to follow that waited behind."
    )


def discard(options: argparse.Namespace, settings: Settings) -> None:
    """Delete a parked event, so that those behind it go on."""
    if not options.yes:
        event = _find(options.event_id, settings)
        raise Failure(
            f"nothing is discarded without --yes, which deletes {_name(event)}. "
            + " ".join(_consequences(event))
        )
    event = _found(
        options.event_id,
        postgres.run(
            settings, lambda connection: queries.discard_event(connection, options.event_id)
        ),
    )
    logger.warning(
        "event discarded",
        by=_who(),
        event_id=event.event_id,
        organization_id=event.organization_id,
        campaign_id=event.campaign_id,
        sequence=event.sequence,
        reason=event.reason,
    )
    if options.json:
        _print_json(event)
        return
    print(f"Discarded {_name(event)}.", *_consequences(event), sep="\n")


def _find(event_id: UUID, settings: Settings) -> ParkedEvent:
    found = postgres.run(settings, lambda connection: queries.find_parked(connection, event_id))
    return _found(event_id, found)


def _found(event_id: UUID, event: ParkedEvent | None) -> ParkedEvent:
    if event is None:
        raise _not_parked(event_id)
    return event


def _not_parked(event_id: UUID) -> Failure:
    return Failure(
        f"no parked event has the id {event_id}: it has left the outbox, or is to be tried again, "
        "or never was; see 'events parked list'"
    )


def _name(event: ParkedEvent) -> str:
    return (
        f"{event.type} {event.event_id}, sequence {event.sequence} of campaign "
        f"{event.campaign_id} of organization {event.organization_id}"
    )


def _consequences(event: ParkedEvent) -> list[str]:
    return [
        f"Consumers of this campaign see a gap in the sequence where {event.sequence} is missing.",
        f"{outbox.events(event.behind)} behind it, free to go.",
        _kept(event),
    ]


def _kept(event: ParkedEvent) -> str:
    if not event.in_history:
        return "The history does not keep this event: nothing can send it later."
    begin = event.created_at
    times = [f"{time.isoformat()}".replace("+00:00", "Z") for time in (begin, begin + _MOMENT)]
    return (
        "The history keeps this event, and this sends it later: "
        f"campaigns events republish --from {times[0]} --to {times[1]} --type {event.type} "
        f"--organization {event.organization_id}"
    )


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user that has no name.
        return f"user {os.getuid()}"


def _print_json(document: object) -> None:
    print(orjson.dumps(document, option=orjson.OPT_UTC_Z).decode())
