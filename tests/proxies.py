"""A TCP proxy in front of a server, which loses what the server answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest


class Proxy:
    """Carries bytes both ways, unless it is told to cut or to hold what comes back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._url = parts
        self._connections: set[asyncio.Task[None]] = set()
        self.cutting = False
        self.holds = 0
        self.passing = asyncio.Event()
        self.passing.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1")
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The server's, by way of here."""
        credentials = self._url.netloc.rpartition("@")[0]
        return self._url._replace(netloc=f"{credentials}@127.0.0.1:{self._port}").geturl()

    async def stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        there = asyncio.create_task(_carry(client_reader, server_writer))
        back = asyncio.create_task(_carry(server_reader, client_writer, self._may_pass))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in (there, back):
                direction.cancel()
            for writer in (server_writer, client_writer):
                writer.close()
            self._connections.discard(task)

    async def _may_pass(self) -> bool:
        self.holds += 1
        await self.passing.wait()
        self.holds -= 1
        return not self.cutting


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    may_pass: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if may_pass and not await may_pass():
                return
            writer.write(data)
            await writer.drain()


@pytest.fixture
async def start_proxy() -> AsyncIterator[Callable[[str], Awaitable[Proxy]]]:
    started: list[Proxy] = []

    async def start(url: str) -> Proxy:
        proxy = Proxy(url)
        await proxy.start()
        started.append(proxy)
        return proxy

    yield start
    for proxy in started:
        await proxy.stop()
