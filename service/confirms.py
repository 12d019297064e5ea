"""Confirms: a whole batch on one channel in one write, and what the broker says of each message.

The client's own call takes a task, a lock, a timer and a turn in its queue for every message, four
times the CPU of this (`bench/README.md`). All that it keeps for them is kept here in the same way,
so it is still the client that finds the message of a confirm, a return or a channel that ends.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Any, NamedTuple, cast

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp import constants, frame
from pamqp.commands import Basic

# AMQP 0-9-1, 4.2.3: type, channel, and size of what follows up to the octet at the end.
_FRAME = Struct(">BHI")


class Message(NamedTuple):
    """One message as it goes over the wire; no other that is under way has its id."""

    id: str
    frames: bytes


def encode(
    channel: Channel, exchange: str, routing_key: str, message_id: str, header: bytes, body: bytes
) -> Message:
    """`header` is the payload of the message's header frame, which has that id, too."""
    # Without a limit of the broker's it is less than nothing.
    most = channel.max_content_size if channel.max_content_size > 0 else max(len(body), 1)
    parts = [
        _method(channel.number, exchange, routing_key),
        _frame(constants.FRAME_HEADER, channel.number, header),
        *(
            _frame(constants.FRAME_BODY, channel.number, body[start : start + most])
            for start in range(0, len(body), most)
        ),
    ]
    return Message(message_id, b"".join(parts))


def _frame(kind: int, channel_number: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel_number, len(payload)) + payload + constants.FRAME_END_CHAR


@cache
def _method(channel_number: int, exchange: str, routing_key: str) -> bytes:
    method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    return frame.marshal(method, channel_number)


class _Batch:
    """The answers that a batch waits for."""

    def __init__(self, size: int) -> None:
        self.answers = [_Answer(self) for _ in range(size)]
        self._left = size
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def count(self) -> None:
        self._left -= 1
        if not self._left and not self.complete.done():
            self.complete.set_result(None)


class _Answer:
    """What the client takes for the future of a message, but nobody has to be woken for each."""

    __slots__ = ("_batch", "_is_there", "failure")

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._is_there = False
        self.failure: BaseException | None = TimeoutError("the broker has not confirmed it in time")

    def done(self) -> bool:
        return self._is_there

    def cancelled(self) -> bool:
        # It is asked of those that nobody waits for any more, and tells of others in the log.
        return True

    def set_result(self, answer: object) -> None:
        is_stored = isinstance(answer, Basic.Ack)
        self.set_exception(None if is_stored else TypeError(f"answered {type(answer).__name__}"))

    def set_exception(self, error: BaseException | None) -> None:
        self.failure = error
        self._is_there = True
        self._batch.count()

    def give_up(self, error: BaseException | None) -> None:
        """Take what comes now for nothing; if it is known, `error` is why."""
        if not self._is_there:
            self._is_there = True
            self.failure = error or self.failure


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
    batch = _Batch(len(messages))
    # Nothing is awaited before they are in the queue, so their numbers have the order of the bytes.
    for message, answer in zip(messages, batch.answers, strict=True):
        _expect(channel, message, answer)
    payload = b"".join(message.frames for message in messages)
    channel.write_queue.put_nowait(ChannelFrame(payload=payload, should_close=False))
    end = channel.closing
    try:
        await asyncio.wait(
            [batch.complete, end], timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for message, answer in zip(messages, batch.answers, strict=True):
            channel.message_id_delivery_tag.pop(message.id, None)
            answer.give_up(_reason(end))
        end.cancel()
    return [answer.failure for answer in batch.answers]


def _expect(channel: Channel, message: Message, answer: _Answer) -> None:
    channel.delivery_tag += 1
    channel.confirmations[channel.delivery_tag] = cast("asyncio.Future[Any]", answer)
    channel.message_id_delivery_tag[message.id] = channel.delivery_tag


def _reason(end: "asyncio.Future[Any]") -> BaseException | None:
    """Why the channel has ended, if it has."""
    if not end.done():
        return None
    if end.cancelled() or not (error := end.exception()):
        return ConnectionError("the channel has ended")
    return error
