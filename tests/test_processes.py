"""Several processes on one port: they share the load, replace each other, and end together."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from dev.processes import steady_port
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, waiting_for_locks
from tests.consumers import eventually, outbox_is_empty
from tests.processes import ROOT, Service, until
from tests.test_commands import campaigns
from tests.test_create import EXAMPLE

PATH = "/api/v1/campaigns"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Several:
    """A `campaigns serve` of several processes."""

    def __init__(self, settings: Settings, folder: Path, command: str) -> None:
        self._log = folder / "log"
        port = steady_port(folder / "port")
        self.service = Service(
            settings, port, self._log, command, environment={"LOG_FORMAT": "json"}
        )
        self.address = ("127.0.0.1", port)
        self._parent = psutil.Process(self.service.process_id)
        self._processes = settings.processes

    def wait(self) -> None:
        """Return when all of them serve."""
        self.service.wait()
        until(self.are_complete, 20, self._log.read_text)

    def are_complete(self) -> bool:
        listening = {entry["process_id"] for entry in self.logged("listening")}
        return len({child.pid for child in self.children()} & listening) == self._processes

    def is_replaced(self, process: psutil.Process) -> bool:
        return process not in self.children() and self.are_complete()

    def children(self) -> list[psutil.Process]:
        return sorted(self._parent.children(), key=lambda child: child.pid)

    def logged(self, event: str | None = None) -> list[dict[str, Any]]:
        """What they have logged, this or all of it."""
        lines = self._log.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.startswith("{") and line[-1] == "\n"]
        return [entry for entry in entries if event in (None, entry["event"])]

    def connections(self) -> dict[int, int]:
        """How many connections of callers each of them has."""
        return {
            child.pid: sum(
                connection.laddr[1:] == self.address[1:] and connection.status == "ESTABLISHED"
                for connection in child.net_connections("tcp")
            )
            for child in self.children()
        }

    def connect(self, opened: ExitStack) -> None:
        """Open a connection, and see that somebody answers."""
        connection = opened.enter_context(socket.create_connection(self.address, timeout=10))
        connection.sendall(HEALTHZ)
        assert connection.recv(12) == b"HTTP/1.1 200"

    def gone(self) -> bool:
        """Whether nobody is left at the address."""
        with suppress(ConnectionRefusedError), socket.create_connection(self.address, timeout=10):
            return False
        return True


StartSeveral = Callable[..., Several]


@pytest.fixture
def start_several(tmp_path: Path, settings: Settings) -> Iterator[StartSeveral]:
    """Starts two processes, or as many as the changed settings say."""
    with ExitStack() as stack:

        def start(command: str = "serve", **changes: Any) -> Several:
            several = Several(replace(settings, **{"processes": 2} | changes), tmp_path, command)
            stack.callback(several.service.kill)
            several.wait()
            return several

        yield start


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Connections to be closed at the end."""
    with ExitStack() as stack:
        yield stack


class Creating:
    """A caller who creates campaigns all the while, and goes on when a connection is cut."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url + PATH
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self.ids: list[int] = []
        self.cut = 0

    async def run(self) -> None:
        async with aiohttp.ClientSession(headers=self._headers) as session:
            while True:
                try:
                    async with session.post(self._url, json=EXAMPLE) as answer:
                        assert answer.status == 201
                        self.ids.append((await answer.json())["id"])
                except aiohttp.ClientConnectionError:
                    self.cut += 1

    async def goes_on(self) -> None:
        """Return when some more were created."""
        enough = len(self.ids) + 20
        await eventually(lambda: len(self.ids) >= enough, 30, "creates")


@asynccontextmanager
async def creating(several: Several, api_key: str, callers: int = 8) -> AsyncIterator[Creating]:
    caller = Creating(several.service.url, api_key)
    tasks = [asyncio.create_task(caller.run()) for _ in range(callers)]
    try:
        await caller.goes_on()
        yield caller
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=10)


async def test_each_process_serves_and_its_lines_have_its_id(
    start_several: StartSeveral, api_key: str, connection: Connection
) -> None:
    several = await asyncio.to_thread(start_several)
    children = {child.pid for child in several.children()}
    async with creating(several, api_key):

        def have_all_answered() -> bool:
            return {entry["process_id"] for entry in several.logged("request")} == children

        await eventually(have_all_answered, 20, "answers of both")
    await outbox_is_empty(connection)


def test_a_crowd_is_divided(start_several: StartSeveral, opened: ExitStack) -> None:
    several = start_several("serve --no-relay", amqp_url=NOWHERE)
    for _ in range(128):
        several.connect(opened)
    fewest, most = sorted(several.connections().values())
    assert fewest + most == 128
    # The kernel throws a coin for each: fewer heads than this come once in a hundred million times.
    assert fewest >= 32


async def test_one_that_is_killed_is_replaced_and_no_campaign_is_lost(
    start_several: StartSeveral, api_key: str, connection: Connection
) -> None:
    several = await asyncio.to_thread(start_several)
    async with creating(several, api_key) as caller:
        victim = several.children()[0]
        its_connections = several.connections()[victim.pid]
        victim.kill()
        await eventually(lambda: several.is_replaced(victim), 10, "another process")
        await caller.goes_on()
    stored = {row["id"] for row in await connection.fetch("SELECT id FROM campaigns")}
    await outbox_is_empty(connection)
    assert stored >= set(caller.ids)
    # Some twice, as the kernel gives connections to a process until it is gone altogether.
    assert caller.cut >= its_connections
    [entry] = several.logged("process ended, another one is started")
    assert (entry["child"], entry["status"]) == (victim.pid, -signal.SIGKILL)
    assert entry["in_seconds"] == 0


def test_those_that_keep_ending_at_once_are_replaced_ever_more_slowly(
    start_several: StartSeveral,
) -> None:
    several = start_several("serve --no-relay", amqp_url=NOWHERE)
    kept = several.children()[0]
    for _ in range(3):
        [other] = [child for child in several.children() if child != kept]
        other.kill()
        until(partial(several.is_replaced, other), 10, lambda: str(several.logged()))
    ends = several.logged("process ended, another one is started")
    assert [entry["in_seconds"] for entry in ends] == [0.0, 0.5, 1.0]
    assert kept.is_running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_of_them_end_together_after_the_requests_that_are_under_way(
    start_several: StartSeveral, api_key: str, connection: Connection, number: signal.Signals
) -> None:
    several = await asyncio.to_thread(
        start_several, shutdown_seconds=20, database_timeout_seconds=20
    )
    children = several.children()
    headers = {"Authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def create() -> int:
            async with session.post(several.service.url + PATH, json=EXAMPLE) as answer:
                return answer.status

        async with connection.transaction():
            # Whoever writes waits.
            await connection.execute("LOCK TABLE outbox IN SHARE MODE")
            creates = [asyncio.create_task(create()) for _ in range(6)]

            async def do_wait() -> bool:
                # All that a process has may share one statement, and one may have all of them.
                of_each = [number for number in several.connections().values() if number]
                waiting = await waiting_for_locks(connection)
                return sum(of_each) == len(creates) and waiting >= len(of_each)

            await eventually(do_wait, 20, "creates that are under way")
            several.service.send(number)
            await eventually(several.gone, 10, "nobody listens any more")
        assert await asyncio.gather(*creates) == [201] * 6
    assert await asyncio.to_thread(several.service.end, 25) == 0
    assert not any(child.is_running() for child in children)


def test_one_that_hangs_at_the_end_is_killed(start_several: StartSeveral) -> None:
    several = start_several("serve --no-relay", amqp_url=NOWHERE, shutdown_seconds=2)
    children = several.children()
    children[0].suspend()
    began = time.monotonic()
    assert several.service.stop(20) == 1
    assert time.monotonic() - began > 3.5
    assert several.gone()
    assert not psutil.wait_procs(children, timeout=2)[1]
    [entry] = several.logged("processes did not end in time, and are killed")
    assert children[0].pid in entry["left"]


def test_none_outlives_the_first_one_even_if_it_hangs(start_several: StartSeveral) -> None:
    several = start_several("serve --no-relay", amqp_url=NOWHERE)
    children = several.children()
    children[0].suspend()
    several.service.kill()
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert several.gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_told_to_end_is_replaced(
    start_several: StartSeveral, number: signal.Signals
) -> None:
    several = start_several("serve --no-relay", amqp_url=NOWHERE)
    told = several.children()[0]
    told.send_signal(number)
    until(lambda: several.is_replaced(told), 10, lambda: str(told))
    [entry] = several.logged("process ended, another one is started")
    assert entry["status"] == 0


@pytest.mark.parametrize(
    "environment",
    [
        {"HTTP_HOST": "192.0.2.1"},
        {"HTTP_PORT": "taken"},
        {"HTTP_PORT": "many"},
        {"HTTP_CONNECTIONS": "100000", "DATABASE_POOL_SIZE": "1000"},
    ],
    ids=["no address of ours", "a port that is taken", "a wrong setting", "too few files"],
)
def test_what_stops_one_process_stops_several_with_the_same_words(
    environment: dict[str, str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = {name: value.replace("taken", port) for name, value in environment.items()}
        one, several = (run_limited({"PROCESSES": count} | environment) for count in ("1", "4"))
    words = one.stderr.splitlines()[-1]
    assert words.startswith("campaigns: ")
    assert words == several.stderr.splitlines()[-1]
    assert one.returncode == several.returncode == 2
    assert several.stderr.count("campaigns: ") == 1


def run_limited(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", 'ulimit -n 5000; exec "$0" -m service serve', sys.executable],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_stops_a_process_is_written_at_once_lest_lines_of_others_come_in_between() -> None:
    # Such a pipe keeps what is written apart: pipe(2).
    reading, writing = os.pipe2(os.O_DIRECT)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        subprocess.run(
            [sys.executable, "-u", "-m", "service", "serve"],
            cwd=ROOT,
            env=os.environ | {"HTTP_PORT": "many"},
            stderr=writing,
            timeout=60,
        )
        os.close(writing)
        assert re.fullmatch(rb"campaigns: .+\n", pipe.read(4096))
        assert not pipe.read(4096)


def test_a_process_tells_of_its_start_itself_and_first(start_several: StartSeveral) -> None:
    several = start_several("serve --no-relay", amqp_url=NOWHERE)
    for child in several.children():
        first = next(entry for entry in several.logged() if entry["process_id"] == child.pid)
        assert first["event"] == "process started"


# Somebody else has begun to listen since the address was taken.
TOO_LATE = """
import sys
from aiohttp import web
from service import __main__

async def start(site):
    raise OSError(98, "Address already in use")

web.TCPSite.start = start
sys.exit(__main__.main(["serve"]))
"""


def test_if_the_first_cannot_start_no_other_is_started(tmp_path: Path) -> None:
    port = str(steady_port(tmp_path / "port"))
    done = subprocess.run(
        [sys.executable, "-c", TOO_LATE],
        cwd=ROOT,
        env=os.environ | {"PROCESSES": "4", "HTTP_PORT": port, "AMQP_URL": NOWHERE},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"campaigns: cannot listen on 127.0.0.1:{port}, set HTTP_HOST or HTTP")
    assert done.stderr.count("process started") == 1


@pytest.mark.parametrize("processes", ["0", "65", "2.5"])
def test_there_are_1_to_64_processes(processes: str) -> None:
    done = campaigns("serve", environment={"PROCESSES": processes})
    assert (done.returncode, done.stderr.count("campaigns: ")) == (2, 1)
    assert "processes: " in done.stderr
