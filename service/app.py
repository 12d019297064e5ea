"""The map of the service: what runs here, in which order, and which routes it has."""

from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from service import (
    access,
    answers,
    assistants,
    auth,
    background,
    backlog,
    bodies,
    callers,
    campaigns,
    capacity,
    commits,
    edits,
    handlers,
    health,
    limits,
    lists,
    postgres,
    problems,
    pruning,
    relay,
    slots,
)
from service.background import BACKGROUND, Background
from service.settings import SETTINGS, Settings

_CAMPAIGNS = "/api/v1/campaigns"
_PREVIEW = f"{_CAMPAIGNS}/template-preview"
# Ids of up to 18 digits are bigints; there will never be a longer one.
_CAMPAIGN = _CAMPAIGNS + r"/{id:[1-9][0-9]{0,17}}"
_DUPLICATE = f"{_CAMPAIGN}/duplicate"
_HISTORY = f"{_CAMPAIGN}/history"
# A body that is compressed is refused, so nobody has to unpack it.
_HANDLER_ARGS = {"auto_decompress": False, "access_log_class": access.Log}
_PROBES = [web.get("/healthz", health.healthz), web.get("/readyz", health.readyz)]


def create_app(settings: Settings, *, with_relay: bool = True) -> web.Application:
    """Wire the API, and a relay unless others have one; nothing is opened before it starts."""
    is_limited = limits.are_set(settings)
    app = web.Application(
        middlewares=[
            access.middleware,
            problems.middleware,
            auth.middleware,
            slots.middleware,
            *([limits.middleware] if is_limited else []),
        ],
        client_max_size=bodies.LARGEST,
        handler_args=_HANDLER_ARGS,
    )
    app[SETTINGS] = settings
    app[BACKGROUND] = Background()
    app.on_response_prepare.extend([limits.tell] if is_limited else [])
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
            *([relay.context] if with_relay else []),
            backlog.context,
            commits.context,
            _use_cases,
            background.context,
        ]
    )
    app.add_routes(
        [
            _route("POST", _CAMPAIGNS, "campaigns:write", handlers.create_campaign),
            _get(_CAMPAIGNS, "campaigns:read", handlers.list_campaigns),
            _route("POST", _PREVIEW, "templates:preview", handlers.preview_template),
            _get(_CAMPAIGN, "campaigns:read", handlers.read_campaign),
            _route("PATCH", _CAMPAIGN, "campaigns:write", handlers.patch_campaign),
            _route("PUT", _CAMPAIGN, "campaigns:write", handlers.put_campaign),
            _route("DELETE", _CAMPAIGN, "campaigns:write", handlers.delete_campaign),
            _route("POST", _DUPLICATE, "campaigns:write", handlers.duplicate_campaign),
            _get(_HISTORY, "campaigns:read", handlers.list_history),
            *_PROBES,
        ]
    )
    return app


def create_relay_app(settings: Settings) -> web.Application:
    """Wire a relay that is alone, and what orchestrators ask about it."""
    app = web.Application(
        middlewares=[access.middleware, problems.middleware], handler_args=_HANDLER_ARGS
    )
    app[SETTINGS] = settings
    app[BACKGROUND] = Background()
    app.on_shutdown.append(background.note_deadline)
    app.cleanup_ctx.extend(
        [capacity.context, health.relay_context, relay.context, background.context]
    )
    app.add_routes(_PROBES)
    return app


def _get(path: str, scope: str, handler: Handler) -> web.RouteDef:
    return web.get(path, auth.requiring(scope, handler))


def _route(method: str, path: str, scope: str, handler: Handler) -> web.RouteDef:
    guarded = auth.requiring(scope, handler)
    return web.route(method, path, guarded, expect_handler=bodies.ignore_expectation)


async def _use_cases(app: web.Application) -> AsyncIterator[None]:
    settings, pool = app[SETTINGS], app[postgres.POOL]
    kept = answers.Answers(pool, settings.idempotency_kept)
    app[campaigns.CAMPAIGNS] = campaigns.Campaigns(
        pool, app[assistants.ASSISTANTS], kept, app[backlog.BACKLOG], app[commits.COMMITS]
    )
    app[lists.LISTS] = lists.Lists(
        pool, settings.database_pool_size, settings.database_timeout_seconds
    )
    app[edits.EDITS] = edits.Edits(
        pool,
        app[campaigns.CAMPAIGNS],
        app[assistants.ASSISTANTS],
        kept,
        app[backlog.BACKLOG],
        settings.database_timeout_seconds,
    )
    yield
