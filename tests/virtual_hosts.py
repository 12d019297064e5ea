"""Virtual hosts for tests that break what others on the broker rely on."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dev.rabbitmq import RabbitMQ
from service.settings import Settings


@dataclass(frozen=True)
class VirtualHost:
    """One of the broker that all tests share."""

    name: str

    @property
    def broker(self) -> RabbitMQ:
        return _broker()

    @property
    def url(self) -> str:
        return self.broker.url + self.name

    def control(self, command: str, *arguments: str) -> str:
        """Run `rabbitmqctl` on it; answer what it prints."""
        return self.broker.control(command, "--vhost", self.name, *arguments)

    @contextmanager
    def a_user(self, password: str) -> Iterator[str]:
        """Let somebody in, who is named as it is; answer the URL."""
        self.broker.control("add_user", self.name, password)
        try:
            self.control("set_permissions", self.name, ".*", ".*", ".*")
            place = self.url.rpartition("@")[2]
            yield f"amqp://{self.name}:{password}@{place}"
        finally:
            self.broker.control("delete_user", self.name)

    def unlimit(self) -> None:
        self.control("clear_policy", "limit")

    def limit(self, queue: str, messages: int) -> None:
        """Let a queue refuse what comes when so many messages wait in it, more or less."""
        self.control("set_policy", "limit", f"^{queue}$", json.dumps({"max-length": messages}))


def _broker() -> RabbitMQ:
    return RabbitMQ(Path(os.environ["TEST_STATE"]))


@pytest.fixture
def virtual_host() -> Iterator[VirtualHost]:
    name, broker = f"test-{secrets.token_hex(4)}", _broker()
    broker.control("add_vhost", name)
    broker.control("set_permissions", "--vhost", name, "campaigns", ".*", ".*", ".*")
    yield VirtualHost(name)
    broker.control("delete_vhost", name)


@pytest.fixture
def apart(settings: Settings, virtual_host: VirtualHost) -> Settings:
    """Settings of a service that is alone on its virtual host."""
    return replace(settings, amqp_url=virtual_host.url, amqp_check_seconds=0.5)
