"""A TCP proxy in front of a server, which harms either direction as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

# No pattern that is watched for is longer.
_LONGEST = 64


class Link:
    """One connection by way of the proxy."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.is_cut = False

    def cut(self) -> None:
        """Reset the connection on both sides; what has not passed yet never does."""
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()


class Direction:
    """What becomes of the bytes of all links that go one way."""

    def __init__(self) -> None:
        # While it is clear nothing is read, so that the buffers of the sender fill.
        self.passing = asyncio.Event()
        self.passing.set()
        # Ends a link in place of what would pass.
        self.cutting = False
        # Reads what comes and loses it; the link stays open.
        self.swallowing = False
        self.delay_seconds = 0.0
        # Links of which something is held at this moment.
        self.holds = 0
        self._awaited: list[tuple[bytes, Callable[[Link], None]]] = []

    def when(self, seen: bytes, happens: Callable[[Link], None]) -> None:
        """Do something once, as soon as these bytes have come and before they pass."""
        assert len(seen) <= _LONGEST
        self._awaited.append((seen, happens))

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        """Let the bytes of one link pass, until it ends."""
        tail = b""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self._look(tail + data, link)
                tail = (tail + data)[1 - _LONGEST :]
                if not await self._may_pass() or link.is_cut:
                    return
                if not self.swallowing:
                    writer.write(data)
                    await writer.drain()

    def _look(self, data: bytes, link: Link) -> None:
        for awaited in [awaited for awaited in self._awaited if awaited[0] in data]:
            self._awaited.remove(awaited)
            awaited[1](link)

    async def _may_pass(self) -> bool:
        self.holds += 1
        try:
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self.passing.wait()
        finally:
            self.holds -= 1
        return not self.cutting


class Proxy:
    """Carries bytes `there`, to the server, and `back`, unless it is told otherwise."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._url = parts
        self._connections: set[asyncio.Task[None]] = set()
        self._links: set[Link] = set()
        self.there = Direction()
        self.back = Direction()
        # Whether a new connection is reset at once.
        self.refusing = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1")
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The server's, by way of here."""
        credentials = self._url.netloc.rpartition("@")[0]
        return self._url._replace(netloc=f"{credentials}@127.0.0.1:{self._port}").geturl()

    @property
    def cutting(self) -> bool:
        """Whether a link ends in place of what the server answers."""
        return self.back.cutting

    @cutting.setter
    def cutting(self, cutting: bool) -> None:
        self.back.cutting = cutting

    @property
    def passing(self) -> asyncio.Event:
        """Clear it to hold what the server answers."""
        return self.back.passing

    @property
    def holds(self) -> int:
        """How many links wait with an answer."""
        return self.back.holds

    def cut(self) -> None:
        """Reset all connections that there are; new ones may be made."""
        for link in self._links:
            link.cut()

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
        try:
            await self._connect(client_reader, client_writer)
        finally:
            self._connections.discard(task)

    async def _connect(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            client_writer.transport.abort()
            return
        link = Link(server_writer, client_writer)
        self._links.add(link)
        directions = [
            asyncio.create_task(self.there.carry(client_reader, server_writer, link)),
            asyncio.create_task(self.back.carry(server_reader, client_writer, link)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            for direction in directions:
                direction.cancel()
            for writer in (server_writer, client_writer):
                writer.close()


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
