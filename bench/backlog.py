"""How fast events leave: a backlog, beside publishing alone, and each event after its campaign.

The backlog is what an outage leaves behind; `campaigns relay` is started on it, in turns with
floor P, which publishes the same event with 100 in flight and has no database to ask. The latency
is that of creates at half of the highest rate: from the commit of a campaign, as PostgreSQL has
noted it, until the relay hears that all queues have the event.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import aio_pika
import asyncpg
import structlog
from tabulate import tabulate

from bench import contenders, served, versions
from bench.load import Generator, generator
from bench.rig import Place, rig
from dev.console import Failure, say
from service import topology

RESULTS = Path(__file__).with_name("results") / "backlog.json"

_IN_FLIGHT = 100
_CONNECTIONS = 32
# So many that a place in the schedule seldom waits for a connection.
_MOST_AT_ONCE = 128

# Seconds of the same load before latencies count: RabbitMQ still tidies up what was purged.
_SETTLING_SECONDS = 2

# The event of the example again and again: the relay looks at nothing but the columns.
_FILL = """
INSERT INTO outbox (
    organization_id, campaign_id, sequence, event_id, event_type, body, headers, created_at
)
SELECT $1, n, 1, gen_random_uuid(), $2, $3, $4, now()
FROM generate_series(1, $5::bigint) AS n
"""

# Before it waits for the disk.
_COMMITS = """
SELECT
    id,
    extract(epoch FROM pg_xact_commit_timestamp(xmin))::float AS at
FROM campaigns
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians of all rounds; rates a second, latencies in milliseconds.

    Rounds in which RabbitMQ began a new write-ahead log have a p99 far above the others.
    """

    events: int
    relay: float
    publishing: float
    ratio: float
    highest_rate: float
    paced_rate: float
    p50_ms: float
    p99_ms: float
    p99_ms_of_rounds: list[float]


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="./run bench backlog", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--events", type=int, default=100_000, metavar="N", help="default: 100000")
    parser.add_argument(
        "--seconds", type=int, default=10, metavar="N", help="of each other part; default: 10"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept; default: bench/results/backlog.json",
    )  # fmt: skip
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        found = measure(options.events, options.rounds, options.seconds)
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(asdict(found), indent=1) + "\n")
    print(table(found))
    return 0


def measure(events: int, rounds: int, seconds: int) -> Figures:
    relay, publishing, rates, p50s, p99s = [], [], [], [], []
    load = generator()
    with rig() as servers:
        place, folder = servers.place("backlog"), servers.folder
        for number in range(1, rounds + 1):
            publishing.append(contenders.publish(place, _IN_FLIGHT, seconds).per_second)
            relay.append(drain(place, folder, events))
            say(
                f"{number}/{rounds} relay {relay[-1]:,.0f}/s of {events:,}, "
                f"publishing alone {publishing[-1]:,.0f}/s"
            )
        for number in range(1, rounds + 1):
            place.clean()
            highest, paced, latencies = after_creates(place, folder, load, seconds)
            rates.append((highest, paced))
            p50s.append(_percentile(latencies, 50))
            p99s.append(_percentile(latencies, 99))
            say(
                f"{number}/{rounds} at {paced:,.0f} of {highest:,.0f} creates/s: "
                f"p50 {p50s[-1]} ms, p99 {p99s[-1]} ms"
            )
    return Figures(
        events=events,
        relay=round(median(relay), 1),
        publishing=round(median(publishing), 1),
        ratio=round(median(relay) / median(publishing), 3),
        highest_rate=round(median(highest for highest, _ in rates), 1),
        paced_rate=round(median(paced for _, paced in rates), 1),
        p50_ms=round(median(p50s), 2),
        p99_ms=round(median(p99s), 2),
        p99_ms_of_rounds=p99s,
    )


def _percentile(latencies: list[float], percent: int) -> float:
    return round(sorted(latencies)[len(latencies) * percent // 100], 2)


def drain(place: Place, folder: Path, events: int) -> float:
    """Events a second that a relay publishes of a backlog, from the first that arrived on.

    Raises:
        Failure: they do not all arrive.
    """
    place.clean()
    asyncio.run(_fill(place, events))
    command = [sys.executable, "-P", "-m", "service", "relay"]
    with served.serving(command, folder / "relay", place.environment):
        rate = asyncio.run(_watch(place, events))
        if left := place.waiting(5):
            raise Failure(f"all events arrived, but {left} are still in the outbox")
    return rate


async def _fill(place: Place, events: int) -> None:
    event = versions.example().event
    connection = await asyncpg.connect(place.database_url)
    await connection.execute(
        _FILL, versions.ORGANIZATION, event.type, event.body.decode(), "{}", events
    )
    await connection.execute("VACUUM (ANALYZE) outbox")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def _watch(place: Place, events: int) -> float:
    """Look how many there are in the queue, until all are; the start of the relay counts not."""
    deadline = time.monotonic() + 600
    async with await aio_pika.connect(place.amqp_url) as connection:
        channel = await connection.channel()
        seen: list[tuple[float, int]] = []
        while not seen or seen[-1][1] < events:
            queue = await channel.declare_queue(topology.QUEUES[-1], passive=True)
            count = queue.declaration_result.message_count or 0
            if count:
                seen.append((time.monotonic(), count))
            if time.monotonic() > deadline:
                raise Failure(f"only {count} of {events} events arrived")
            await asyncio.sleep(0.05)
    (began, first), (ended, last) = seen[0], seen[-1]
    if ended == began:
        raise Failure("there are too few events to measure a rate")
    return (last - first) / (ended - began)


def after_creates(
    place: Place, folder: Path, load: Generator, seconds: int
) -> tuple[float, float, list[float]]:
    """The highest rate of creates, the paced one, and its events' latencies in milliseconds."""
    moments = folder / "confirmed.json"
    command = [sys.executable, "-P", "-m", "bench.confirmed", str(moments)]
    variables = place.environment | {"LOG_FORMAT": "json"}
    with served.serving(command, folder / "serve", variables) as (url, _):
        load.post(url, place.key, connections=_CONNECTIONS, seconds=1)
        highest = load.post(url, place.key, connections=_CONNECTIONS, seconds=seconds).per_second
        _wait_for_events(place)
        place.clean()
        _pace(place, url, load, _SETTLING_SECONDS, highest / 2)
        began = time.time()
        paced = _pace(place, url, load, seconds, highest / 2)
    confirmed = json.loads(moments.read_text())
    commits = asyncio.run(_commits(place)).items()
    return highest, paced, [(confirmed[str(id_)] - at) * 1e3 for id_, at in commits if at >= began]


def _pace(place: Place, url: str, load: Generator, seconds: int, per_second: float) -> float:
    done = load.post(
        url, place.key, connections=_MOST_AT_ONCE, seconds=seconds, per_second=per_second
    )
    _wait_for_events(place)
    return done.per_second


def _wait_for_events(place: Place) -> None:
    if left := place.waiting(60):
        raise Failure(f"{left} events were not confirmed in a minute")


async def _commits(place: Place) -> dict[int, float]:
    """When each campaign was committed, in seconds of the epoch."""
    connection = await asyncpg.connect(place.database_url)
    rows = await connection.fetch(_COMMITS)
    await connection.close()
    return {row["id"]: row["at"] for row in rows}


def table(found: Figures) -> str:
    """The figures for people, in Markdown."""
    lines = [
        [f"relay, backlog of {found.events:,}", f"{found.relay:,.0f} events/s"],
        [f"floor P, {_IN_FLIGHT} in flight", f"{found.publishing:,.0f} events/s"],
        ["ratio, at least 0.85", f"{found.ratio:.2f}"],
        [f"creates at {_CONNECTIONS} connections", f"{found.highest_rate:,.0f}/s"],
        ["creates at half of it", f"{found.paced_rate:,.0f}/s"],
        ["from the commit until it is confirmed, p50, at most 10", f"{found.p50_ms:.2f} ms"],
        ["the same, p99, at most 50", f"{found.p99_ms:.2f} ms"],
        ["the same in each round", ", ".join(f"{p99:.2f}" for p99 in found.p99_ms_of_rounds)],
    ]
    return tabulate(lines, ["", "measured"], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
