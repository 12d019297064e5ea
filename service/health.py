"""Health: whether the process answers, and whether it can do its work."""

from collections.abc import AsyncIterator

import asyncpg
import orjson
from aiohttp import web

from service import postgres, queries
from service.flights import Flights
from service.postgres import POOL, SCHEMA_REVISION
from service.relay import RELAY

_FLIGHTS: web.AppKey[Flights[web.Application, str | None]] = web.AppKey("_FLIGHTS")


async def healthz(_request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Ready is who can store a campaign; without the broker its events wait in the outbox."""
    problem = await request.app[_FLIGHTS].join(request.app)
    return _json(
        {
            "status": "unready" if problem else "ready",
            "database": problem or "ok",
            "relay": request.app[RELAY].status(),
        },
        status=503 if problem else 200,
    )


async def context(app: web.Application) -> AsyncIterator[None]:
    """However many ask at the same time, they take one connection."""
    app[_FLIGHTS] = Flights(_database_problem)
    yield


async def _database_problem(app: web.Application) -> str | None:
    try:
        async with app[POOL].acquire() as connection:
            revision = await queries.schema_revision(connection)
    except postgres.Unavailable as error:
        # The cause's text may name hosts and users; whoever may read those finds them in the log.
        return f"cannot be used ({type(error.__cause__).__name__})"
    except asyncpg.UndefinedTableError:
        revision = None
    except asyncpg.InsufficientPrivilegeError:
        return "its tables are closed to this login: make it a member of campaigns_service"
    if revision is None or revision < SCHEMA_REVISION:
        return (
            f"its schema has revision {revision or 'none'}, {SCHEMA_REVISION} is needed: "
            "run 'campaigns migrate'"
        )
    return None


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body, option=orjson.OPT_UTC_Z),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
