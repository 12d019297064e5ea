"""Authentication: everything under /api needs a key, which says for whom it is, and for what."""

from aiohttp import web
from aiohttp.typedefs import Handler

from service import connections, keys, logs
from service.callers import CALLERS

CALLER: web.RequestKey[keys.Caller] = web.RequestKey("CALLER")


class Unauthenticated(Exception):
    """There is no key, or none that is valid."""


class Forbidden(Exception):
    """The key is valid, but not for this."""


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the caller, before the body is read."""
    if request.path.startswith("/api/"):
        caller = request[CALLER] = await _caller(request)
        connections.protect(request)
        logs.bind(organization_id=caller.organization_id, key_id=caller.key_id)
    return await handler(request)


def requiring(scope: str, handler: Handler) -> Handler:
    """Let a handler answer only callers whose key has a scope."""
    assert scope in keys.SCOPES

    async def guarded(request: web.Request) -> web.StreamResponse:
        if scope not in request[CALLER].scopes:
            raise Forbidden(f"This call needs a key with the scope '{scope}'.")
        return await handler(request)

    return guarded


async def _caller(request: web.Request) -> keys.Caller:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("Send your API key in the header 'Authorization: Bearer <key>'.")
    try:
        caller = await request.app[CALLERS].find(key.strip())
    except keys.MalformedKey as error:
        raise Unauthenticated("This is no API key: check that all of it was copied.") from error
    if caller is None:
        raise Unauthenticated("This API key is unknown, or has expired, or was revoked.")
    return caller
