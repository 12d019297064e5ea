"""Pruning: answers that were kept long enough are forgotten, so that the table does not grow."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

from aiohttp import web

from service import postgres, queries
from service.background import BACKGROUND
from service.postgres import POOL
from service.settings import SETTINGS

# Seconds between two looks for such answers, and how many are forgotten in one transaction.
_SECONDS = 60.0
_BATCH = 500


async def prune(pool: postgres.Pool, kept: timedelta) -> None:
    """Forget all answers that were kept long enough, in transactions that are over soon.

    Raises:
        postgres.Unavailable: some may be left.
    """
    pruned = _BATCH
    while pruned == _BATCH:
        async with pool.acquire() as connection:
            pruned = await queries.prune_answers(connection, kept, _BATCH)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Prune the answers of `app`."""
    work = partial(prune, app[POOL], app[SETTINGS].idempotency_kept)
    app[BACKGROUND].repeat("pruning", work, _SECONDS)
    yield
