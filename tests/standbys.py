"""A primary and its synchronous standby, of a test's own: servers that may fail."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dev.folders import server_folder
from dev.postgres import LOGINS, Postgres
from dev.processes import unprivileged_user
from service import migration, postgres
from service.postgres import Connection
from service.settings import Settings
from tests.consumers import eventually


@dataclass(frozen=True)
class Pair:
    """Two servers with the same data; which of them is the primary changes."""

    one: Postgres
    two: Postgres

    @property
    def owner(self) -> Settings:
        """For whoever looks behind the service, at the server that takes writes."""
        return Settings(database_url=self._of_both(self.one.url))

    @property
    def settings(self) -> Settings:
        """For a service that may do no more than it must, and looks at the first server first."""
        service, relay = (self._of_both(self.one.login(role)) for role in LOGINS)
        return Settings(database_url=service, relay_database_url=relay)

    def _of_both(self, url: str) -> str:
        one, two = (
            server.url.rpartition("@")[2].partition("/")[0] for server in (self.one, self.two)
        )
        return url.replace(one, f"{one},{two}")


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary, `one`, that commits nothing until its standby, `two`, has it too."""
    with tempfile.TemporaryDirectory(prefix="campaigns-") as state:
        folder = Path(state)
        folder.chmod(0o711)
        servers = []
        try:
            servers.append(start(Postgres(folder / "one")))
            servers.append(start(_standby_of(servers[0], folder / "two")))
            pair = Pair(*servers)
            asyncio.run(_settle(pair))
            yield pair
        finally:
            for server in servers:
                crash(server)


def start(server: Postgres) -> Postgres:
    """Return when it takes connections."""
    server.start()
    server.wait()
    return server


def _standby_of(primary: Postgres, state: Path) -> Postgres:
    folder = server_folder(state, "postgres", unprivileged_user())
    for password in primary.folder.glob("password*"):
        shutil.copy(password, folder)
    standby = Postgres(state)
    copy(primary, standby)
    return standby


async def _settle(pair: Pair) -> None:
    """Have our schema on both, and every commit wait for the standby."""
    async with postgres.connect(pair.owner) as connection:
        await migration.migrate(connection)
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await connection.execute("SELECT pg_reload_conf()")
        await eventually(lambda: _is_synchronous(connection), 20, "a synchronous standby")


async def _is_synchronous(connection: Connection) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        )
    )


def copy(primary: Postgres, standby: Postgres) -> None:
    """Give a server that does not run the data of its primary, which it follows once started."""
    shutil.rmtree(standby._data, ignore_errors=True)
    standby._data.mkdir(mode=0o700)
    if user := standby._user:
        shutil.chown(standby._data, user.uid, user.gid)
    standby._do(
        [str(standby._binaries / "pg_basebackup"), "--pgdata", str(standby._data)]
        + ["--dbname", primary.url, "--write-recovery-conf", "--checkpoint=fast"]
    )


async def promote(server: Postgres) -> None:
    """Return when this standby takes writes."""
    async with postgres.connect(Settings(database_url=server.url)) as connection:
        assert await connection.fetchval("SELECT pg_promote()")


async def refuse_writes(server: Postgres) -> None:
    """As some do to a primary before they promote another server."""
    async with postgres.connect(Settings(database_url=server.url)) as connection:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")


def crash(server: Postgres) -> None:
    """End all of its processes at once, as when its machine goes down."""
    family = _family(server)
    for process in family:
        # Others end by themselves when the first one has.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family)
    server.child.kill()


def freeze(server: Postgres) -> None:
    """Let it take connections, as the kernel does that by itself, and answer nothing."""
    for process in _family(server):
        process.send_signal(signal.SIGSTOP)


def _family(server: Postgres) -> list[psutil.Process]:
    if server.child.process.poll() is not None:
        return []
    parent = psutil.Process(server.child.process.pid)
    # It first, as it would start others for those that are killed.
    return [parent, *parent.children(recursive=True)]
