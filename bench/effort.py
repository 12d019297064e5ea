"""How much work a create is, and its event: counted, so that it is the same on a busy machine.

`tests/test_effort.py` holds these figures against bounds; the last line is what to put there.
"""

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
import structlog
from tabulate import tabulate

from bench import counting, served
from bench.load import PATH
from bench.rig import Place, rig
from dev.addresses import EXAMPLE
from dev.console import Failure, say

RESULTS = Path(__file__).with_name("results") / "effort.json"

# Caches fill up, statements are prepared, and as many events fill a batch of the relay.
_WARM_UP = 100
_CREATES = 400

_READY_FOR_QUERY = ord("Z")
_HEARTBEAT = 8


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a lone create takes, and what an event takes of the relay in a full batch."""

    create_instructions: int
    create_calls: int
    create_round_trips: float
    event_instructions: int
    event_calls: int
    event_round_trips: float
    event_frames: float


def main() -> int:
    """Count, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="./run bench effort", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept; default: bench/results/effort.json",
    )  # fmt: skip
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with rig() as servers:
            say(f"counting what {_CREATES} creates take")
            found = count(servers.place("effort"))
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(exist_ok=True)
    kept = {"python": sys.version.split()[0]} | asdict(found)
    options.results.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(found), found, sep="\n\n")
    return 0


def count(place: Place, *, twice: bool = False) -> Effort:
    """Count in a process of its own; `twice`: with a check of the body too many.

    Raises:
        Failure: it does not start.
    """
    command = [sys.executable, "-P", "-m", "bench.counted", *(["--twice"] if twice else [])]
    with (
        tempfile.TemporaryDirectory(prefix="campaigns-") as folder,
        counting.by_way(place.database_url, counting.POSTGRES) as (database_url, answers),
        counting.by_way(place.amqp_url, counting.AMQP) as (amqp_url, frames),
    ):
        variables = {"DATABASE_URL": database_url, "AMQP_URL": amqp_url, "LOG_FORMAT": "json"}
        with (
            served.serving(command, Path(folder) / "counted", variables) as (url, _),
            requests.Session() as session,
        ):
            session.headers["Authorization"] = f"Bearer {place.key}"

            def post(path: str, **options: Any) -> Any:
                answer = session.post(url + path, timeout=30, **options)
                answer.raise_for_status()
                return answer.json()

            def create(times: int) -> None:
                body, headers = EXAMPLE.read_bytes(), {"Content-Type": "application/json"}
                for _ in range(times):
                    post(PATH, data=body, headers=headers)

            create(_WARM_UP)
            post("/published")
            post("/counts")
            start = answers.by_type[_READY_FOR_QUERY]
            create(_CREATES)
            created, between = post("/counts"), answers.by_type[_READY_FOR_QUERY]
            frames.by_type.clear()
            batches = post("/published")
            end = answers.by_type[_READY_FOR_QUERY]
    if (events := sum(batch["events"] for batch in batches)) != _CREATES:
        raise Failure(f"{events} events of {_CREATES} creates were confirmed")
    # It is up to the broker in how many pieces the confirmations come; the best batch had few.
    best = min(batches[:-1], key=lambda batch: int(batch["instructions"]) / int(batch["events"]))
    return Effort(
        create_instructions=created["instructions"] // _CREATES,
        create_calls=created["calls"] // _CREATES,
        create_round_trips=round((between - start) / _CREATES, 3),
        event_instructions=best["instructions"] // best["events"],
        event_calls=best["calls"] // best["events"],
        event_round_trips=round((end - between) / _CREATES, 3),
        event_frames=round(
            sum(count for kind, count in frames.by_type.items() if kind != _HEARTBEAT) / _CREATES, 3
        ),
    )


def table(found: Effort) -> str:
    """The figures for people, in Markdown."""
    lines = [
        ["instructions of Python", found.create_instructions, found.event_instructions],
        ["calls of C", found.create_calls, found.event_calls],
        ["round trips to PostgreSQL", found.create_round_trips, found.event_round_trips],
        ["frames to RabbitMQ", 0, found.event_frames],
    ]
    return tabulate(lines, ["", "a create", "its event"], tablefmt="github")


if __name__ == "__main__":
    sys.exit(main())
