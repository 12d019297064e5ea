"""RabbitMQ: a connection, and publishing that is sure of its outcome.

A plain connection, not aio-pika's robust one: the relay replaces it after any doubt, which is
simpler to reason about than a connection that restores itself underneath.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)
from aiormq.channel import Channel
from pamqp import encode
from pamqp.common import FieldTable
from yarl import URL

from service import confirms, events, topology
from service.settings import Settings

# Seconds of heartbeat: the client's own default of 60 notices a dead peer only after minutes.
_CONNECTION = {"heartbeat": "5", "name": "campaigns"}

_CLOSE_SECONDS = 1.0

# What aio-pika raises when a connection or channel breaks, or was broken already.
ERRORS = (AMQPError, OSError, RuntimeError)


class NotDelivered(Exception):
    """The broker says that it has not stored the event in every queue; the text is its reason."""


class Unpublishable(Exception):
    """No attempt can succeed with this event; the text is the reason."""


class Rejected(Exception):
    """The broker ended the channel over this event, or over another one that was under way."""


class Publisher:
    """Publishes on one channel, until the first doubt about it."""

    def __init__(self, connection: AbstractConnection, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._channel: Channel
        self._doubt: str | None = None

    async def open(self) -> None:
        """Make a channel of which every publish is confirmed."""
        # Without on_return_raises an unroutable event would count as published.
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        opened = await channel.get_underlay_channel()
        assert isinstance(opened, Channel)
        self._channel = opened

    async def ensure_topology(self, gone: set[str]) -> None:
        """Make what is missing of exchange, queues and bindings; note queues in `gone` at once.

        Raises:
            any of `ERRORS`: it may not be complete.
        """
        async with asyncio.timeout(self._timeout_seconds):
            await topology.ensure(self._connection, gone)

    @property
    def doubt(self) -> str | None:
        """Why this publisher must be replaced before anything is published again, if it must.

        An event of unknown outcome may still be on its way; a second copy of it on the same
        channel could take the first one's answer for its own.
        """
        if self._doubt is None and self._channel.is_closed:
            self._doubt = "the broker or the network closed the connection"
        return self._doubt

    async def publish(self, batch: Sequence[events.Event]) -> list[BaseException | None]:
        """Publish all at once; answer what is wrong with each. Nothing: all its queues have it.

        NotDelivered: at least one queue has not taken it, or there is none.
        Unpublishable: it was not tried.
        Rejected: the broker ended the channel over it, or over another one that was beside it.
        Anything else means that the outcome is unknown.
        """
        attempts = [_encoded(self._channel, event) for event in batch]
        messages = [attempt for attempt in attempts if isinstance(attempt, confirms.Message)]
        said = iter(await confirms.publish(self._channel, messages, self._timeout_seconds))
        return [
            self._judged(next(said)) if isinstance(attempt, confirms.Message) else attempt
            for attempt in attempts
        ]

    def _judged(self, error: BaseException | None) -> BaseException | None:
        """What an answer means for the event, and for this publisher."""
        if error is None:
            return None
        if isinstance(error, PublishError):
            # Somebody changed the topology; it is declared anew with the next connection.
            self._doubt = "an event was returned: no queue is bound for it"
            return NotDelivered(self._doubt)
        if isinstance(error, DeliveryError):
            return NotDelivered(f"the broker refused it: {error}")
        if isinstance(error, ChannelPreconditionFailed):
            self._doubt = f"an event was rejected: {error}"
            return Rejected(f"the broker rejects it: {error}")
        self._doubt = f"the outcome of an event is unknown: {type(error).__name__}"
        return error


def _encoded(channel: Channel, event: events.Event) -> confirms.Message | Unpublishable:
    if event.type not in topology.EVENT_TYPES:
        return Unpublishable(f"no queue is meant for events of type {event.type!r}")
    try:
        header = _header(event)
    except Exception as error:
        # Whatever the client stumbles over, it will the next time.
        return Unpublishable(f"it cannot be sent: {type(error).__name__}: {error}")
    return confirms.encode(
        channel, topology.EXCHANGE, event.type, str(event.id), header, event.body
    )


# Of a content header (AMQP 0-9-1, 4.2.6.1): the class `basic`, the size of the body, and which
# properties there are: content type, headers, delivery mode, message id, timestamp, and type.
_HEADER = struct.Struct(">HxxQH")
_BASIC = 60
_PROPERTIES = 0x8000 | 0x2000 | 0x1000 | 0x0080 | 0x0040 | 0x0020

_CONTENT_TYPE = encode.short_string(events.CONTENT_TYPE)
_PERSISTENT = encode.octet(aio_pika.DeliveryMode.PERSISTENT)


def _header(event: events.Event) -> bytes:
    """The properties on the wire; a `Basic.Properties` for each takes most of a relay's time.

    Raises:
        TypeError: AMQP has no way to write one of the headers.
    """
    return b"".join(
        (
            _HEADER.pack(_BASIC, len(event.body), _PROPERTIES),
            _CONTENT_TYPE,
            encode.field_table(cast("FieldTable", event.headers)),
            _PERSISTENT,
            encode.short_string(str(event.id)),
            encode.timestamp(event.time),
            encode.short_string(event.type),
        )
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
async def publisher(settings: Settings, gone: set[str] | None = None) -> AsyncIterator[Publisher]:
    """Open a connection of which every publish is confirmed, with the topology in place.

    Queues that were not there are noted in `gone`, even if this fails afterwards.
    """
    async with connect(settings) as connection:
        opened = Publisher(connection, settings.amqp_timeout_seconds)
        await opened.ensure_topology(set() if gone is None else gone)
        async with asyncio.timeout(settings.amqp_timeout_seconds):
            await opened.open()
        yield opened
