"""`campaigns migrate`, `serve` and `relay`: what a deployment runs."""

import argparse

import structlog
import uvloop
from aiohttp import web

from service import migration, postgres, server
from service.app import create_app, create_relay_app
from service.settings import Settings

logger = structlog.get_logger(__name__)


def serve(options: argparse.Namespace, settings: Settings) -> None:
    _run(create_app(settings, with_relay=not options.no_relay), settings)


def relay(_options: argparse.Namespace, settings: Settings) -> None:
    _run(create_relay_app(settings), settings)


def _run(app: web.Application, settings: Settings) -> None:
    logger.info("starting", settings=settings)
    uvloop.run(server.run(app, settings))


def migrate(_options: argparse.Namespace, settings: Settings) -> None:
    async def apply() -> None:
        async with postgres.connect(settings) as connection:
            await migration.migrate(connection)

    uvloop.run(apply())
    print(f"The schema has revision {postgres.SCHEMA_REVISION}.")
