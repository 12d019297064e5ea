"""Child processes that never outlive us, however we end."""

import ctypes
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dev.console import Failure

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class User:
    """Whom a child runs as."""

    name: str
    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether this folder, and every one on the way to it, lets the user pass."""
        done = subprocess.run(
            ["/usr/bin/test", "-x", path], user=self.uid, group=self.gid, extra_groups=[]
        )
        return done.returncode == 0


def unprivileged_user() -> User | None:
    """The user for servers that refuse root; None if we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise Failure("PostgreSQL refuses root, and this machine has no user 'nobody': run as another")


def die_with_us(number: signal.Signals) -> Callable[[], None]:
    """What a child runs before anything else, to be sent this signal when its parent ends."""
    parent = os.getpid()

    def ask_the_kernel() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return ask_the_kernel


class Child:
    """A process in a session of its own, so that Ctrl-C reaches it only through us.

    Must be started from the main thread: the kernel ends the child when the starting thread ends.
    One that `boots_deaf` may lose a signal while it starts: it is asked again and again, and when
    nobody is left to ask, the kernel kills it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        folder: Path,
        ends_by: signal.Signals,
        boots_deaf: bool = False,
        log: Path | None = None,
        user: User | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._ends_by = ends_by
        self._boots_deaf = boots_deaf
        self._log = log
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None
        try:
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_us(signal.SIGKILL if boots_deaf else ends_by),
                pass_fds=keep_open,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        finally:
            if output is not None:
                os.close(output)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Poll until the child is ready.

        Raises:
            Failure: it ended, or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} was not ready in {seconds:.0f} seconds{self._tail()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Look whether the child still runs.

        Raises:
            Failure: it has ended; with the end of its log.
        """
        if self.process.poll() is not None:
            status = self.process.returncode
            raise Failure(f"{self.name} has ended with status {status}{self._tail()}")

    def stop(self, seconds: float = 20) -> None:
        """Ask the child to end; after `seconds` it is killed."""
        deadline = time.monotonic() + seconds
        self.process.send_signal(self._ends_by)
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            if self._boots_deaf:
                self.process.send_signal(self._ends_by)

    def kill(self) -> None:
        """End the child as a crash would."""
        self.process.kill()
        self.process.wait()

    def _tail(self) -> str:
        if self._log is None:
            return ""
        lines = self._log.read_text(errors="replace").strip().splitlines()[-12:]
        return f"; the end of {self._log}:\n" + "\n".join(lines)


# Below the ports that Linux gives to outgoing connections (32768 and up): one of those, free when
# we look, may be some connection's own by the time the server listens.
_PORTS = range(20_000, 32_000)


def steady_port(file: Path) -> int:
    """The port noted in `file` if it is free, else a new one of the loopback address, noted there.

    Consumers and consoles that know the address find the server again after a restart.
    """
    for port in [*_noted(file), *random.sample(_PORTS, 100)]:
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            file.write_text(f"{port}\n")
            return port
    raise Failure("this machine has no free port on its loopback address")


def _noted(file: Path) -> list[int]:
    """None if the file is new, or was cut off by a crash."""
    text = file.read_text().strip() if file.exists() else ""
    return [int(text)] if text.isdigit() and int(text) in _PORTS else []
