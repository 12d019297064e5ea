"""A TCP proxy in front of a server, which harms either direction as it is told to."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

# The confirm of a broker, basic.ack: class 60, method 80.
ACK = b"\x00\x3c\x00\x50"

# No pattern that is watched for is longer.
_LONGEST = 64


class Link:
    """One connection by way of the proxy."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.is_cut = False
        self.loses_answers = False

    def cut(self) -> None:
        """Reset the connection on both sides; what has not passed yet never does."""
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def cut_at_answer(self) -> None:
        """Let what is passing reach the server, and reset the connection in place of its answer."""
        self.loses_answers = True


class Direction:
    """What becomes of the bytes of all links that go one way."""

    def __init__(self, *, is_back: bool) -> None:
        self._is_back = is_back
        # While it is clear nothing is read, so that the buffers of the sender fill.
        self.passing = asyncio.Event()
        self.passing.set()
        # Ends a link in place of what would pass.
        self.cutting = False
        self.delay_seconds = 0.0
        self._reaching = asyncio.Event()
        self._reaching.set()
        # Links of which something is held at this moment.
        self.holds = 0
        self._awaited: list[tuple[bytes, Callable[[Link], None]]] = []

    @property
    def swallowing(self) -> bool:
        """Whether what comes is read and lost, even that an end closes its connection."""
        return not self._reaching.is_set()

    @swallowing.setter
    def swallowing(self, swallowing: bool) -> None:
        (self._reaching.clear if swallowing else self._reaching.set)()

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
                self._look(tail, data, link)
                tail = (tail + data)[1 - _LONGEST :]
                if self._is_back and link.loses_answers:
                    link.cut()
                if not await self._may_pass() or link.is_cut:
                    return
                if not self.swallowing:
                    writer.write(data)
                    await writer.drain()
        await self._reaching.wait()

    def _look(self, tail: bytes, data: bytes, link: Link) -> None:
        for awaited in list(self._awaited):
            seen, happens = awaited
            # What had come before it was waited for does not count.
            if seen in tail[max(len(tail) - len(seen) + 1, 0) :] + data:
                self._awaited.remove(awaited)
                happens(link)

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
        self.there = Direction(is_back=False)
        self.back = Direction(is_back=True)
        # Whether a new connection is reset at once.
        self.refusing = False
        # When somebody connected, by the clock of this process.
        self.attempts: list[float] = []

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        # Small, so that those who send soon find that nothing is read.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server = await asyncio.start_server(self._accept, sock=listener)
        self.port = listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The server's, by way of here."""
        credentials = self._url.netloc.rpartition("@")[0]
        return self._url._replace(netloc=f"{credentials}@127.0.0.1:{self.port}").geturl()

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

    def hold_from(self, seen: bytes) -> asyncio.Event:
        """Hold what the server answers from these bytes on; the event tells that they have come."""
        held = asyncio.Event()

        def hold(_: Link) -> None:
            self.passing.clear()
            held.set()

        self.back.when(seen, hold)
        return held

    def cut(self) -> None:
        """Reset all connections that there are; new ones may be made."""
        for link in self._links:
            link.cut()

    async def stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        self.attempts.append(time.monotonic())
        connection = asyncio.create_task(self._connect(client_reader, client_writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

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
