"""The service, altered from outside as its environment says, since it has no hooks for tests.

`TRIP_WIRE`: at the n-th pass of a marked point the process suffers: `after the claim; 3; kill`, or
`stall 10` in place of `kill`, to hold up the event loop for ten seconds.
`CLAIM=plain`: events are claimed without regard to earlier ones of their campaign.
`CLOCK`: so many seconds are added to what this process takes for the time of day.
`CENSUS`: on SIGUSR1, what each task runs is written to this file.
"""

import asyncio
import functools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from aiormq.channel import Channel

from service import callers, drafts, queries
from service.__main__ import main

_Place = tuple[Any, str, bool]

# What to wrap, and whether the point is before it; else it is after it, if it did something.
POINTS: dict[str, _Place] = {
    "before the insert": (queries, "create_drafts", True),
    # The insert is a statement of its own, so that it is committed when it is answered.
    "after the commit of a create": (queries, "create_drafts", False),
    "after the claim": (queries, "claim_events", False),
    # Of the confirms that a batch waits for, some have come.
    "in the middle of a batch": (Channel, "_confirm_delivery", True),
    "after the confirm, before the delete": (queries, "delete_events", True),
    "after the delete, before the commit": (queries, "delete_events", False),
}


def _lay(wire: str) -> None:
    point, number, what = (word.strip() for word in wire.split(";"))
    owner, name, is_before = POINTS[point]
    real: Callable[..., Awaitable[Any]] = getattr(owner, name)
    left = int(number)

    def passed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            _suffer(what)

    @functools.wraps(real)
    def wrapped_plainly(*arguments: Any, **named: Any) -> Any:
        passed()
        return real(*arguments, **named)

    @functools.wraps(real)
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        if is_before:
            passed()
        result = await real(*arguments, **named)
        # A claim of nothing is no claim, and a create that was a repeat is none.
        if not is_before and (result is None or result):
            passed()
        return result

    setattr(owner, name, wrapped if asyncio.iscoroutinefunction(real) else wrapped_plainly)


def _suffer(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(what.removeprefix("stall ")))


def _claim_regardless_of_order() -> None:
    guarded = queries.STATEMENTS["claim_events"]
    plain = re.sub(r"AND NOT EXISTS \(.*?\n +\)", "", guarded, flags=re.DOTALL)
    assert plain != guarded
    queries.STATEMENTS["claim_events"] = plain


def _move_clock(seconds: float) -> None:
    moved = timedelta(seconds=seconds)

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # no subclass
            return datetime.now(tz) + moved

    readers = [m for m in list(sys.modules.values()) if m.__name__.startswith("service.")]
    readers = [module for module in readers if getattr(module, "datetime", None) is datetime]
    assert {drafts, callers} <= {*readers}
    for module in readers:
        module.datetime = Moved  # type: ignore[attr-defined] # as it was found above


def _tell_tasks(file: Path) -> None:
    def tell(*_signal: object) -> None:
        names = sorted(str(task.get_coro().__qualname__) for task in asyncio.all_tasks())  # type: ignore[union-attr] # a coroutine has one
        whole = file.with_suffix(".part")
        whole.write_text(json.dumps(names))
        whole.rename(file)

    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    if census := os.environ.get("CENSUS"):
        _tell_tasks(Path(census))
    if wire := os.environ.get("TRIP_WIRE"):
        _lay(wire)
    if os.environ.get("CLAIM") == "plain":
        _claim_regardless_of_order()
    if moved := os.environ.get("CLOCK"):
        _move_clock(float(moved))
    sys.exit(main())
