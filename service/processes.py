"""Processes: several that serve one port, each of them all that a single one is.

The kernel divides the connections among those that listen (SO_REUSEPORT, socket(7)).

This is ours because gunicorn, which aiohttp has a worker for, would be fought more than used. It
drops requests on SIGINT, kills a process whose event loop stalls for 30 seconds, starts one that
cannot live again and again without a pause, tells of a failed start in words and with a status of
its own, has its own logs, and obeys a variable and a file of the current folder.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from service.failure import Failure
from service.settings import Settings

logger = structlog.get_logger(__name__)

_STOPPED = {signal.SIGTERM, signal.SIGINT}
_ENDED = signal.SIGCHLD
_LISTENING = signal.SIGUSR1
_AWAITED = {*_STOPPED, _ENDED, _LISTENING}

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)

# What Python's own processes end with when they are told to while they start.
_INTERRUPTED = 130

# Seconds that a process needs beyond shutdown_seconds at most, to cancel what is left.
_CANCELLING_SECONDS = 2.0

# Seconds that the kernel may take to end one that is killed.
_KILLING_SECONDS = 1.0

# Seconds that a process has to live for, lest the next one has to wait.
_SHORT_LIFE = 10.0

# Seconds to wait after the second short life in a row, doubled after each further one.
_FIRST_WAIT = 0.5
_LAST_WAIT = 30.0


@dataclass(slots=True, kw_only=True)
class _Life:
    """Of the processes that follow each other in one place; the last one, if it has not ended."""

    process_id: int | None = None
    began_at: float = 0.0
    due_at: float = 0.0
    short_lives: int = 0


class Supervisor:
    """Has as many processes run as it is told, until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.shutdown_seconds + _CANCELLING_SECONDS
        self._process_id = os.getpid()
        self._can_start = False
        self._lives = [_Life() for _ in range(settings.processes)]

    def run(self) -> int | Callable[[], None]:
        """Return the exit status; in each process that is started, what it calls once it serves.

        What fails in the first one before that fails as if it were alone, so nobody else tells it.

        Raises:
            Failure: the system allows no process.
        """
        own_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        while True:
            for life in self._due():
                if self._fork(life):
                    self._die_with_parent()
                    # Told by the process itself, as its parent might come in between its words.
                    logger.info("process started", parent=self._process_id)
                    signal.pthread_sigmask(signal.SIG_SETMASK, own_mask)
                    return self._tell
            number = self._next_signal()
            if number in _STOPPED:
                return self._end()
            if number == _LISTENING:
                self._can_start = True
            for life, process_id, status in self._collect():
                if not self._can_start:
                    return _as_of_a_shell(status)
                self._note_end(life, child=process_id, status=status)

    def _tell(self) -> None:
        os.kill(self._process_id, _LISTENING)

    def _due(self) -> list[_Life]:
        """Only one until it has shown that it can start: all would fail with the same words."""
        lives = self._lives if self._can_start else self._lives[:1]
        now = time.monotonic()
        return [each for each in lives if each.process_id is None and each.due_at <= now]

    def _fork(self, life: _Life) -> bool:
        """Start a process; answer whether we are that one."""
        life.began_at = time.monotonic()
        try:
            process_id = os.fork()
        except OSError as error:
            if not self._can_start:
                raise Failure(f"no process can be started: {error}") from error
            self._note_end(life, error=str(error))
            return False
        if process_id:
            life.process_id = process_id
        return not process_id

    def _die_with_parent(self) -> None:
        """By the kernel, as a process that hangs would keep the port from those that follow."""
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._process_id:
            os.kill(os.getpid(), signal.SIGKILL)

    def _next_signal(self) -> int | None:
        """None if a process is due first."""
        empty = [each.due_at for each in self._lives if each.process_id is None]
        if not self._can_start or not empty:
            return signal.sigwaitinfo(_AWAITED).si_signo
        caught = signal.sigtimedwait(_AWAITED, max(min(empty) - time.monotonic(), 0))
        return caught.si_signo if caught else None

    def _collect(self) -> Iterator[tuple[_Life, int, int]]:
        """Empty the places of processes that have ended; process 1 is left those of others, too."""
        while True:
            try:
                process_id, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process_id:
                return
            for life in self._lives:
                if life.process_id == process_id:
                    life.process_id = None
                    yield life, process_id, os.waitstatus_to_exitcode(status)

    def _note_end(self, life: _Life, **reason: object) -> None:
        """Let another one be started: at once, unless those in this place keep ending early."""
        now = time.monotonic()
        lived = now - life.began_at
        life.short_lives = life.short_lives + 1 if lived < _SHORT_LIFE else 0
        wait = _wait(life.short_lives)
        life.due_at = now + wait
        logger.error(
            "process ended, another one is started",
            lived_seconds=round(lived, 1),
            in_seconds=wait,
            **reason,
        )

    def _end(self) -> int:
        """Let all of them end; whoever takes longer than any should is killed."""
        if self._have_ended(signal.SIGTERM, self._seconds):
            return 0 if self._can_start else _INTERRUPTED
        logger.error("processes did not end in time, and are killed", left=self._running())
        self._have_ended(signal.SIGKILL, _KILLING_SECONDS)
        return 1

    def _have_ended(self, number: signal.Signals, seconds: float) -> bool:
        """Send this signal to all; answer whether none is left after so many seconds."""
        deadline = time.monotonic() + seconds
        for process_id in self._running():
            os.kill(process_id, number)
        while self._running() and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({_ENDED}, left)
            for _, process_id, status in self._collect():
                if status and self._can_start:
                    logger.error("process ended badly", child=process_id, status=status)
        return not self._running()

    def _running(self) -> list[int]:
        return [each.process_id for each in self._lives if each.process_id is not None]


def _wait(short_lives: int) -> float:
    if short_lives < 2:
        return 0.0
    longer: float = min(_FIRST_WAIT * 2 ** min(short_lives - 2, 10), _LAST_WAIT)
    return longer


def _as_of_a_shell(status: int) -> int:
    """What a shell makes of a process that was killed by a signal."""
    return 128 - status if status < 0 else status
