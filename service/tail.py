"""Watching events: a temporary queue of one's own, so that no consumer misses what is shown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractIncomingMessage

from service import broker, topology
from service.settings import Settings


@asynccontextmanager
async def events(settings: Settings) -> AsyncIterator[AsyncIterator[bytes]]:
    """Listen; what is iterated are the bodies of all events from then on, while connected."""
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def take(message: AbstractIncomingMessage) -> None:
        arrived.put_nowait(message.body)

    async with broker.connect(settings) as connection:
        connection.close_callbacks.add(lambda *_: arrived.put_nowait(None))
        async with asyncio.timeout(settings.amqp_timeout_seconds):
            channel = await connection.channel()
            # Not the exchange that is published to: an event that nobody but this queue gets would
            # count as delivered.
            exchange = await topology.declare_fan_out(channel)
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
            await queue.bind(exchange)
            await queue.consume(take, no_ack=True)
        yield _until_none(arrived)


async def _until_none(arrived: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (body := await arrived.get()) is not None:
        yield body
