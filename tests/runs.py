"""`./run` in the background, for tests that use, stop and kill it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from dev.addresses import EXAMPLE
from dev.environment import ROOT
from dev.processes import steady_port
from tests.processes import until


class Run:
    """A `./run` in the background."""

    def __init__(self, state: Path, port: int, **environment: str) -> None:
        self.state = state
        state.parent.mkdir(parents=True, exist_ok=True)
        self.log = state.with_name(state.name + ".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [ROOT / "run"],
                cwd="/",
                env={
                    **os.environ,
                    "STATE_DIR": str(state),
                    "HTTP_PORT": str(port),
                    **environment,
                },
                stdout=log,
                stderr=log,
            )

    @property
    def env(self) -> dict[str, str]:
        """What a shell knows after reading STATE_DIR/env."""
        script = '. "$0" && printf "%s\\n" "$URL" "$API_KEY" "$DATABASE_URL" "$AMQP_URL"'
        done = subprocess.run(
            ["sh", "-c", script, self.state / "env"], capture_output=True, text=True, check=True
        )
        names = ["URL", "API_KEY", "DATABASE_URL", "AMQP_URL"]
        return dict(zip(names, done.stdout.splitlines(), strict=True))

    def wait(self) -> None:
        until((self.state / "env").exists, 90, lambda: self.log.read_text())

    def create(self, api_key: str | None = None) -> requests.Response:
        env = self.env
        return requests.post(
            f"{env['URL']}/api/v1/campaigns",
            data=EXAMPLE.read_bytes(),
            headers={
                "Authorization": f"Bearer {api_key or env['API_KEY']}",
                "Content-Type": "application/json",
            },
            timeout=10,
        )

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def boots_broker(self) -> bool:
        """Whether the shell script of RabbitMQ has become the Erlang machine."""
        with suppress(psutil.NoSuchProcess):
            return any(child.name() == "beam.smp" for child in self.children())
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may pass through, unlike those of pytest."""
    made = Path(tempfile.mkdtemp(prefix="campaigns-run-"))
    made.chmod(0o711)
    yield made

    def is_removed() -> bool:
        shutil.rmtree(made, ignore_errors=True)
        return not made.exists()

    # Children of a server that was killed may still write for a moment.
    until(is_removed, 20, lambda: str(list(made.rglob("*"))[:9]))


@pytest.fixture
def start_run(folder: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def start(name: str = "state", **environment: str) -> Run:
        run = Run(folder / name, steady_port(folder / f"port-{len(started)}"), **environment)
        started.append(run)
        return run

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            run.process.wait(30)
