"""Status: how events fare, and what of it needs an operator."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from yarl import URL

from service import outbox, sources
from service.settings import Settings
from service.sources import Away, Outbox, Process, Queue

# A relay that works takes milliseconds, and one that has lost its broker is back within seconds.
_OLDEST_SECONDS = 60.0

# The states of a relay that need no operator.
_WELL = ("publishing", "elsewhere")


@dataclass(frozen=True, kw_only=True)
class Status:
    outbox: Outbox | Away
    queues: Sequence[Queue] | Away
    process: Process | Away


async def ask(settings: Settings, url: URL) -> Status:
    """Ask all three; none is waited for longer than its own deadlines."""
    waiting, queues, process = await asyncio.gather(
        sources.ask_outbox(settings), sources.ask_queues(settings), sources.ask_process(url)
    )
    return Status(outbox=waiting, queues=queues, process=process)


def problems(status: Status) -> list[str]:
    """What an operator has to look at, a sentence each; none: all is well."""
    return [
        *_outbox_problems(status.outbox),
        *_queue_problems(status.queues),
        *_process_problems(status.process),
    ]


def _outbox_problems(found: Outbox | Away) -> list[str]:
    if isinstance(found, Away):
        return ["the database cannot be asked"]
    waiting, wrong = found.waiting, []
    if waiting.parked:
        wrong.append(f"{outbox.events(waiting.parked)} parked: see 'campaigns events parked list'")
    if waiting.oldest_seconds is not None and waiting.oldest_seconds > _OLDEST_SECONDS:
        wrong.append(f"the oldest event has waited for {waiting.oldest_seconds:,.0f} seconds")
    return wrong


def _queue_problems(found: Sequence[Queue] | Away) -> list[str]:
    if isinstance(found, Away):
        return ["the broker cannot be asked"]
    return [f"the queue {queue.name} {queue.problem}" for queue in found if queue.problem]


def _process_problems(found: Process | Away) -> list[str]:
    if isinstance(found, Away):
        return ["the process cannot be asked"]
    wrong, relay = [], found.readiness.get("relay")
    if found.readiness["status"] != "ready":
        wrong.append(f"the process at {found.url} is {found.readiness['status']}")
    if isinstance(relay, dict) and relay.get("state") not in _WELL:
        wrong.append(f"the relay at {found.url} is in the state '{relay.get('state')}'")
    if isinstance(relay, dict) and (made := relay.get("queues_made")):
        gone = (
            "1 queue gone: what was in it" if made == 1 else f"{made} queues gone: what was in them"
        )
        wrong.append(
            f"the relay at {found.url} found {gone} is lost, see 'campaigns events republish'"
            " (told until the process ends)"
        )
    return wrong
