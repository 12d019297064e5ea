"""What every scenario has: replicas, a load on them, and a ledger of what became of it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.rabbitmq import RabbitMQ
from service.postgres import Connection
from service.settings import Settings
from tests.faults.footprint import Footprint, files, footprint
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.witness import witness
from tests.processes import Service

# Connections that a replica has for its requests and its relay.
_POOL, _RELAY_POOL = 4, 2

# Seconds in which the outbox is empty once nothing is broken any more; a scenario in which much
# waits by then says how long it may take.
EMPTY_SECONDS = 20

# Seconds until nothing is open any more that need not be.
_CLOSED_SECONDS = 30

_BESIDE = ["_repeat", "run.<locals>.wrapper"]
_RELAY = ["Channel._reader", "Relay.run"] + [
    f"Connection.__{name}" for name in ("heartbeat", "reader", "writer")
]
# The tasks of a process that nobody asks for anything.
AT_REST = {
    "serve": [*_RELAY, *_BESIDE, *["_repeat"] * 4],
    "serve --no-relay": [*_BESIDE, *["_repeat"] * 4],
    "relay": [*_RELAY, *_BESIDE],
}


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
        folder: Path,
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.ledger = ledger
        self.replicas: list[Service] = []
        self.api_key = api_key
        self._start_service = start_service
        self._rabbitmq = rabbitmq
        self._folder = folder
        self._started_with: list[Settings] = [settings]
        # What each has open when it is ready, and its tasks once it is at rest.
        self._files: dict[int, int] = {}
        self._tasks: dict[int, list[str]] = {}

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
        environment = {"CENSUS": str(self.census(len(self.replicas))), **(altered or {})}
        service: Service = await asyncio.to_thread(
            self._start_service, settings, command, "tests.faults.replica", environment, wait=wait
        )
        self.replicas.append(service)
        self._started_with.append(settings)
        self._tasks[service.process_id] = AT_REST[command]
        if wait:
            self._files[service.process_id] = files(service.process_id)
        return service

    def census(self, number: int) -> Path:
        """Where a replica tells its tasks."""
        return self._folder / f"tasks-{number}"

    def load(self, *replicas: Service, **options: Any) -> Load:
        """A load on these replicas, or on all."""
        urls = [replica.url for replica in replicas or self.replicas]
        return Load(urls, self.api_key, self.ledger, **options)

    async def check(self, seconds: float = EMPTY_SECONDS) -> None:
        """Hold the ledger against the database once the load is over, and look what is open."""
        await self.ledger.check(self.connection, seconds)
        await self.is_at_rest()

    async def is_at_rest(self) -> None:
        """Fail unless every process that lives comes to have no more open than it needs."""
        deadline = time.monotonic() + _CLOSED_SECONDS
        while more := (now := await self._footprint()).exceeds(self._most(now)):
            if time.monotonic() > deadline:
                pytest.fail(f"after {_CLOSED_SECONDS} seconds there are still: {', '.join(more)}")
            await asyncio.sleep(0.2)

    async def _footprint(self) -> Footprint:
        living = {
            replica: self.census(number)
            for number, replica in enumerate(self.replicas)
            if replica.is_alive
        }
        return await footprint(self._rabbitmq, self._started_with, living, self.connection)

    def _most(self, now: Footprint) -> Footprint:
        """One connection and channel for each relay, and for the witness; none of any caller's."""
        relays = {process: _RELAY[0] in self._tasks[process] for process in now.tasks}
        return Footprint(
            connections=1 + sum(relays.values()),
            channels=1 + sum(relays.values()),
            # One is the test's own.
            sessions=1 + len(relays) * (_POOL + _RELAY_POOL),
            files=now.files | self._files,
            sockets={process: int(has_relay) for process, has_relay in relays.items()},
            tasks={process: self._tasks[process] for process in relays},
        )


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
    tmp_path: Path,
) -> Scene:
    """A scene whose queues nobody reads yet."""
    return Scene(scene_settings, api_key, connection, ledger, start_service, rabbitmq, tmp_path)


@pytest.fixture
async def scene(unwatched_scene: Scene) -> AsyncIterator[Scene]:
    async with witness(unwatched_scene.ledger, unwatched_scene.settings):
        yield unwatched_scene
