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
    """Ready is who can do its work as far as the broker lets it: events wait in the outbox."""
    problem = await request.app[_FLIGHTS].join(request.app)
    relay = request.app.get(RELAY)
    return _json(
        {
            "status": "unready" if problem else "ready",
            "database": problem or "ok",
            "relay": {"state": "elsewhere"} if relay is None else relay.status(),
        },
        status=503 if problem else 200,
    )


async def context(app: web.Application) -> AsyncIterator[None]:
    """However many ask at the same time, they take one connection."""
    app[_FLIGHTS] = Flights(_storing_problem)
    yield


async def relay_context(app: web.Application) -> AsyncIterator[None]:
    """The same, for an application that only relays events."""
    app[_FLIGHTS] = Flights(_relaying_problem)
    yield


async def _storing_problem(app: web.Application) -> str | None:
    try:
        async with app[POOL].acquire() as connection:
            revision = await queries.schema_revision(connection)
    except postgres.Unavailable as error:
        return _unusable(error)
    except asyncpg.UndefinedTableError:
        revision = None
    except asyncpg.InsufficientPrivilegeError:
        return _closed("campaigns_service")
    if revision is None or revision < SCHEMA_REVISION:
        return (
            f"its schema has revision {revision or 'none'}, {SCHEMA_REVISION} is needed: "
            "run 'campaigns migrate'"
        )
    return None


async def _relaying_problem(app: web.Application) -> str | None:
    """What a relay needs, as its login cannot see which revision the schema has."""
    try:
        await app[RELAY].probe()
    except postgres.Unavailable as error:
        return _unusable(error)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return "it has no outbox, or an old one: run 'campaigns migrate'"
    except asyncpg.InsufficientPrivilegeError:
        return _closed("campaigns_relay")
    return None


def _unusable(error: postgres.Unavailable) -> str:
    # The cause's text may name hosts and users; whoever may read those finds them in the log.
    return f"cannot be used ({type(error.__cause__).__name__})"


def _closed(role: str) -> str:
    return f"its tables are closed to this login: make it a member of {role}"


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body, option=orjson.OPT_UTC_Z),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
