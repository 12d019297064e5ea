"""The consumer of all three queues, who writes into a ledger and comes back after every fault."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from service import broker
from service.settings import Settings
from tests.consumers import QUEUES
from tests.faults.ledger import Arrival, Ledger


@asynccontextmanager
async def witness(ledger: Ledger, settings: Settings) -> AsyncIterator[None]:
    """Consume from the broker of these settings; the topology is there from the beginning."""
    async with broker.publisher(settings):
        pass
    consuming = asyncio.Event()
    watching = asyncio.create_task(_watch(ledger, settings.amqp_url, consuming))
    try:
        async with asyncio.timeout(20):
            await consuming.wait()
        yield
        assert not watching.done(), watching.exception()
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(ledger: Ledger, url: str, consuming: asyncio.Event) -> None:
    while True:
        with suppress(*broker.ERRORS):
            # It notices a broker that was killed, stopped or hangs, and another one in its place.
            connection = await aio_pika.connect(url + "?heartbeat=5", timeout=10)
            async with connection:
                lost = asyncio.Event()
                channel = await connection.channel()
                connection.close_callbacks.add(lambda *_, lost=lost: lost.set())
                channel.close_callbacks.add(lambda *_, lost=lost: lost.set())
                for name in QUEUES:
                    await _consume(ledger, channel, name)
                consuming.set()
                await lost.wait()
        await asyncio.sleep(0.2)


async def _consume(ledger: Ledger, channel: aio_pika.abc.AbstractChannel, name: str) -> None:
    queue = await channel.get_queue(name, ensure=False)

    async def take(message: AbstractIncomingMessage) -> None:
        arrival = Arrival(
            message.message_id or "",
            message.body,
            bool(message.redelivered),
            _properties(message),
        )
        # First of all, as another may come while this one is acknowledged.
        ledger.take(name, arrival)
        with suppress(*broker.ERRORS):
            await message.ack()

    await queue.consume(take)


def _properties(message: AbstractIncomingMessage) -> str:
    # What begins like this is the broker's own, as how often it has delivered the message.
    headers = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
    said = (message.type, message.content_type, message.timestamp, message.delivery_mode)
    return repr((message.routing_key, *said, sorted(headers.items())))
