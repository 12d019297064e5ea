"""Authentication: everything under /api needs a key, and a key says whose campaigns these are."""

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service import keys, postgres
from service.postgres import POOL
from service.settings import SETTINGS

CALLER: web.RequestKey[keys.Caller] = web.RequestKey("CALLER")


class Unauthenticated(Exception):
    """There is no key, or none that we know."""


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the caller, before the body is read."""
    if request.path.startswith("/api/"):
        caller = request[CALLER] = await _caller(request)
        structlog.contextvars.bind_contextvars(
            organization_id=caller.organization_id, key_id=caller.key_id
        )
    return await handler(request)


async def _caller(request: web.Request) -> keys.Caller:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("Send your API key in the header 'Authorization: Bearer <key>'.")
    timeout_seconds = request.app[SETTINGS].database_timeout_seconds
    async with postgres.acquire(request.app[POOL], timeout_seconds) as connection:
        caller = await keys.find(connection, key.strip())
    if caller is None:
        raise Unauthenticated("This API key is not known.")
    return caller
