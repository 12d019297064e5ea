"""Shares: how processes that listen on one socket divide its connections evenly among them.

Left to themselves, the first one to wake up takes most of a crowd (99 of 128, of two processes) and
keeps them. With a socket for each, the kernel throws dice for every connection, and those that fall
to a process that hangs have to wait. So all of them see how many each has, and who has more than
another lets that one go first, for as long as it seems to be alive.
"""

import asyncio
import mmap
import select
import socket
from collections.abc import Callable

import structlog
from aiohttp import web

logger = structlog.get_logger(__name__)

# Whoever does not listen has more than anybody, so nobody waits for it.
_ABSENT = 2**31 - 1

# Seconds between two looks whether another one has taken the connection.
_LOOK_SECONDS = 0.001

# Seconds after which one that has fewer connections, and has taken none of those that wait, seems
# to hang; one round of an event loop under full load takes less.
_PATIENCE_SECONDS = 0.25

# Seconds without new connections when there are no files left for them.
_NO_FILES_SECONDS = 1.0


class Shares:
    """The open connections of each process, in memory of all that are forked from here."""

    def __init__(self, processes: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, processes * 4)).cast("i")
        for number in range(processes):
            self.clear(number)

    def clear(self, number: int) -> None:
        """Note that this process is gone."""
        self._counts[number] = _ABSENT

    def of(self, number: int) -> "Share":
        return Share(self._counts, number)


class Share:
    """What one process has."""

    def __init__(self, counts: "memoryview[int]", number: int) -> None:
        self.number = number
        self._counts = counts
        self._hanging: dict[int, int] = {}

    def open(self) -> None:
        self._counts[self.number] = 0

    def close(self) -> None:
        self._counts[self.number] = _ABSENT

    def add(self, change: int) -> None:
        if self._counts[self.number] != _ABSENT:
            self._counts[self.number] += change

    def is_fair(self) -> bool:
        """Whether one more is ours to take, as no other process has fewer.

        Those that seem to hang do not count. An eighth more is even enough, and if everybody took
        turns for each, a crowd would have to wait for as many rounds of busy event loops.
        """
        others = enumerate(self._counts)
        fewest = min(count for n, count in others if self._hanging.get(n) != count)
        return self._own <= fewest + fewest // 8

    def give_up(self) -> None:
        """Let those that should have been faster seem to hang, until they show that they do not."""
        self._hanging = {n: count for n, count in enumerate(self._counts) if count < self._own}

    @property
    def _own(self) -> int:
        return self._counts[self.number]


class Site(web.BaseSite):
    """A socket of all processes, of whose connections this one takes its share."""

    __slots__ = ("_accepting", "_loop", "_patient_until", "_share", "_socket", "_timer", "_waiting")

    def __init__(
        self, runner: web.BaseRunner, shared: socket.socket, share: Share, *, backlog: int
    ) -> None:
        super().__init__(runner, backlog=backlog)
        self._loop = asyncio.get_running_loop()
        self._socket = shared
        self._share = share
        self._accepting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._patient_until = 0.0
        self._waiting = select.poll()

    @property
    def name(self) -> str:
        return f"shared {self._socket.getsockname()}"

    async def start(self) -> None:
        await super().start()
        self._socket.setblocking(False)
        self._socket.listen(self._backlog)
        self._waiting.register(self._socket, select.POLLIN)
        self._watch()

    async def stop(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        if self._accepting:
            await asyncio.wait(self._accepting, timeout=_NO_FILES_SECONDS)
        await super().stop()

    def _watch(self) -> None:
        self._loop.add_reader(self._socket, self._look)

    def _look(self) -> None:
        while self._share.is_fair():
            if not self._accept():
                return
        self._patient_until = self._loop.time() + _PATIENCE_SECONDS
        self._pause(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        if self._loop.time() >= self._patient_until:
            self._share.give_up()
        if self._share.is_fair() or not self._waiting.poll(0):
            self._watch()
        else:
            self._pause(_LOOK_SECONDS, self._look_again)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(seconds, then)

    def _accept(self) -> bool:
        """Answer whether there may be more."""
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            logger.error("connection not accepted", error=str(error))  # noqa: TRY400
            self._pause(_NO_FILES_SECONDS, self._watch)
            return False
        self._share.add(1)
        task = self._loop.create_task(self._begin(connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        return True

    async def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        assert self._runner.server is not None
        try:
            await self._loop.connect_accepted_socket(self._runner.server, connection)
        except OSError as error:
            logger.warning("connection not begun", error=str(error))
            self._share.add(-1)
            connection.close()
