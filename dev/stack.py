"""The stack below the service: the servers of one state folder, private unless they are given."""

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from dev.console import Failure, say
from dev.postgres import LOGINS, Postgres
from dev.rabbitmq import RabbitMQ


class Stack:
    """PostgreSQL and RabbitMQ for one state folder, which is ours while the context lasts.

    With `DATABASE_URL` or `AMQP_URL` in `given`, that server is used and none is started.
    """

    def __init__(self, state: Path, given: Mapping[str, str]) -> None:
        self._state = state
        self._given = given
        self._exit = ExitStack()
        self._servers: list[Postgres | RabbitMQ] = []

    def __enter__(self) -> Self:
        _make_folder(self._state)
        self._lock = self._exit.enter_context(_lock(self._state))
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def start(self) -> None:
        """Start what is not given; `wait_for` tells when it can be used."""
        # RabbitMQ needs longest, so it starts first.
        self.amqp_url = self._given.get("AMQP_URL") or self._run(RabbitMQ)
        self.database_url = self._given.get("DATABASE_URL") or self._run(Postgres)

    def _run(self, kind: type[Postgres | RabbitMQ]) -> str:
        server = kind(self._state, keep_open=[self._lock.fileno()])
        server.start()
        self._exit.callback(server.child.stop)
        self._servers.append(server)
        return server.url

    def wait_for(self, kind: type[Postgres | RabbitMQ]) -> None:
        """Return when our server of this kind takes connections, at once if it is not ours."""
        for server in self._servers:
            if isinstance(server, kind):
                server.wait()
                say(f"{server.child.name} is ready, its files are in {server.folder}")

    def logins(self) -> dict[str, str]:
        """Settings for a service that may do no more than it must, on a server of ours."""
        for server in self._servers:
            if isinstance(server, Postgres):
                service, relay = map(server.login, LOGINS)
                return {"DATABASE_URL": service, "RELAY_DATABASE_URL": relay}
        return {}

    def check(self) -> None:
        """Look whether all servers still run.

        Raises:
            Failure: one has ended.
        """
        for server in self._servers:
            server.child.check()


def _make_folder(state: Path) -> None:
    try:
        if not state.exists():
            state.mkdir(parents=True)
            # Servers of another user pass through, whatever the umask is; secrets in it are closed.
            state.chmod(0o711)
        (state / "lock").touch()
    except OSError as error:
        raise Failure(f"the folder {state} cannot be used, set STATE_DIR: {error}") from error


def _lock(state: Path) -> IO[str]:
    """Take the state folder for us and for the servers we start; they hold it while they live.

    Two nodes of RabbitMQ on one folder start happily and destroy it.
    """
    file = (state / "lock").open("a+")
    if not _try_lock(file):
        file.seek(0)
        owner = file.read().strip() or "unknown"
        if not owner.isdigit() or _is_alive(int(owner)):
            raise Failure(
                f"another ./run (process {owner}) uses {state}: stop it, or give this one a "
                "STATE_DIR and an HTTP_PORT of its own"
            )
        say(f"waiting for the servers of a run that was killed (process {owner}) to end")
        deadline = time.monotonic() + 30
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise Failure(f"a server of the run that was killed still uses {state}: end it")
            time.sleep(0.1)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It is another user's.
    return True
