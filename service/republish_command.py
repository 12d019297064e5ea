"""`campaigns events republish`: what operators do when a consumer has lost events."""

import argparse
import sys
from datetime import datetime

import orjson
import uvloop
from tabulate import tabulate

from service import history, outbox, postgres, queries, republishing, topology
from service.failure import Failure
from service.republishing import Progress
from service.settings import Settings

_BAR = 30


def republish(options: argparse.Namespace, settings: Settings) -> None:
    """Send the events of a range again, or tell which ones they are."""
    chosen, progress = _range(options), Progress()
    try:
        uvloop.run(_republish(chosen, progress, options, settings))
    finally:
        # Ctrl-C, or a database that has gone away: all that is known is worth telling.
        _end_bar(progress)
        if progress.continue_from is not None:
            _tell_rest(progress, progress.continue_from)
        if options.json and progress.events:
            print(
                orjson.dumps(_summary(chosen, progress, options), option=orjson.OPT_UTC_Z).decode()
            )
    if not options.json:
        _tell(progress, options)


def _range(options: argparse.Namespace) -> history.Range:
    if options.since >= options.until:
        raise Failure("--from has to be before --to")
    return history.Range(
        since=options.since,
        until=options.until,
        types=options.types or topology.EVENT_TYPES,
        organization_id=options.organization,
    )


async def _republish(
    chosen: history.Range, progress: Progress, options: argparse.Namespace, settings: Settings
) -> None:
    async with postgres.connect(settings) as connection:
        progress.counts = await queries.count_events(connection, chosen)
        _check(progress)
        if not options.dry_run:
            pace = republishing.Pace(options.rate)
            await republishing.republish(
                connection, chosen, pace, progress, lambda: _show_bar(progress)
            )


def _check(progress: Progress) -> None:
    if not progress.counts:
        raise Failure("there are no such events in this range")
    if not progress.events:
        raise Failure(f"nothing can be sent again: {_without_bytes(progress)}")


def _without_bytes(progress: Progress) -> str:
    kept = "not available: they were stored by a release that kept no bytes"
    return f"{outbox.events(progress.unavailable)} {kept}"


def _tell(progress: Progress, options: argparse.Namespace) -> None:
    if options.dry_run:
        heading = ["organization", "type", "events", "not available"]
        rows = [(c.organization_id, c.type, c.events, c.unavailable) for c in progress.counts]
        print(tabulate(rows, heading))
        seconds = progress.events / options.rate
        print(f"{outbox.events(progress.events)} to be sent again, in about {seconds:.0f} seconds.")
    else:
        print(
            f"{outbox.events(progress.republished)} in the outbox again, for the relay to publish; "
            f"{progress.already_waiting:,} had not left it yet."
        )
    if progress.unavailable:
        print(f"{_without_bytes(progress)}.", file=sys.stderr)


def _tell_rest(progress: Progress, continue_from: datetime) -> None:
    moment = continue_from.isoformat().replace("+00:00", "Z")
    print(
        f"Interrupted after {progress.done:,} of {progress.events:,} events. "
        f"Go on with --from {moment}; what is sent twice has the same id.",
        file=sys.stderr,
    )


def _summary(
    chosen: history.Range, progress: Progress, options: argparse.Namespace
) -> dict[str, object]:
    return {
        "from": chosen.since,
        "to": chosen.until,
        "dry_run": options.dry_run,
        "events": progress.events,
        "unavailable": progress.unavailable,
        "republished": progress.republished,
        "already_waiting": progress.already_waiting,
        "continue_from": progress.continue_from,
        "counts": progress.counts,
    }


def _show_bar(progress: Progress) -> None:
    if sys.stderr.isatty():
        # While it runs, events may be stored that belong to the range.
        total = max(progress.events, progress.done)
        bar = "#" * (_BAR * progress.done // total)
        text = f"\r[{bar:{_BAR}}] {progress.done:,} of {total:,} events"
        print(text, end="", file=sys.stderr, flush=True)


def _end_bar(progress: Progress) -> None:
    if progress.done and sys.stderr.isatty():
        print(file=sys.stderr)
