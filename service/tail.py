"""Watching events: a temporary queue of one's own, so that no consumer misses what is shown."""

from collections.abc import AsyncIterator

from service import broker
from service.settings import Settings


async def events(settings: Settings) -> AsyncIterator[bytes]:
    """Yield the body of every event that is published from now on, until the connection ends."""
    async with broker.connect(settings) as connection:
        channel = await connection.channel()
        exchange = await broker.declare_exchange(channel)
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(exchange, routing_key="#")
        async with queue.iterator(no_ack=True) as messages:
            async for message in messages:
                yield message.body
