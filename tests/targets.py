"""A service to be shot at, in a process of its own, for all the tests of a file."""

import asyncio
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from dev.processes import steady_port
from service import keys, postgres
from service.settings import Settings
from tests.conftest import NOWHERE, a_database, create_key, least_privileged
from tests.processes import Service, peak_memory


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Target:
    """A service of its own process, whose relay cannot publish: an event would stay and be seen."""

    owner: Settings
    address: str
    api_key: str
    log: Path
    process_id: int

    def stored(self, campaign_id: int) -> dict[str, Any]:
        """A campaign as the database has it."""

        async def fetch() -> asyncpg.Record | None:
            async with postgres.connect(self.owner) as connection:
                return await connection.fetchrow(
                    "SELECT * FROM campaigns WHERE id = $1", campaign_id
                )

        row = asyncio.run(fetch())
        assert row is not None
        return dict(row) | {"fallback_values": json.loads(row["fallback_values"])}

    def peak_memory(self) -> int:
        """The most bytes that the process has had in memory so far."""
        return peak_memory(self.process_id)

    def open_files(self) -> int:
        """How many files the process has open, connections among them."""
        return len(list(Path(f"/proc/{self.process_id}/fd").iterdir()))

    def connect(self) -> socket.socket:
        host, _, port = self.address.partition(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def send(self, *parts: bytes) -> Answer:
        """Send what may be no HTTP at all."""
        with self.connect() as connection:
            # It may be refused before all of it is sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                for part in parts:
                    connection.sendall(part)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def post(self, body: bytes, headers: dict[str, str], query: str = "") -> Answer:
        return self.request("POST", query, body, headers)

    def request(self, method: str, place: str, body: bytes, headers: dict[str, str]) -> Answer:
        named = {"Content-Length": str(len(body)), "Authorization": f"Bearer {self.api_key}"}
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            connection.putrequest(method, f"/api/v1/campaigns{place}")
            for name, value in (named | headers).items():
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders()
            # It may be refused before all of it is sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.send(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


StartTarget = Callable[..., Target]


@pytest.fixture(scope="module")
def start_target(
    worker: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartTarget]:
    """Starts targets, by a name and the settings that matter."""
    with ExitStack() as targets:

        def start(name: str, **limits: Any) -> Target:
            database = a_database(f"{name}_{worker}", template_database)
            url = targets.enter_context(database)
            settings = replace(least_privileged(url, NOWHERE), **limits)
            return targets.enter_context(_a_target(settings, url, tmp_path_factory.mktemp(name)))

        yield start


@pytest.fixture(scope="module")
def target(start_target: StartTarget) -> Target:
    return start_target("hostile", http_body_timeout_seconds=2)


@contextmanager
def _a_target(settings: Settings, owners_url: str, folder: Path) -> Iterator[Target]:
    owner = replace(settings, database_url=owners_url)

    async def authorize() -> str:
        async with postgres.connect(owner) as connection:
            return await create_key(connection, keys.Grant(1, "hostile"))

    service = Service(settings, steady_port(folder / "port"), log=folder / "log")
    try:
        service.wait()
        address = urlsplit(service.url).netloc
        api_key = asyncio.run(authorize())
        yield Target(owner, address, api_key, folder / "log", service.process_id)
    finally:
        service.kill()
