"""`campaigns events status`: what somebody who was paged asks first."""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence

import orjson
import uvloop
from tabulate import tabulate
from yarl import URL

from service import status
from service.settings import Settings
from service.sources import Away, Outbox, Process, Queue
from service.status import Status

EXIT_STATUS = (
    "Exit status: 0 when all is well; 1 when something is wrong, which the last lines say: an "
    "event is parked, the oldest has waited for more than a minute, a queue is missing or was "
    "gone, the process is not ready or its relay does not publish, or the database, the broker or "
    "the process is away; 2 when the command cannot be run as it was given."
)


def show(options: argparse.Namespace, settings: Settings) -> int:
    """Print all that is known; answer whether something is wrong."""
    url = options.url or URL.build(scheme="http", host=settings.http_host, port=settings.http_port)
    # It would say on its own, before the rest, what is told in its place.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    found = uvloop.run(status.ask(settings, url))
    problems = status.problems(found)
    if options.json:
        print(orjson.dumps(_document(found, problems), option=orjson.OPT_UTC_Z).decode())
    else:
        print("\n".join(_screen(found, problems)))
    return 1 if problems else 0


def _document(found: Status, problems: Sequence[str]) -> dict[str, object]:
    return {
        "healthy": not problems,
        "problems": problems,
        "outbox": found.outbox,
        "queues": found.queues,
        "process": found.process,
    }


def _screen(found: Status, problems: Sequence[str]) -> Iterator[str]:
    yield from _part("Outbox", _outbox(found.outbox))
    yield from _part("Queues", _queues(found.queues))
    yield from _part("Process", _process(found.process))
    yield "Wrong" if problems else "All is well."
    yield from (f"  {problem}" for problem in problems)


def _part(heading: str, lines: Iterable[str]) -> Iterator[str]:
    yield heading
    for line in lines:
        yield f"  {line}".rstrip()
    yield ""


def _outbox(found: Outbox | Away) -> Iterator[str]:
    if isinstance(found, Away):
        yield f"AWAY: {found.away}"
        return
    waiting, rate = found.waiting, found.rate
    oldest = waiting.oldest_seconds
    came_and_left = f"{rate.entered:,.1f} a second came and {rate.gone:,.1f} left"
    rows = [
        ("waiting", f"{waiting.total:,}"),
        ("  due", f"{waiting.due:,}"),
        ("  postponed", f"{waiting.postponed:,}"),
        ("  behind a postponed one", f"{waiting.behind_postponed:,}"),
        ("  parked", f"{waiting.parked:,}"),
        ("  behind a parked one", f"{waiting.behind_parked:,}"),
        ("oldest", "none" if oldest is None else f"{oldest:,.1f} seconds"),
        ("rate", f"{came_and_left}, over {rate.interval_seconds:.1f} seconds"),
    ]
    yield from _table(rows)
    if found.reasons:
        yield ""
        reasons = [
            (f"{each.events:,}", "parked" if each.parked else "postponed", _line(each.reason))
            for each in found.reasons
        ]
        yield from _table(reasons, ["events", "are", "because"])


def _queues(found: Sequence[Queue] | Away) -> Iterator[str]:
    if isinstance(found, Away):
        yield f"AWAY: {found.away}"
        return
    rows = [(queue.name, queue.ready, queue.consumers, queue.problem) for queue in found]
    yield from _table(rows, ["queue", "ready", "consumers", "problem"])


def _process(found: Process | Away) -> Iterator[str]:
    if isinstance(found, Away):
        yield f"AWAY: {found.away}"
        return
    rows = [("url", found.url)]
    for name, value in found.readiness.items():
        if isinstance(value, dict):
            rows += [(f"{name} {inner}", _line(text)) for inner, text in value.items()]
        else:
            rows.append((name, _line(value)))
    yield from _table(rows)


def _table(rows: Sequence[Sequence[object]], heading: Sequence[str] = ()) -> list[str]:
    # Spaces in front show what belongs to what.
    return tabulate(
        rows, heading, tablefmt="plain", disable_numparse=True, preserve_whitespace=True
    ).splitlines()


def _line(value: object) -> str:
    return "none" if value is None else " ".join(str(value).split())
