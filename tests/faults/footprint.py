"""What services hold open, to be held against what they may hold once nobody asks for anything."""

import asyncio
import json
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from dev.rabbitmq import RabbitMQ
from service.postgres import Connection
from service.settings import Settings
from tests.processes import Service, until


@dataclass(frozen=True, slots=True)
class Footprint:
    """Counts of one moment, at the servers and of each process.

    Sockets are without those to the database, which come and go with requests, up to the size of
    the pools: `sessions` has them all. Files are without any sockets.
    """

    connections: int
    channels: int
    sessions: int
    files: dict[int, int]
    sockets: dict[int, int]
    tasks: dict[int, list[str]]

    def exceeds(self, most: "Footprint") -> list[str]:
        """What there is more of."""
        counts = [
            ("connections at the broker", self.connections, most.connections),
            ("channels", self.channels, most.channels),
            ("sessions of the database", self.sessions, most.sessions),
        ]
        for process, names in self.tasks.items():
            counts += [
                (f"files of {process}", self.files[process], most.files[process]),
                (f"sockets of {process}", self.sockets[process], most.sockets[process]),
                (f"tasks of {process}, {names}", len(names), len(most.tasks[process])),
            ]
        return [f"{now} {what}, at most {then}" for what, now, then in counts if now > then]


async def footprint(
    rabbitmq: RabbitMQ,
    settings: Sequence[Settings],
    services: dict[Service, Path],
    connection: Connection,
) -> Footprint:
    """What is open now at the broker of these settings, and by the services, all of which live."""
    vhost = urlsplit(settings[0].amqp_url).path.removeprefix("/") or "/"
    connections, channels = [
        await asyncio.to_thread(_count, rabbitmq, what, vhost)
        for what in ("list_connections", "list_channels")
    ]
    urls = {url for each in settings for url in (each.database_url, each.relay_database_url)}
    # A primary and its standbys have one each.
    databases = {int(port) for url in urls for port in re.findall(r":(\d+)(?=[,/])", url)}
    processes = {service.process_id: service for service in services}
    return Footprint(
        connections=connections,
        channels=channels,
        sessions=await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ),
        files={process: files(process) for process in processes},
        sockets={
            process: sum(socket.raddr.port not in databases for socket in _connected(process))
            for process in processes
        },
        tasks={
            process: await asyncio.to_thread(tasks, service, services[service])
            for process, service in processes.items()
        },
    )


def _count(rabbitmq: RabbitMQ, what: str, vhost: str) -> int:
    lines = rabbitmq.control(what, "vhost").splitlines()
    return sum(line.strip() == vhost for line in lines)


def files(process: int) -> int:
    """All that is no socket, at one look: with two, one that is opened in between would be lost."""
    opened = 0
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            opened += not str(descriptor.readlink()).startswith("socket:")
    return opened


def _connected(process: int) -> list[Any]:
    sockets = psutil.Process(process).net_connections("tcp")
    return [socket for socket in sockets if socket.status != psutil.CONN_LISTEN]


def tasks(service: Service, census: Path) -> list[str]:
    """What each task of a replica runs, which it tells in this file when it is asked."""
    census.unlink(missing_ok=True)
    service.send(signal.SIGUSR1)
    until(census.exists, 10, lambda: f"the tasks of process {service.process_id}")
    names: list[str] = json.loads(census.read_text())
    return names
