"""The service as processes of their own, for tests that kill it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import requests

from dev.processes import steady_port
from service.settings import Settings

ROOT = Path(__file__).parents[1]


class Service:
    """A running `campaigns serve`, or another command that serves its health.

    `module` is started in place of the service, with more variables in its `environment`.
    """

    def __init__(
        self,
        settings: Settings,
        port: int,
        log: Path | None = None,
        command: str = "serve",
        module: str = "service",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        with nullcontext() if log is None else log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *command.split()],
                cwd=ROOT,
                env=os.environ
                | {name.upper(): str(value) for name, value in vars(settings).items()}
                | {"HTTP_PORT": str(port)}
                | dict(environment or {}),
                stderr=stderr,
            )
        self.process_id = self._process.pid

    def wait(self) -> None:
        """Return when it is ready."""
        until(lambda: self.readiness().get("status") == "ready", 20, self._explain)

    def wait_for_relay(self) -> None:
        """Return when it publishes."""
        until(
            lambda: self.readiness().get("relay", {}).get("state") == "publishing",
            20,
            self._explain,
        )

    def relay(self) -> dict[str, Any]:
        """What it says about its relay."""
        status: dict[str, Any] = self.readiness()["relay"]
        return status

    def readiness(self) -> dict[str, Any]:
        """What it says of itself; nothing if nobody listens, or answers in time."""
        try:
            body: dict[str, Any] = requests.get(f"{self.url}/readyz", timeout=5).json()
        except (requests.ConnectionError, requests.Timeout):
            return {}
        return body

    def _explain(self) -> str:
        return f"{self.url}/readyz answers {self.readiness()}"

    def create(
        self, api_key: str, body: dict[str, object], headers: dict[str, str] | None = None
    ) -> requests.Response:
        return requests.post(
            f"{self.url}/api/v1/campaigns",
            json=body,
            headers={"Authorization": f"Bearer {api_key}"} | (headers or {}),
            timeout=10,
        )

    def stop(self, seconds: float, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end; answer its exit status."""
        self._process.send_signal(number)
        return self._process.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, seconds: float) -> int:
        """Wait until it has ended; answer its exit status, or the signal that it was killed by."""
        return self._process.wait(seconds)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it do nothing meanwhile, as a machine that hangs."""
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without any chance to clean up."""
        self._process.kill()
        self._process.wait()


def peak_memory(process_id: int) -> int:
    """The most bytes that a process has had in memory so far."""
    status = Path(f"/proc/{process_id}/status").read_text()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


def until(happened: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} seconds: {explain()}")
        time.sleep(0.05)


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(
        settings: Settings,
        command: str = "serve",
        module: str = "service",
        environment: Mapping[str, str] | None = None,
        *,
        wait: bool = True,
    ) -> Service:
        port = steady_port(tmp_path / f"port-{len(started)}")
        service = Service(settings, port, None, command, module, environment)
        started.append(service)
        if wait:
            service.wait()
        return service

    yield start
    for service in started:
        service.kill()
