"""Pruning: what was kept long enough is forgotten, so that no table grows for ever."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial

from aiohttp import web

from service import postgres, queries
from service.background import BACKGROUND
from service.postgres import POOL
from service.settings import SETTINGS

# Seconds between two looks for such rows, and how many are forgotten in one transaction.
_SECONDS = 60.0
_BATCH = 500

Statement = Callable[[postgres.Connection, timedelta, int], Awaitable[int]]


async def prune(pool: postgres.Pool, statement: Statement, kept: timedelta) -> None:
    """Forget all that was kept long enough, in transactions that are over soon.

    Raises:
        postgres.Unavailable: some may be left.
    """
    pruned = _BATCH
    while pruned == _BATCH:
        async with pool.acquire() as connection:
            pruned = await statement(connection, kept, _BATCH)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Prune the answers and the deleted campaigns of `app`."""
    settings, pool = app[SETTINGS], app[POOL]
    answers = partial(prune, pool, queries.prune_answers, settings.idempotency_kept)
    campaigns = partial(prune, pool, queries.prune_campaigns, settings.deleted_kept)
    app[BACKGROUND].repeat("pruning answers", answers, _SECONDS)
    app[BACKGROUND].repeat("pruning campaigns", campaigns, _SECONDS)
    yield
