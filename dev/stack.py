"""The stack below the service: the servers of one state folder, private unless they are given."""

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from dev.console import Failure, say
from dev.postgres import Postgres
from dev.rabbitmq import RabbitMQ


class Stack:
    """A context in which PostgreSQL runs, and RabbitMQ starts.

    With `DATABASE_URL` or `AMQP_URL` in `given`, that server is used and none is started.
    """

    def __init__(self, state: Path, given: Mapping[str, str]) -> None:
        self._state = state
        self._given = given
        self._exit = ExitStack()
        self.rabbitmq: RabbitMQ | None = None

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._exit.close)
            self._start()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        _make_folder(self._state)
        lock = self._exit.enter_context(_lock(self._state))
        self.amqp_url = self._given.get("AMQP_URL") or self._start_rabbitmq(lock)
        self.database_url = self._given.get("DATABASE_URL") or self._start_postgres(lock)

    def _start_rabbitmq(self, lock: IO[str]) -> str:
        self.rabbitmq = RabbitMQ(self._state, keep_open=[lock.fileno()])
        self.rabbitmq.start()
        self._exit.callback(self.rabbitmq.stop)
        return self.rabbitmq.url

    def _start_postgres(self, lock: IO[str]) -> str:
        postgres = Postgres(self._state, keep_open=[lock.fileno()])
        postgres.start()
        self._exit.callback(postgres.stop)
        say(f"PostgreSQL is ready, its files are in {postgres.folder}")
        return postgres.url

    def wait_for_rabbitmq(self) -> None:
        """Return when our RabbitMQ takes connections; it needs some seconds more than the rest."""
        if self.rabbitmq:
            self.rabbitmq.wait()
            say(f"RabbitMQ is ready, its files are in {self.rabbitmq.folder}")


def _make_folder(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"the folder {state} cannot be made, set STATE_DIR: {error}") from error


def _lock(state: Path) -> IO[str]:
    """Take the state folder for us and for the servers we start; they hold it while they live.

    Two nodes of RabbitMQ on one folder start happily and destroy it.
    """
    file = (state / "lock").open("a+")
    deadline = time.monotonic() + 30
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip()
            if not owner.isdigit() or _is_alive(int(owner)) or time.monotonic() > deadline:
                raise Failure(
                    f"another ./run (process {owner or 'unknown'}) uses {state}: stop it, or give "
                    "this one a STATE_DIR and an HTTP_PORT of its own"
                ) from None
            # That run was killed, and its servers are on their way out.
            time.sleep(0.1)
            continue
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
