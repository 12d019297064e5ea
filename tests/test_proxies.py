"""The proxy that tests harm links with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.consumers import eventually
from tests.proxies import Link, Proxy

StartProxy = Callable[[str], Awaitable[Proxy]]


class Caller:
    """One connection to a server that answers whatever it is sent."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)

    async def ask(self, sent: bytes) -> bytes:
        """What comes back; nothing: the connection is reset or closed."""
        self.writer.write(sent)
        try:
            async with asyncio.timeout(5):
                return await self.reader.read(100)
        except ConnectionError:
            return b""


@pytest.fixture
async def caller(start_proxy: StartProxy) -> AsyncIterator[Caller]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = await start_proxy(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    made = Caller(proxy)
    await made.connect()
    yield made
    made.writer.close()
    server.close()


async def test_bytes_pass(caller: Caller) -> None:
    assert await caller.ask(b"hello") == b"hello"


async def test_what_is_waited_for_happens_once_before_it_passes(caller: Caller) -> None:
    happened: list[Link] = []
    caller.proxy.there.when(b"now", happened.append)
    await caller.ask(b"not yet")
    assert not happened
    await caller.ask(b"and now")
    await caller.ask(b"and now")
    assert len(happened) == 1


async def test_what_comes_in_pieces_is_seen(caller: Caller) -> None:
    happened: list[Link] = []
    caller.proxy.there.when(b"now", happened.append)
    await caller.ask(b"no")
    await caller.ask(b"w")
    assert len(happened) == 1


async def test_what_had_come_before_it_is_waited_for_does_not_count(caller: Caller) -> None:
    await caller.ask(b"now")
    happened: list[Link] = []
    caller.proxy.there.when(b"now", happened.append)
    await caller.ask(b"later")
    assert not happened


async def test_a_link_that_is_cut_loses_what_it_was_cut_for(caller: Caller) -> None:
    caller.proxy.there.when(b"now", Link.cut)
    assert await caller.ask(b"now") == b""


async def test_a_link_may_be_cut_once_the_server_has_all(caller: Caller) -> None:
    answered = asyncio.Event()
    caller.proxy.back.when(b"now", lambda _: answered.set())
    caller.proxy.there.when(b"now", Link.cut_at_answer)
    assert await caller.ask(b"now") == b""
    assert answered.is_set()


async def test_others_are_not_cut_along_with_a_link(caller: Caller) -> None:
    other = Caller(caller.proxy)
    await other.connect()
    caller.proxy.there.when(b"now", Link.cut)
    await other.ask(b"now")
    assert await caller.ask(b"still here") == b"still here"
    other.writer.close()


@pytest.mark.parametrize("way", ["there", "back"])
async def test_what_is_held_passes_later(caller: Caller, way: str) -> None:
    direction = getattr(caller.proxy, way)
    direction.passing.clear()
    asking = asyncio.create_task(caller.ask(b"hello"))
    await eventually(lambda: direction.holds == 1, 5, "bytes that are held")
    assert not asking.done()
    direction.passing.set()
    assert await asking == b"hello"


@pytest.mark.parametrize("way", ["there", "back"])
async def test_what_is_swallowed_never_comes_and_the_link_stays_open(
    caller: Caller, way: str
) -> None:
    direction = getattr(caller.proxy, way)
    direction.swallowing = True
    caller.writer.write(b"lost")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(caller.reader.read(100), 0.3)
    direction.swallowing = False
    assert await caller.ask(b"hello") == b"hello"


async def test_new_links_may_be_refused(caller: Caller) -> None:
    caller.proxy.refusing = True
    other = Caller(caller.proxy)
    await other.connect()
    assert await other.ask(b"hello") == b""
    other.writer.close()
