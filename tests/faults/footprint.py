"""What a service holds open, to be held against what it held before a fault."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from dev.rabbitmq import RabbitMQ
from service.postgres import Connection
from service.settings import Settings
from tests.processes import Service


@dataclass(frozen=True, slots=True)
class Footprint:
    """Counts of one moment; `files` are those of each process but for connections to the database.

    These come and go with the requests, up to the size of the pools: `sessions` has them all.
    """

    connections: int
    channels: int
    sessions: int
    files: dict[int, int]
    tasks: int

    def exceeds(self, before: "Footprint", most_sessions: int) -> list[str]:
        """What there is more of than before."""
        more = [
            f"{now} {name}, before {then}"
            for name, now, then in (
                ("connections at the broker", self.connections, before.connections),
                ("channels", self.channels, before.channels),
                ("sessions of the database", self.sessions, max(before.sessions, most_sessions)),
                ("tasks", self.tasks, before.tasks),
            )
            if now > then
        ]
        more += [
            f"{now} files of process {process}, before {before.files[process]}"
            for process, now in self.files.items()
            if process in before.files and now > before.files[process]
        ]
        return more


async def footprint(
    rabbitmq: RabbitMQ,
    settings: Sequence[Settings],
    services: Sequence[Service],
    connection: Connection,
) -> Footprint:
    """What is open now, at the broker of these settings and by the services that live."""
    vhost = urlsplit(settings[0].amqp_url).path.removeprefix("/") or "/"
    connections, channels = [
        await asyncio.to_thread(_count, rabbitmq, what, vhost)
        for what in ("list_connections", "list_channels")
    ]
    databases = {
        urlsplit(url).port
        for setting in settings
        for url in (setting.database_url, setting.relay_database_url)
    }
    return Footprint(
        connections=connections,
        channels=channels,
        sessions=await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ),
        files={
            service.process_id: _files(psutil.Process(service.process_id), databases)
            for service in services
            if service.is_alive
        },
        tasks=len(asyncio.all_tasks()),
    )


def _count(rabbitmq: RabbitMQ, what: str, vhost: str) -> int:
    lines = rabbitmq.control(what, "vhost").splitlines()
    return sum(line.strip() == vhost for line in lines)


def _files(process: psutil.Process, databases: set[int | None]) -> int:
    sockets = process.net_connections("tcp")
    return process.num_fds() - sum(bool(s.raddr) and s.raddr.port in databases for s in sockets)
