"""What every scenario has: replicas, a load on them, and a ledger of what became of it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.rabbitmq import RabbitMQ
from service.postgres import Connection
from service.settings import Settings
from tests.faults.footprint import Footprint, footprint
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.witness import witness
from tests.processes import Service

# Connections that a replica has for its requests and its relay.
_POOL, _RELAY_POOL = 4, 2


class Scene:
    """Replicas on one database and one broker, and all that is known about them."""

    def __init__(
        self,
        settings: Settings,
        api_key: str,
        connection: Connection,
        ledger: Ledger,
        start_service: Callable[..., Service],
        rabbitmq: RabbitMQ,
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.ledger = ledger
        self.replicas: list[Service] = []
        self.api_key = api_key
        self._start_service = start_service
        self._rabbitmq = rabbitmq
        self._started_with: list[Settings] = [settings]

    async def start(
        self,
        *,
        command: str = "serve",
        wait: bool = True,
        altered: Mapping[str, str] | None = None,
        **changes: object,
    ) -> Service:
        """Start a replica with these settings changed, perhaps altered itself (`replica.py`)."""
        settings = replace(self.settings, **changes)  # type: ignore[arg-type] # as the test says
        module = "tests.faults.replica" if altered else "service"
        service: Service = await asyncio.to_thread(
            self._start_service, settings, command, module, altered, wait=wait
        )
        self.replicas.append(service)
        self._started_with.append(settings)
        return service

    def load(self, *replicas: Service, **options: Any) -> Load:
        """A load on these replicas, or on all."""
        urls = [replica.url for replica in replicas or self.replicas]
        return Load(urls, self.api_key, self.ledger, **options)

    async def footprint(self) -> Footprint:
        return await footprint(self._rabbitmq, self._started_with, self.replicas, self.connection)

    async def check(self, seconds: float = 20) -> None:
        """Hold the ledger against the database, once the load is over."""
        await self.ledger.check(self.connection, seconds)

    async def leaves_nothing(self, before: Footprint, seconds: float = 30) -> None:
        """Fail unless no more is open than before, within so many seconds."""
        # One is the test's own.
        sessions = 1 + len(self.replicas) * (_POOL + _RELAY_POOL)
        more = ["nothing was looked at"]
        try:
            async with asyncio.timeout(seconds):
                while more := (await self.footprint()).exceeds(before, sessions):  # noqa: ASYNC110 (it sets no event)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pytest.fail(f"after {seconds} seconds there are still: {', '.join(more)}")


@pytest.fixture
def rabbitmq() -> RabbitMQ:
    """The broker of the scene; a file that breaks its own one overrides this."""
    return RabbitMQ(Path(os.environ["TEST_STATE"]))


@pytest.fixture
def scene_settings(settings: Settings) -> Settings:
    """What the replicas have in common; a file may override this."""
    return replace(settings, database_pool_size=_POOL, log_level="warning")


@pytest.fixture
def ledger(organization: int) -> Ledger:
    return Ledger(organization)


@pytest.fixture
def unwatched_scene(
    scene_settings: Settings,
    api_key: str,
    connection: Connection,
    ledger: Ledger,
    start_service: Callable[..., Service],
    rabbitmq: RabbitMQ,
) -> Scene:
    """A scene whose queues nobody reads yet."""
    return Scene(scene_settings, api_key, connection, ledger, start_service, rabbitmq)


@pytest.fixture
async def scene(unwatched_scene: Scene) -> AsyncIterator[Scene]:
    async with witness(unwatched_scene.ledger, unwatched_scene.settings):
        yield unwatched_scene
