"""The map of the service: what runs here, in which order, and which routes it has."""

from collections.abc import AsyncIterator

from aiohttp import web

from service import access, auth, campaigns, handlers, health, postgres, problems, relay
from service.settings import SETTINGS, Settings

# Bytes; far above the longest campaign that makes sense.
_MAX_BODY = 1024 * 1024


def create_app(settings: Settings) -> web.Application:
    """Wire an application; nothing is opened before it starts."""
    app = web.Application(
        middlewares=[access.middleware, problems.middleware, auth.middleware],
        client_max_size=_MAX_BODY,
    )
    app[SETTINGS] = settings
    app.cleanup_ctx.extend([postgres.context, relay.context, _use_cases])
    app.add_routes(
        [
            web.post("/api/v1/campaigns", handlers.create_campaign),
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
        ]
    )
    return app


async def _use_cases(app: web.Application) -> AsyncIterator[None]:
    app[campaigns.CAMPAIGNS] = campaigns.Campaigns(
        app[postgres.POOL], app[SETTINGS].database_timeout_seconds, app[relay.RELAY].wake
    )
    yield
