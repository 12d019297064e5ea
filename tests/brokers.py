"""A RabbitMQ of one's own, for tests that stop or break it."""

import asyncio
from collections.abc import Iterator

import pytest

from dev.rabbitmq import RabbitMQ
from service import broker
from service.settings import Settings


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A node that a test may stop."""
    node = RabbitMQ(tmp_path_factory.mktemp("broker"))
    node.start()
    node.wait()
    yield node
    node.child.stop()


async def settle(settings: Settings) -> None:
    """Declare the topology, and return when the broker may be stopped or killed."""
    async with broker.publisher(settings):
        pass
    # A quorum queue that is stopped right after its declaration may lose what it confirmed.
    await asyncio.sleep(10)


@pytest.fixture(scope="module")
def settled_broker(own_broker: RabbitMQ) -> RabbitMQ:
    """The same, with our topology in place for long enough."""
    asyncio.run(settle(Settings(amqp_url=own_broker.url)))
    return own_broker
