"""A broker that only these scenarios have, as they break it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dev.rabbitmq import RabbitMQ
from service.settings import Settings
from tests.faults.conftest import Scene
from tests.proxies import Proxy


@pytest.fixture
def rabbitmq(settled_broker: RabbitMQ) -> RabbitMQ:
    return settled_broker


@pytest.fixture
def scene_settings(scene_settings: Settings, rabbitmq: RabbitMQ) -> Settings:
    return replace(scene_settings, amqp_url=rabbitmq.url)


async def control(rabbitmq: RabbitMQ, *arguments: str) -> str:
    """Run `rabbitmqctl` while the load goes on; answer what it prints."""
    return await asyncio.to_thread(rabbitmq.control, *arguments)


async def two_replicas(scene: Scene, *proxies: Proxy, **changes: Any) -> None:
    """Start them, each by way of its proxy if there is one, and return when they publish."""
    direct = scene.settings.amqp_url
    for amqp_url in [proxy.url for proxy in proxies] or [direct, direct]:
        service = await scene.start(amqp_url=amqp_url, **changes)
        await asyncio.to_thread(service.wait_for_relay)
