"""A batch in one write: each message gets its own answer, and nothing is kept of it afterwards."""

from collections.abc import AsyncIterator

import pytest
from aio_pika.exceptions import PublishError
from aiormq.channel import Channel
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from service import broker, confirms, events, topology
from service.settings import Settings
from tests.consumers import QUEUES, eventually


@pytest.fixture
async def channel(apart: Settings) -> AsyncIterator[Channel]:
    """A channel to a broker that has our queues, and nobody who reads them."""
    async with broker.publisher(apart) as publisher:
        yield publisher._channel


def message(
    channel: Channel, name: str, key: str = events.CREATED, body: bytes = b"{}"
) -> confirms.Message:
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(message_id=name))
    return confirms.encode(channel, topology.EXCHANGE, key, name, header.marshal(), body)


async def test_each_message_of_a_batch_gets_its_own_answer(channel: Channel) -> None:
    batch = [message(channel, str(number)) for number in range(50)]
    batch[20] = message(channel, "lost", key="nobody.wants")
    failures = await confirms.publish(channel, batch, 10)
    assert isinstance(failures.pop(20), PublishError)
    assert failures == [None] * 49


async def test_a_body_of_many_frames_arrives_whole(channel: Channel) -> None:
    body = bytes(range(256)) * (3 * channel.max_content_size // 256)
    assert await confirms.publish(channel, [message(channel, "long", body=body)], 10) == [None]
    arrived = await channel.basic_get(QUEUES[0], no_ack=True)
    assert arrived.body == body


async def test_an_empty_body_and_an_empty_batch_are_published(channel: Channel) -> None:
    assert await confirms.publish(channel, [message(channel, "empty", body=b"")], 10) == [None]
    assert await confirms.publish(channel, [], 10) == []


async def test_a_broker_that_limits_no_frame_gets_the_body_in_one(channel: Channel) -> None:
    # What the client makes of no limit; no broker of the tests has one.
    channel.max_content_size = -8
    assert await confirms.publish(channel, [message(channel, "whole", body=b"abc")], 10) == [None]
    assert (await channel.basic_get(QUEUES[0], no_ack=True)).body == b"abc"


async def test_nothing_is_kept_of_a_batch(channel: Channel) -> None:
    await confirms.publish(channel, [message(channel, str(number)) for number in range(50)], 10)
    assert not channel.confirmations
    assert not channel.message_id_delivery_tag


async def test_a_confirm_that_comes_too_late_is_nobody_elses(channel: Channel) -> None:
    [late] = await confirms.publish(channel, [message(channel, "late")], 1e-9)
    assert isinstance(late, TimeoutError)
    assert not channel.message_id_delivery_tag
    assert await confirms.publish(channel, [message(channel, "next")], 10) == [None]
    await eventually(lambda: not channel.confirmations, 10, "the late confirm")


async def test_a_channel_that_has_ended_is_given_nothing(channel: Channel) -> None:
    batch = [message(channel, "one")]
    await channel.close()
    [failure] = await confirms.publish(channel, batch, 10)
    assert isinstance(failure, ConnectionError)
    assert channel.write_queue.empty()


async def test_a_channel_that_ends_takes_all_that_is_under_way_with_it(channel: Channel) -> None:
    properties = Basic.Properties(message_id="bad", headers={"CC": "no list"})
    header = ContentHeader(body_size=2, properties=properties).marshal()
    bad = confirms.encode(channel, topology.EXCHANGE, events.CREATED, "bad", header, b"{}")
    # The broker ends the channel over it, and says nothing of what comes behind it.
    failures = await confirms.publish(channel, [bad, message(channel, "behind")], 10)
    assert ["PRECONDITION_FAILED" in str(failure) for failure in failures] == [True, True]
