"""`campaigns migrate`, `serve` and `relay`: what a deployment runs."""

import argparse

import structlog
import uvloop
from aiohttp import web

from service import migration, postgres, processes, server
from service.app import create_app, create_relay_app
from service.settings import Settings

logger = structlog.get_logger(__name__)


def serve(options: argparse.Namespace, settings: Settings) -> int | None:
    logger.info("starting", settings=settings)
    server.check_address(settings)
    if settings.processes == 1:
        uvloop.run(server.run(_api(options, settings), settings))
        return None
    outcome = processes.Supervisor(settings).run()
    if isinstance(outcome, int):
        return outcome
    uvloop.run(server.run(_api(options, settings), settings, outcome))
    return None


def relay(_options: argparse.Namespace, settings: Settings) -> None:
    logger.info("starting", settings=settings)
    server.check_address(settings)
    uvloop.run(server.run(create_relay_app(settings), settings))


def _api(options: argparse.Namespace, settings: Settings) -> web.Application:
    return create_app(settings, with_relay=not options.no_relay)


def migrate(_options: argparse.Namespace, settings: Settings) -> None:
    async def apply() -> None:
        async with postgres.connect(settings) as connection:
            await migration.migrate(connection)

    uvloop.run(apply())
    print(f"The schema has revision {postgres.SCHEMA_REVISION}.")
