"""The service, which also keeps when each event was confirmed; started by `backlog`.

The file of its only argument gets the moments, in seconds of the epoch by campaign, when it ends.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from service import __main__, broker, events


class _Publisher(broker.Publisher):
    """Keeps the moment at which the relay hears that all queues have an event."""

    moments: dict[int, float] = {}  # noqa: RUF012 (one for all connections that are made)

    async def publish(self, batch: Sequence[events.Event]) -> list[BaseException | None]:
        results = await super().publish(batch)
        now = time.time()
        for event, failure in zip(batch, results, strict=True):
            if failure is None:
                self.moments[event.campaign_id] = now
        return results


def main() -> int:
    broker.Publisher = _Publisher  # type: ignore[misc] # the same class, which keeps moments, too
    status = __main__.main(["serve"])
    Path(sys.argv[1]).write_text(json.dumps(_Publisher.moments))
    return status


if __name__ == "__main__":
    sys.exit(main())
