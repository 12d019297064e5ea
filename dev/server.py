"""`./run`: the stack and the service in the foreground, until Ctrl-C."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from dev.addresses import DEFAULT_STATE, Addresses
from dev.console import Failure, say
from dev.folders import write_private
from dev.postgres import Postgres
from dev.processes import Child
from dev.rabbitmq import RabbitMQ
from dev.stack import Stack
from service import keys

# The organization that the development key belongs to.
_ORGANIZATION = "1"

# The command line of the service; a folder of the caller's does not shadow its modules.
SERVICE = [sys.executable, "-P", "-m", "service"]


def state_folder(environment: Mapping[str, str]) -> Path:
    """STATE_DIR as the caller means it, `.state` of the checkout without it."""
    return Path(environment.get("STATE_DIR") or DEFAULT_STATE).absolute()


def serve(environment: Mapping[str, str]) -> None:
    """Start everything, announce it, and stop it in order when told to.

    Raises:
        Failure: something is missing or ends unexpectedly.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup ./run` outlives its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        _Server(environment).run()
    except KeyboardInterrupt:
        say("stopped")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Server:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._state = state_folder(environment)
        self._env_file = self._state / "env"
        self._host = environment.get("HTTP_HOST") or "127.0.0.1"
        self._port = environment.get("HTTP_PORT") or "8080"

    def run(self) -> None:
        with Stack(self._state, self._environment) as stack:
            _check_port(self._host, self._port)
            stack.start()
            stack.wait_for(Postgres)
            self._prepare(stack)
            stack.wait_for(RabbitMQ)
            with self._service() as service:
                self._announce(stack, service)
                while True:
                    service.check()
                    stack.check()
                    time.sleep(0.25)

    @contextmanager
    def _service(self) -> Iterator[Child]:
        service = Child(
            "the service",
            [*SERVICE, "serve"],
            environment=self._service_environment,
            folder=Path.cwd(),
            ends_by=signal.SIGTERM,
        )
        try:
            yield service
        finally:
            say("stopping")
            self._env_file.unlink(missing_ok=True)
            service.stop()

    def _announce(self, stack: Stack, service: Child) -> None:
        # What an earlier run left behind when it was killed leads nowhere.
        self._env_file.unlink(missing_ok=True)
        service.wait_until(self._is_ready, seconds=30)
        addresses = Addresses(self._url, self._key, stack.database_url, stack.amqp_url)
        write_private(self._env_file, addresses.assignments())
        say("the service is ready, and has declared its exchange and queues")
        print(addresses.banner(self._state), flush=True)

    def _prepare(self, stack: Stack) -> None:
        self._owner_environment = {
            **self._environment,
            "HTTP_HOST": self._host,
            "HTTP_PORT": self._port,
            "DATABASE_URL": stack.database_url,
            "AMQP_URL": stack.amqp_url,
        }
        self._campaigns("migrate")
        say("schema.sql is applied")
        self._key = _development_key(self._environment.get("API_KEY"), self._state / "api-key")
        options = ["--organization", _ORGANIZATION, "--name", "development", "--from-stdin"]
        self._campaigns("keys", "create", *options, text=self._key)
        self._service_environment = self._owner_environment | stack.logins()

    def _campaigns(self, *arguments: str, text: str = "") -> None:
        done = subprocess.run(
            [*SERVICE, *arguments],
            input=text,
            env=self._owner_environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failure(done.stderr.strip().removeprefix("campaigns: "))

    @property
    def _url(self) -> str:
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        host = anywhere.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    def _is_ready(self) -> bool:
        status = _readiness(self._url)
        relay = status.get("relay", {})
        if self._environment.get("AMQP_URL") and relay.get("last_error"):
            raise Failure(f"RabbitMQ cannot be used, check AMQP_URL: {relay['last_error']}")
        return status.get("status") == "ready" and relay.get("state") == "publishing"


def _development_key(given: str | None, file: Path) -> str:
    """The key that is given, or kept; a kept one of an older form is replaced."""
    if given:
        if not keys.is_key(given):
            raise Failure("API_KEY is no key: leave it out, or take one that was made by ./run")
        return given
    if not file.exists() or not keys.is_key(file.read_text()):
        write_private(file, keys.generate())
    return file.read_text()


def _check_port(host: str, port: str) -> None:
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise Failure(f"HTTP_PORT is {port!r}: give a number from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, int(port)))
        except OSError as error:
            raise Failure(
                f"cannot listen on {host} port {port} ({error.strerror}): stop what uses it, "
                f"or choose another, as in HTTP_PORT={int(port) % 65535 + 1} ./run"
            ) from error


def _readiness(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
            return body
    except (OSError, ValueError):
        return {}
