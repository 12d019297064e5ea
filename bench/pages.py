"""How long a page of campaigns takes, and a campaign: among ten thousand, and among a million.

Each is asked for over HTTP, by turns of the one and the other service, both in this process,
so that what else the machine does slows both. The machine decides the times; the ratios are what to
compare. A page looks through 10,000 campaigns at most, and a `total` is counted to 10,001, so a
filter that finds fewer among ten thousand costs more of it among a million.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import asyncpg
import structlog
import uvloop
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestServer
from tabulate import tabulate

from dev import crowds
from dev.postgres import Postgres
from dev.stack import Stack
from service import keys, migration, postgres
from service.app import create_app
from service.listings import ORDERS, Cursor
from service.settings import Settings

RESULTS = Path(__file__).with_name("results") / "pages.json"

SIZES = (10_000, 1_000_000)

_ORGANIZATION = 1
# Events are not what is measured, and there are none.
_NOWHERE = "amqp://nobody@127.0.0.1:1/"
# Rounds that nobody waits for: caches fill up.
_WARM_UP = 20


def _ago(days: int) -> str:
    return (crowds.NEWEST - timedelta(days=days)).isoformat()


_CURSOR = Cursor(ORDERS["-created_at"], crowds.NEWEST - timedelta(days=500), 1)

PAGES: dict[str, dict[str, str]] = {
    "the newest": {},
    "100 of them, beyond 5000": {"skip": "5000", "limit": "100"},
    "by cursor, from the middle": {"cursor": str(_CURSOR)},
    "by name": {"sort": "name"},
    "drafts": {"status": "draft"},
    "drafts, first updated first": {"status": "draft", "sort": "updated_at"},
    "running, by name": {"status": "running", "sort": "name"},
    "a new type, oldest first": {"campaign_type": "mixed", "sort": "created_at"},
    "a busy assistant": {"assistant_id": "100"},
    "a dormant one, last updated first": {"assistant_id": "7", "sort": "-updated_at"},
    "failed ones of an assistant": {"status": "failed", "assistant_id": "100"},
    "of ten days, by name": {
        "created_after": _ago(410),
        "created_before": _ago(400),
        "sort": "name",
    },
    "a rare word": {"q": "zebra"},
    "a frequent word": {"q": "reminder"},
    "a frequent word of old": {"q": "pilot"},
    "the same, completed": {"q": "pilot", "status": "completed"},
    "three words, by name": {"q": "winter visit reminder", "sort": "name"},
    "words that never meet": {"q": "reminder pilot"},
    "two filters that seldom meet": {"status": "completed", "campaign_type": "mixed"},
    "of old, last updated first": {"created_before": _ago(900), "sort": "-updated_at"},
}

# Of another campaign in each round, so that most of them are in no cache; with what is sent along.
READS: dict[str, dict[str, str]] = {
    "one, by id": {},
    "one that the caller has already": {"If-None-Match": '"1"'},
}


@dataclass(frozen=True)
class Row:
    """One page or campaign at both sizes; times in milliseconds."""

    page: str
    p50_small: float
    p99_small: float
    p50_large: float
    p99_large: float
    p50_ratio: float
    p99_ratio: float


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="./run bench pages", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead")
    parser.add_argument("--rounds", type=int, default=300, metavar="N", help="default: 300")
    parser.add_argument(
        "--seconds", type=int, default=120, metavar="N", help="after which it ends; default: 120"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept; default: bench/results/pages.json",
    )  # fmt: skip
    options = parser.parse_args()
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="campaigns-") as folder:
        state = Path(folder)
        state.chmod(0o711)
        with Stack(state, {"AMQP_URL": _NOWHERE}) as stack:
            stack.start()
            stack.wait_for(Postgres)
            measuring = measure(stack.database_url, options.rounds, options.seconds)
            rows, rounds = uvloop.run(measuring)
    figures = json.dumps({"rounds": rounds, "pages": [asdict(row) for row in rows]}, indent=1)
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(figures + "\n")
    print(figures if options.json else table(rows, rounds))
    return 0


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:50}\r", end="", file=sys.stderr, flush=True)


async def measure(database_url: str, rounds: int, seconds: float) -> tuple[list[Row], int]:
    """The rows, and how many rounds there was time for."""
    rows = [*PAGES, *READS]
    times: dict[tuple[str, int], list[float]] = {(row, size): [] for row in rows for size in SIZES}
    done = 0
    async with AsyncExitStack() as stack:
        clients = {}
        for size in SIZES:
            _show_progress(f"making {size} campaigns")
            clients[size] = await stack.enter_async_context(_client(database_url, size))
        deadline = time.monotonic() + seconds
        for number in range(-_WARM_UP, rounds):
            if time.monotonic() > deadline:
                break
            _show_progress(f"round {max(number, 0)}/{rounds}")
            for row in rows:
                # Whoever comes second must not always be the same.
                for size in SIZES if number % 2 else reversed(SIZES):
                    took = await (
                        _time_page(clients[size], PAGES[row])
                        if row in PAGES
                        else _time_read(clients[size], random.randint(1, size), READS[row])
                    )
                    if number >= 0:
                        times[row, size].append(took)
            done = max(number + 1, 0)
    _show_progress("")
    small, large = SIZES
    return [_row(row, times[row, small], times[row, large]) for row in rows], done


@asynccontextmanager
async def _client(server_url: str, size: int) -> AsyncIterator[ClientSession]:
    """A client of a service whose one organization has so many campaigns."""
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE campaigns_{size}")
    await connection.close()
    url = urlsplit(server_url)._replace(path=f"/campaigns_{size}").geturl()
    settings = Settings(database_url=url, relay_database_url=url, amqp_url=_NOWHERE)
    key = keys.generate()
    async with postgres.connect(settings) as owner:
        await migration.migrate(owner)
        await keys.add(owner, keys.Grant(_ORGANIZATION, "bench"), key)
        await crowds.gather(owner, {_ORGANIZATION: size})
    authorization = {"Authorization": f"Bearer {key}"}
    async with (
        TestServer(create_app(settings)) as server,
        ClientSession(server.make_url("/"), headers=authorization) as session,
    ):
        yield session


async def _time_page(client: ClientSession, query: dict[str, str]) -> float:
    return await _time(client.get("/api/v1/campaigns", params=query), 200)


async def _time_read(client: ClientSession, campaign_id: int, headers: dict[str, str]) -> float:
    request = client.get(f"/api/v1/campaigns/{campaign_id}", headers=headers)
    return await _time(request, 304 if headers else 200)


async def _time(
    request: AbstractAsyncContextManager[ClientResponse], expected_status: int
) -> float:
    """Milliseconds until all of an answer was read."""
    started = time.perf_counter()
    async with request as answer:
        body = await answer.read()
    took = (time.perf_counter() - started) * 1e3
    if answer.status != expected_status:
        raise RuntimeError(f"{answer.url} was answered {answer.status}: {body.decode()}")
    return took


def _row(page: str, small: list[float], large: list[float]) -> Row:
    """Compare; at least two times of each are needed."""
    (p50_small, p99_small), (p50_large, p99_large) = _percentiles(small), _percentiles(large)
    return Row(
        page=page,
        p50_small=round(p50_small, 2),
        p99_small=round(p99_small, 2),
        p50_large=round(p50_large, 2),
        p99_large=round(p99_large, 2),
        p50_ratio=round(p50_large / p50_small, 2),
        p99_ratio=round(p99_large / p99_small, 2),
    )


def _percentiles(times: list[float]) -> tuple[float, float]:
    cuts = quantiles(times, n=100, method="inclusive")
    return cuts[49], cuts[98]


def table(rows: list[Row], rounds: int) -> str:
    """The figures for people."""
    columns = ["milliseconds", "p50 10k", "p99 10k", "p50 1M", "p99 1M", "p50 ratio", "p99 ratio"]
    body = tabulate([list(asdict(row).values()) for row in rows], columns, floatfmt=".2f")
    return f"{body}\n{rounds} of each page at either size; the ratio is that of 1M to 10k."


if __name__ == "__main__":
    sys.exit(main())
