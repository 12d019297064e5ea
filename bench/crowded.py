"""How fast campaigns are created in a table that is empty, and in one that is full."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench import served
from bench.load import Generator
from bench.rig import Place
from bench.versions import ORGANIZATION
from dev import crowds
from dev.console import Failure, say

_CONNECTIONS = 32
_REPORT_SECONDS = 15

# As the schema does for campaigns from before it had a history.
_FILL_HISTORY = """
INSERT INTO campaign_history (
    organization_id, campaign_id, version, change, changed_fields, changed_at
)
SELECT organization_id, id, 1, 'created', '{}', created_at
FROM campaigns
"""

_BUSY_WITH = """
SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 60)
FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Creates a second of one round."""

    empty: float
    full: float


def fill(place: Place, campaigns: int) -> None:
    """Give the organization so many campaigns, each with its history; tell how far it is."""
    asyncio.run(_fill(place, campaigns))


async def _fill(place: Place, campaigns: int) -> None:
    reporting = asyncio.create_task(_report(place))
    connection = await asyncpg.connect(place.database_url)
    seconds = 120 + campaigns / 2_000
    await crowds.gather(connection, {ORGANIZATION: campaigns}, seconds=seconds)
    await connection.execute(_FILL_HISTORY, timeout=seconds)
    await connection.execute("VACUUM (ANALYZE) campaign_history", timeout=seconds)
    await connection.execute("SELECT setval('campaign_ids', $1)", campaigns)
    await connection.close()
    reporting.cancel()
    with suppress(asyncio.CancelledError):
        await reporting


async def _report(place: Place) -> None:
    connection = await asyncpg.connect(place.database_url)
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        size = await connection.fetchval("SELECT pg_database_size(current_database()) / 1000000")
        say(f"filling, {size:,} MB: {await connection.fetchval(_BUSY_WITH)}")


def measure(
    empty: Place, full: Place, folder: Path, load: Generator, rounds: int, seconds: int
) -> list[Pair]:
    """By turns; each has a service, and the one that is not asked waits.

    Raises:
        Failure: a create failed, or an event was not confirmed.
    """
    pairs = []
    with _services({"empty": empty, "full": full}, folder) as urls:
        for number in range(rounds + 1):
            rates = {}
            # Whoever comes first must not always be the same.
            for name, place in [("empty", empty), ("full", full)][:: 1 if number % 2 else -1]:
                rates[name] = _rate(place, urls[name], load, seconds if number else 1)
                (empty.clean if name == "empty" else full.tidy)()
            # In the first round connections open and statements are prepared.
            if number:
                pairs.append(Pair(**rates))
                say(f"{number}/{rounds} empty {rates['empty']:,.0f}/s, full {rates['full']:,.0f}/s")
    return pairs


@contextmanager
def _services(places: dict[str, Place], folder: Path) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-P", "-m", "service", "serve"]
    with ExitStack() as stack:
        urls = {}
        for name, place in places.items():
            variables = place.environment | {"LOG_FORMAT": "json"}
            serving = served.serving(command, folder / name, variables)
            urls[name], _ = stack.enter_context(serving)
        yield urls


def _rate(place: Place, url: str, load: Generator, seconds: int) -> float:
    done = load.post(url, place.key, connections=_CONNECTIONS, seconds=seconds)
    if left := place.waiting(60):
        raise Failure(f"{left} events were not confirmed in a minute")
    if done.errors or done.refused:
        raise Failure(f"{done.errors} creates failed, {done.refused} were refused")
    return done.per_second
