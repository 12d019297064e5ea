"""A consumer of all three queues, as the import, schedule and start services would be."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from service import broker
from service.postgres import Connection
from service.relay import Relay
from service.settings import Settings

QUEUES = ("campaign.import", "campaign.schedule", "campaign.start")


class Consumer:
    """Collects what arrives for one organization, by queue."""

    def __init__(self, organization: int) -> None:
        self._organization = organization
        self.messages: dict[str, list[AbstractIncomingMessage]] = {name: [] for name in QUEUES}

    async def take(self, queue: str, message: AbstractIncomingMessage) -> None:
        # First of all, as another may come while this one is acknowledged.
        if json.loads(message.body)["data"]["campaign"]["organization_id"] == self._organization:
            self.messages[queue].append(message)
        await message.ack()

    async def events(self, count: int, seconds: float = 20) -> dict[str, list[dict[str, Any]]]:
        """The events of each queue, once `count` different ones have come to each."""
        await eventually(
            lambda: all(
                len({message.message_id for message in messages}) >= count
                for messages in self.messages.values()
            ),
            seconds,
            f"{count} events in each queue",
        )
        return {
            name: [json.loads(message.body) for message in messages]
            for name, messages in self.messages.items()
        }


async def eventually(
    happened: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float, what: str
) -> None:
    """Poll until it happened; fail after `seconds`."""

    async def has_happened() -> bool:
        answer = happened()
        return answer if isinstance(answer, bool) else await answer

    try:
        async with asyncio.timeout(seconds):
            while not await has_happened():  # noqa: ASYNC110 (it sets no event)
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {seconds} seconds: {what}")


async def outbox_is_empty(connection: Connection) -> None:
    """Return once every event is confirmed."""

    async def is_empty() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM outbox")

    await eventually(is_empty, 20, "an empty outbox")


@pytest.fixture
async def consume(organization: int) -> AsyncIterator[Callable[[Settings], Awaitable[Consumer]]]:
    """Start a consumer on the broker of these settings; the topology is there afterwards."""
    async with AsyncExitStack() as stack:

        async def start(settings: Settings) -> Consumer:
            async with broker.publisher(settings):
                pass  # Declares the queues, in case no service has run on this broker yet.
            connection = await aio_pika.connect(settings.amqp_url, timeout=10)
            await stack.enter_async_context(connection)
            channel = await connection.channel()
            consumer = Consumer(organization)
            for name in QUEUES:
                queue = await channel.get_queue(name)

                async def take(message: AbstractIncomingMessage, name: str = name) -> None:
                    await consumer.take(name, message)

                await queue.consume(take)
            return consumer

        yield start


@pytest.fixture
async def consumer(
    consume: Callable[[Settings], Awaitable[Consumer]], settings: Settings
) -> Consumer:
    return await consume(settings)


async def is_publishing(relay: Relay) -> None:
    """Return once it has reached the broker."""
    await eventually(lambda: relay.status()["state"] == "publishing", 10, "the relay")
