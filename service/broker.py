"""RabbitMQ: the topology that consumers rely on, and publishing that is sure of its outcome.

A plain connection, not aio-pika's robust one: the relay replaces it after any doubt, which is
simpler to reason about than a connection that restores itself underneath.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError
from pamqp.commands import Basic
from pamqp.common import FieldTable
from yarl import URL

from service import events
from service.settings import Settings

EXCHANGE = "campaign.events"
DEAD_LETTERS = "campaign.dead"

# All types go to all three: a consumer that does not get some cannot tell them from lost ones.
EVENT_TYPES = (events.CREATED, events.UPDATED, events.DELETED)
QUEUES = ("campaign.import", "campaign.schedule", "campaign.start")

# A queue that exists refuses other arguments, so limits that operators tune are policies of theirs.
_QUORUM: FieldTable = {"x-queue-type": "quorum"}
_CONSUMED: FieldTable = _QUORUM | {
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD_LETTERS,
    "x-dead-letter-strategy": "at-least-once",
    # Needed by that strategy; a full queue then refuses new events instead of dropping old ones.
    "x-overflow": "reject-publish",
}

# Seconds of heartbeat: the client's own default of 60 notices a dead peer only after minutes.
_CONNECTION = {"heartbeat": "5", "name": "campaigns"}

_CLOSE_SECONDS = 1.0

# What aio-pika raises when a connection or channel breaks, or was broken already.
ERRORS = (AMQPError, OSError, RuntimeError)


class NotDelivered(Exception):
    """The broker says that it has not stored the event in every queue; the text is its reason."""


class Publisher:
    """Publishes on one channel, until the first doubt about it."""

    def __init__(
        self, channel: AbstractChannel, exchange: AbstractExchange, timeout_seconds: float
    ) -> None:
        self._channel = channel
        self._exchange = exchange
        self._timeout_seconds = timeout_seconds
        self._doubt: str | None = None

    @property
    def doubt(self) -> str | None:
        """Why this publisher must be replaced before anything is published again, if it must.

        An event of unknown outcome may still be on its way; a second copy of it on the same
        channel could take the first one's answer for its own.
        """
        if self._doubt is None and self._channel.is_closed:
            self._doubt = "the broker or the network closed the connection"
        return self._doubt

    async def publish(self, event: events.Event) -> None:
        """Return once the broker has stored the event in all queues it is routed to.

        Raises:
            NotDelivered: at least one of them has not taken it, or there is none.
            Exception: anything else means that the outcome is unknown.
        """
        try:
            confirmation = await self._exchange.publish(
                _message(event), event.type, mandatory=True, timeout=self._timeout_seconds
            )
        except PublishError as error:
            # Somebody changed the topology; it is declared anew with the next connection.
            self._doubt = "an event was returned: no queue is bound for it"
            raise NotDelivered(self._doubt) from error
        except DeliveryError as error:
            raise NotDelivered(f"the broker refused it: {error}") from error
        except BaseException as error:
            self._doubt = f"the outcome of an event is unknown: {type(error).__name__}"
            raise
        if not isinstance(confirmation, Basic.Ack):
            self._doubt = f"an event was answered with {type(confirmation).__name__}"
            raise NotDelivered(self._doubt)


def _message(event: events.Event) -> aio_pika.Message:
    return aio_pika.Message(
        event.body,
        content_type=events.CONTENT_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(event.id),
        type=event.type,
        timestamp=event.time,
        headers=dict(event.headers),
    )


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """Open a connection that notices a dead peer within seconds."""
    url = URL(settings.amqp_url)
    # What the setting says in its query wins.
    url = url.with_query({**_CONNECTION, **url.query})
    connection = await aio_pika.connect(url, timeout=settings.amqp_timeout_seconds)
    try:
        yield connection
    finally:
        # A broker that hangs must not hold up a restart; the events are safe in the outbox.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()


@asynccontextmanager
async def publisher(settings: Settings) -> AsyncIterator[Publisher]:
    """Open a connection of which every publish is confirmed, with the topology in place."""
    async with connect(settings) as connection:
        async with asyncio.timeout(settings.amqp_timeout_seconds):
            # Without on_return_raises an unroutable event would count as published.
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await declare_exchange(channel)
            await _declare_queues(channel)
        yield Publisher(channel, exchange, settings.amqp_timeout_seconds)


async def declare_exchange(channel: AbstractChannel) -> AbstractExchange:
    """Make the exchange unless it is there."""
    return await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)


async def _declare_queues(channel: AbstractChannel) -> None:
    """Make all consumers' queues and bindings: a queue made later would miss the first events."""
    await channel.declare_queue(DEAD_LETTERS, durable=True, arguments=_QUORUM)
    for name in QUEUES:
        queue = await channel.declare_queue(name, durable=True, arguments=_CONSUMED)
        for event_type in EVENT_TYPES:
            await queue.bind(EXCHANGE, routing_key=event_type)
