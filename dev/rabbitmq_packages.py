"""Where RabbitMQ comes from: this machine, or its distribution's packages in the user's cache."""

from pathlib import Path

from dev import packages

# All of Erlang that the server loads; the distribution's own dependencies bring in much more.
_ERLANG = (
    "base asn1 crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl "
    "syntax-tools tools xmerl"
)
_PACKAGES = ["rabbitmq-server", *(f"erlang-{part}" for part in _ERLANG.split())]

_THREE_WAYS = (
    "there are three ways to get one: set AMQP_URL to a server that runs already, install the "
    "package rabbitmq-server, or run this on Debian or Ubuntu with a network"
)


def find() -> tuple[Path, Path] | None:
    """Server and Erlang of this machine, or those that an earlier run fetched."""
    for root in (Path("/"), packages.unpacked("rabbitmq")):
        servers = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
        erlang = root / "usr/lib/erlang"
        if servers and erlang.exists():
            return servers[-1], erlang
    return None


def fetch() -> tuple[Path, Path]:
    """Unpack the distribution's packages into the user's cache; nothing is installed."""
    packages.fetch("rabbitmq", _PACKAGES, size="32 MB", otherwise=_THREE_WAYS)
    found = find()
    assert found
    return found
