"""The map of the service: what runs here, in which order, and which routes it has."""

from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from service import (
    access,
    assistants,
    auth,
    background,
    bodies,
    callers,
    campaigns,
    capacity,
    handlers,
    health,
    limits,
    postgres,
    problems,
    pruning,
    relay,
    slots,
)
from service.background import BACKGROUND, Background
from service.settings import SETTINGS, Settings

# Ids of up to 18 digits are bigints; there will never be a longer one.
_CAMPAIGN = r"/api/v1/campaigns/{id:[1-9]\d{0,17}}"


def create_app(settings: Settings) -> web.Application:
    """Wire an application; nothing is opened before it starts."""
    app = web.Application(
        middlewares=[
            access.middleware,
            problems.middleware,
            auth.middleware,
            slots.middleware,
            limits.middleware,
        ],
        client_max_size=bodies.LARGEST,
        # A body that is compressed is refused, so nobody has to unpack it.
        handler_args={"auto_decompress": False},
    )
    app[SETTINGS] = settings
    app[BACKGROUND] = Background()
    app.on_response_prepare.append(limits.tell)
    app.on_shutdown.append(background.note_deadline)
    app.cleanup_ctx.extend(
        [
            capacity.context,
            slots.context,
            limits.context,
            postgres.context,
            health.context,
            callers.context,
            pruning.context,
            assistants.context,
            relay.context,
            _use_cases,
            background.context,
        ]
    )
    app.add_routes(
        [
            _post("/api/v1/campaigns", "campaigns:write", handlers.create_campaign),
            _post(
                "/api/v1/campaigns/template-preview",
                "templates:preview",
                handlers.preview_template,
            ),
            _get(_CAMPAIGN, "campaigns:read", handlers.read_campaign),
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
        ]
    )
    return app


def _get(path: str, scope: str, handler: Handler) -> web.RouteDef:
    return web.get(path, auth.requiring(scope, handler))


def _post(path: str, scope: str, handler: Handler) -> web.RouteDef:
    guarded = auth.requiring(scope, handler)
    return web.post(path, guarded, expect_handler=bodies.ignore_expectation)


async def _use_cases(app: web.Application) -> AsyncIterator[None]:
    app[campaigns.CAMPAIGNS] = campaigns.Campaigns(
        app[postgres.POOL],
        app[assistants.ASSISTANTS],
        app[SETTINGS].idempotency_kept,
        app[relay.RELAY].wake,
    )
    yield
