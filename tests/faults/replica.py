"""`campaigns serve` with a trip wire: at the n-th pass of a marked point, the process suffers.

`TRIP_WIRE` says where, at which pass, and what: `after the claim; 3; kill`, or `stall 10` to hold
up the event loop for ten seconds. The wires are laid around the service from outside.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from service import broker, queries
from service.__main__ import main

_Place = tuple[Any, str, bool]

# What to wrap, and whether the point is before it; else it is after it, if it did something.
POINTS: dict[str, _Place] = {
    "before the insert": (queries, "create_draft", True),
    # The insert is a statement of its own, so that it is committed when it is answered.
    "after the commit of a create": (queries, "create_draft", False),
    "after the claim": (queries, "claim_events", False),
    "in the middle of a batch": (broker.Publisher, "publish", False),
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
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        if is_before:
            passed()
        result = await real(*arguments, **named)
        # A claim of nothing is no claim, and a create that was a repeat is none.
        if not is_before and (result is None or result):
            passed()
        return result

    setattr(owner, name, wrapped)


def _suffer(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(what.removeprefix("stall ")))


if __name__ == "__main__":
    if wire := os.environ.get("TRIP_WIRE"):
        _lay(wire)
    sys.exit(main())
