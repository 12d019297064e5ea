"""Watching events: a temporary queue of one's own, so that no consumer misses what is shown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service import broker
from service.settings import Settings


@asynccontextmanager
async def events(settings: Settings) -> AsyncIterator[AsyncIterator[bytes]]:
    """Listen; what is iterated are the bodies of all events published from then on."""
    async with broker.connect(settings) as connection:
        channel = await connection.channel()
        exchange = await broker.declare_exchange(channel)
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(exchange, routing_key="#")
        async with queue.iterator(no_ack=True) as messages:
            yield (message.body async for message in messages)
