"""Floors: parts of a create alone, which no service with these libraries can be faster than.

`http` answers the parsed body; `statement` also stores a campaign with its event and history, by
one statement, and does nothing else; `events` stores and publishes them as the service does, and
does nothing else.
"""

import argparse
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count

import orjson
import uvloop
from aiohttp import web

from bench import versions
from service import (
    background,
    backlog,
    capacity,
    commits,
    health,
    ids,
    postgres,
    queries,
    relay,
    settings,
)
from service.background import BACKGROUND, Background
from service.history import Version
from service.settings import SETTINGS, Settings

POOL: web.AppKey[postgres.Pool] = web.AppKey("POOL")

_VERSION = versions.example()
_IDS = count(1)


async def answer_body(request: web.Request) -> web.Response:
    return _created(orjson.loads(await request.read()))


async def store(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read())
    async with request.app[POOL].acquire() as connection:
        await queries.create_draft(connection, _fresh())
    return _created(body)


def _fresh() -> Version:
    return _VERSION._replace(campaign=replace(_VERSION.campaign, id=next(_IDS)))


async def publish(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read())
    version = _fresh()
    event = replace(_VERSION.event, campaign_id=version.campaign.id, id=ids.new())
    stored = request.app[commits.COMMITS]
    await stored.store(version._replace(event=event), None)
    request.app[backlog.BACKLOG].wake(stored.size_of_last)
    return _created(body)


def _created(body: object) -> web.Response:
    return web.Response(status=201, body=orjson.dumps(body), content_type="application/json")


async def readyz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ready"})


async def database(app: web.Application) -> AsyncIterator[None]:
    usual = Settings()
    async with postgres.pool(os.environ["DATABASE_URL"], usual.database_pool_size, usual) as pool:
        app[POOL] = pool
        yield


def add_service(app: web.Application) -> None:
    """What of the service stores and publishes."""
    app[SETTINGS] = settings.load(os.environ)
    app[BACKGROUND] = Background()
    app.cleanup_ctx.extend(
        [
            capacity.context,
            postgres.context,
            health.context,
            relay.context,
            backlog.context,
            commits.context,
            background.context,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("floor", choices=["http", "statement", "events"])
    floor = parser.parse_args().floor
    app = web.Application()
    app.add_routes([web.get("/readyz", readyz)])
    if floor == "http":
        app.router.add_post("/api/v1/campaigns", answer_body)
    elif floor == "statement":
        app.router.add_post("/api/v1/campaigns", store)
        app.cleanup_ctx.append(database)
    else:
        app.router.add_post("/api/v1/campaigns", publish)
        add_service(app)
    uvloop.install()
    web.run_app(
        app, host="127.0.0.1", port=int(os.environ["HTTP_PORT"]), access_log=None, print=None
    )


if __name__ == "__main__":
    main()
