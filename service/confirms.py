"""Confirms: a whole batch on one channel in one write, and what the broker says of each message.

The client's own call takes a task, a lock, a timer and a turn in its queue for every message, four
times the CPU of this (`bench/README.md`). All that it keeps for them is kept here in the same way,
so it is still the client that finds the message of a confirm, a return or a channel that ends.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader


class Message(NamedTuple):
    """One message as it goes over the wire; no other that is under way has its id."""

    id: str
    frames: bytes


def encode(
    channel: Channel, exchange: str, routing_key: str, properties: Basic.Properties, body: bytes
) -> Message:
    """Raises: whatever the client says of properties that AMQP has no way to write."""
    assert properties.message_id
    header = ContentHeader(properties=properties, body_size=len(body))
    most = channel.max_content_size
    parts = [
        _method(channel.number, exchange, routing_key),
        frame.marshal(header, channel.number),
        *(
            frame.marshal(ContentBody(body[start : start + most]), channel.number)
            for start in range(0, len(body), most)
        ),
    ]
    return Message(properties.message_id, b"".join(parts))


@cache
def _method(channel_number: int, exchange: str, routing_key: str) -> bytes:
    method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    return frame.marshal(method, channel_number)


async def publish(
    channel: Channel, messages: Sequence[Message], timeout_seconds: float
) -> list[BaseException | None]:
    """Publish all, and wait for what becomes of them; what went wrong with each, if anything did.

    A TimeoutError stands for those of which nothing was said in time, and whatever ended the
    channel for those that were under way then: nobody knows whether these are stored. A
    ConnectionError: nothing was sent.
    """
    if not messages:
        return []
    if channel.is_closed or channel.write_queue.full():
        return [ConnectionError("the channel takes nothing to send") for _ in messages]
    # Nothing is awaited before they are in the queue, so their numbers have the order of the bytes.
    waiting = [_expect(channel, message) for message in messages]
    payload = b"".join(message.frames for message in messages)
    channel.write_queue.put_nowait(ChannelFrame(payload=payload, should_close=False))
    try:
        await asyncio.wait(waiting, timeout=timeout_seconds)
        return [_failure(confirm) for confirm in waiting]
    finally:
        for message, confirm in zip(messages, waiting, strict=True):
            channel.message_id_delivery_tag.pop(message.id, None)
            confirm.cancel()


def _expect(channel: Channel, message: Message) -> "asyncio.Future[object]":
    channel.delivery_tag += 1
    # Made by the client, who fails it when the channel ends.
    confirm: asyncio.Future[object] = channel.create_future()
    channel.confirmations[channel.delivery_tag] = confirm
    channel.message_id_delivery_tag[message.id] = channel.delivery_tag
    return confirm


def _failure(confirm: "asyncio.Future[object]") -> BaseException | None:
    if not confirm.done():
        return TimeoutError("the broker has not confirmed it in time")
    if confirm.cancelled():
        return asyncio.CancelledError()
    if error := confirm.exception():
        return error
    answer = confirm.result()
    return None if isinstance(answer, Basic.Ack) else TypeError(f"answered {type(answer).__name__}")
