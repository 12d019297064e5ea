"""Topology: the exchanges, queues and bindings that consumers rely on."""

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity
from pamqp.common import FieldTable

from service import events

EXCHANGE = "campaign.events"
DEAD_LETTERS = "campaign.dead"

# All types go to all three: a consumer that does not get some cannot tell them from lost ones.
EVENT_TYPES = (events.CREATED, events.UPDATED, events.DELETED)
QUEUES = ("campaign.import", "campaign.schedule", "campaign.start")

# What all queues are bound to, and what gets the events of `EXCHANGE`: when an exchange is made
# anew while others publish, an event reaches all queues or none.
FAN_OUT = "campaign.consumers"

# Two bindings for each queue, and for each type: AMQP does not tell whether one is there, so one
# that somebody removes must not matter until it is made anew.
WAYS = ("first", "second")
KEYS = (*EVENT_TYPES, *(f"*.{name.partition('.')[2]}" for name in EVENT_TYPES))

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


async def declare_fan_out(channel: AbstractChannel) -> AbstractExchange:
    """Make the exchange that queues are bound to, unless it is there."""
    return await channel.declare_exchange(
        FAN_OUT, aio_pika.ExchangeType.FANOUT, durable=True, internal=True
    )


async def ensure(connection: AbstractConnection, gone: set[str]) -> None:
    """Make what is missing, and note at once in `gone` which queues are.

    A queue that is made later would miss the first events. Events wait for this, so it takes two
    round trips for a queue, and one for all bindings.

    Raises:
        aio_pika.exceptions.AMQPError, RuntimeError: it may not be complete.
    """
    channel = await _note_gone(connection, gone)
    await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
    await declare_fan_out(channel)
    await channel.declare_queue(DEAD_LETTERS, durable=True, arguments=_QUORUM)
    underlay = await channel.get_underlay_channel()
    for name in QUEUES:
        await channel.declare_queue(name, durable=True, arguments=_CONSUMED)
        for way in WAYS:
            await underlay.queue_bind(name, FAN_OUT, way, nowait=True)
    # Only now, as from now on events go there.
    *others, last = KEYS
    for routing_key in others:
        await underlay.exchange_bind(FAN_OUT, EXCHANGE, routing_key=routing_key, nowait=True)
    # Whatever was refused has ended the channel, so this one is not answered then.
    await underlay.exchange_bind(FAN_OUT, EXCHANGE, routing_key=last)
    await channel.close()


async def _note_gone(connection: AbstractConnection, gone: set[str]) -> AbstractChannel:
    """Note which queues are not there; the channel is still open."""
    channel = await connection.channel()
    for name in (DEAD_LETTERS, *QUEUES):
        try:
            await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            gone.add(name)
            # The broker has closed it over that.
            channel = await connection.channel()
    return channel
