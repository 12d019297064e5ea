"""The programs under examples/, as processes of their own."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aio_pika
import pytest

from service import broker, topology
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, somebody_waits_for_a_lock
from tests.consumers import eventually
from tests.processes import ROOT
from tests.proxies import Proxy
from tests.test_create import EXAMPLE

EXAMPLES = ROOT / "examples"
PATH = "/api/v1/campaigns"
QUEUE = "campaign.schedule"


@pytest.fixture(scope="session")
def node_program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The program for Node, with the packages that its lock file names."""
    if missing := [name for name in ("node", "npm") if not shutil.which(name)]:
        lacking = f"{missing[0]} is not installed here, so consumer.mjs was not run"
        # Where a change is decided about, nothing that was not tried may pass for tried.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    place = tmp_path_factory.mktemp("examples") / "node"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=place, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return ["node", str(place / "consumer.mjs"), QUEUE]


@pytest.fixture(params=["consumer.py", "consumer.mjs"])
def program(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "consumer.py":
        return [sys.executable, str(EXAMPLES / "consumer.py"), "--queue", QUEUE]
    command: list[str] = request.getfixturevalue("node_program")
    return command


class Example:
    """A program that consumes."""

    def __init__(self, command: list[str], log: Path, amqp_url: str, database_url: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url},
                stderr=output,
            )

    @property
    def text(self) -> str:
        """All that it has said so far."""
        return self._log.read_text()

    async def says(self, text: str) -> None:
        """Return once it has said it."""

        def has_said() -> bool:
            assert self.process.poll() is None, self.text
            return text in self.text

        await eventually(has_said, 20, f"{text!r} from the program")

    async def stop(self) -> int:
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Awaitable[Example]]


@pytest.fixture
def start(
    program: list[str],
    bus: "Bus",  # noqa: ARG001 (makes the queues)
    settings: Settings,
    database_url: str,
    tmp_path: Path,
) -> Iterator[Start]:
    """Start the program; it consumes afterwards."""
    started: list[Example] = []

    async def start_one(
        *arguments: str, database_url: str = database_url, amqp_url: str = settings.amqp_url
    ) -> Example:
        log = tmp_path / f"{len(started)}.log"
        command = [*program, *arguments]
        started.append(Example(command, log, amqp_url, database_url))
        await started[-1].says(f"consuming {QUEUE}")
        return started[-1]

    yield start_one
    for example in started:
        example.kill()


class Bus:
    """The queue that the program consumes, and the dead letters, to look into and to fill."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self._channel = channel

    async def publish(self, body: bytes) -> None:
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._channel.default_exchange.publish(message, QUEUE, timeout=10)

    async def empty(self) -> None:
        for name in (QUEUE, topology.DEAD_LETTERS):
            await (await self._channel.get_queue(name)).purge()

    async def dead(self) -> list[bytes]:
        """Take what is among the dead letters by now."""
        queue = await self._channel.get_queue(topology.DEAD_LETTERS)
        bodies = []
        while message := await queue.get(no_ack=True, fail=False, timeout=10):
            bodies.append(message.body)
        return bodies


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    async with broker.publisher(settings), broker.connect(settings) as opened:
        bus = Bus(await opened.channel())
        await bus.empty()
        yield bus


def event(sequence: int, event_id: str | None = None, campaign: int = 7) -> bytes:
    """An event as the service makes them, as far as the program reads it."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id or str(uuid.uuid4()),
            "type": "campaign.created" if sequence == 1 else "campaign.updated",
            "source": f"/api/v1/campaigns/{campaign}",
            "sequence": f"{sequence:010}",
            "data": {
                "campaign": {
                    "id": campaign,
                    "name": f"name {sequence}",
                    "status": "draft",
                    "version": sequence,
                }
            },
        }
    ).encode()


async def projected(connection: Connection) -> dict[int, tuple[int, int]]:
    """The version of each campaign that the program knows, and how many events led there."""
    rows = await connection.fetch("SELECT * FROM campaign_schedule_inbox.campaigns")
    return {row["id"]: (row["version"], row["events"]) for row in rows}


async def comes_to(connection: Connection, expected: dict[int, tuple[int, int]]) -> None:
    async def has_come() -> bool:
        return await projected(connection) == expected

    await eventually(has_come, 20, f"the campaigns {expected}")


async def test_every_campaign_is_known_in_its_last_version(
    start: Start, client: Client, connection: Connection
) -> None:
    await start()
    numbers = [(await (await client.post(PATH, json=EXAMPLE)).json())["id"] for _ in range(4)]
    for number in numbers[1:]:
        for name in ("second", "third"):
            await client.patch(f"{PATH}/{number}", json={"name": name})
    await client.delete(f"{PATH}/{numbers[-1]}")
    await comes_to(connection, {numbers[0]: (1, 1)} | dict.fromkeys(numbers[1:3], (3, 3)))
    names = await connection.fetch("SELECT name FROM campaign_schedule_inbox.campaigns ORDER BY id")
    assert [row["name"] for row in names] == [EXAMPLE["name"], "third", "third"]


async def test_a_copy_does_nothing(start: Start, bus: Bus, connection: Connection) -> None:
    example = await start()
    first, second = event(1), event(2)
    for body in (first, first, second, first, second, event(3)):
        await bus.publish(body)
    await comes_to(connection, {7: (3, 3)})
    await example.says("7 2 had come before")


async def test_a_gap_waits_for_what_is_missing_and_keeps_no_other_campaign_waiting(
    start: Start, bus: Bus, connection: Connection
) -> None:
    example = await start()
    early = event(3)
    for body in (event(1), early, early, event(4), event(1, campaign=8)):
        await bus.publish(body)
    await comes_to(connection, {7: (1, 1), 8: (1, 1)})
    await example.says("7 4 waits for 2")
    await bus.publish(event(2))
    await comes_to(connection, {7: (4, 4), 8: (1, 1)})
    assert not await bus.dead()


UNREADABLE = [
    b"no JSON",
    b"[]",
    b'"\xff"',
    *(
        json.dumps(json.loads(event(1)) | change).encode()
        for change in (
            {"specversion": "2.0"},
            {"id": None},
            {"type": 3},
            {"source": ""},
            {"sequence": 1},
            {"sequence": "one"},
            {"sequence": "0000000000"},
            {"data": {"campaign": {"id": 7}}},
            {"data": {"campaign": {"id": True, "name": "n", "status": "draft", "version": 1}}},
            # PostgreSQL cannot store it.
            {"data": {"campaign": {"id": 7, "name": "\0", "status": "draft", "version": 1}}},
        )
    ),
]


async def test_an_event_that_nobody_can_read_is_a_dead_letter_and_the_next_one_is_handled(
    start: Start, bus: Bus, connection: Connection
) -> None:
    await start()
    for body in (*UNREADABLE, event(1)):
        await bus.publish(body)
    await comes_to(connection, {7: (1, 1)})
    dead: list[bytes] = []

    async def all_are_dead() -> bool:
        dead.extend(await bus.dead())
        return len(dead) >= len(UNREADABLE)

    await eventually(all_are_dead, 10, "the dead letters")
    assert sorted(dead) == sorted(UNREADABLE)


async def held_at_the_commit(connection: Connection, bus: Bus) -> None:
    """Let an event be applied, as far as its commit, which waits for a lock of this connection."""
    await connection.execute(
        """
        CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON campaign_schedule_inbox.campaigns
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
        SELECT pg_advisory_lock(1);
        """
    )
    await bus.publish(event(1))
    await bus.publish(event(2))
    await eventually(lambda: somebody_waits_for_a_lock(connection), 20, "the commit")


async def test_a_program_that_is_killed_between_commit_and_acknowledgement_does_nothing_twice(
    start: Start,
    bus: Bus,
    connection: Connection,
    database_url: str,
    start_proxy: Callable[[str], Awaitable[Proxy]],
) -> None:
    proxy = await start_proxy(database_url)
    killed = await start(database_url=proxy.url)
    await held_at_the_commit(connection, bus)
    proxy.passing.clear()
    await connection.execute("SELECT pg_advisory_unlock(1)")
    await comes_to(connection, {7: (1, 1)})
    killed.kill()
    again = await start()
    await comes_to(connection, {7: (2, 2)})
    await again.says("7 1 had come before")


async def test_a_program_that_is_killed_before_the_commit_loses_nothing(
    start: Start, bus: Bus, connection: Connection
) -> None:
    killed = await start()
    await held_at_the_commit(connection, bus)
    killed.kill()
    await connection.execute(
        """
        SELECT pg_terminate_backend(pid)
        FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
        """
    )
    await connection.execute("SELECT pg_advisory_unlock(1)")
    assert await projected(connection) == {}
    await start()
    await comes_to(connection, {7: (2, 2)})


async def test_a_program_that_is_told_to_stop_finishes_what_it_has_in_hand(
    start: Start, bus: Bus, connection: Connection
) -> None:
    example = await start()
    await held_at_the_commit(connection, bus)
    stopping = asyncio.create_task(example.stop())
    with suppress(TimeoutError):
        # It has the time to end without what it has in hand, if it would.
        await asyncio.wait_for(asyncio.shield(stopping), 0.5)
    assert not stopping.done()
    await connection.execute("SELECT pg_advisory_unlock(1)")
    assert await stopping == 0
    assert await projected(connection) == {7: (1, 1)}
    again = await start()
    await comes_to(connection, {7: (2, 2)})
    assert await again.stop() == 0


async def test_two_programs_on_one_queue_keep_the_order(
    start: Start, bus: Bus, connection: Connection
) -> None:
    await start()
    await start()
    for sequence in range(1, 51):
        await bus.publish(event(sequence))
    await comes_to(connection, {7: (50, 50)})
    assert not await bus.dead()


@pytest.mark.parametrize("program", ["consumer.py"], indirect=True)
async def test_an_event_outlasts_a_database_that_is_away_and_is_not_counted_as_given_back(
    start: Start,
    bus: Bus,
    connection: Connection,
    database_url: str,
    start_proxy: Callable[[str], Awaitable[Proxy]],
) -> None:
    proxy = await start_proxy(database_url)
    example = await start(database_url=proxy.url)
    proxy.cutting = True
    await bus.publish(event(1))
    await example.says("no database, trying again")
    proxy.cutting = False
    await comes_to(connection, {7: (1, 1)})
    await bus.publish(event(2))
    await comes_to(connection, {7: (2, 2)})
    assert await example.stop() == 0
    assert example.text.count("consuming") == 1


@pytest.mark.parametrize("program", ["consumer.mjs"], indirect=True)
async def test_the_short_program_ends_without_its_database_and_loses_nothing(
    start: Start,
    bus: Bus,
    connection: Connection,
    database_url: str,
    start_proxy: Callable[[str], Awaitable[Proxy]],
) -> None:
    proxy = await start_proxy(database_url)
    example = await start(database_url=proxy.url)
    proxy.cutting = True
    await bus.publish(event(1))
    assert await asyncio.to_thread(example.process.wait, 20) == 1
    await start()
    await comes_to(connection, {7: (1, 1)})


@pytest.mark.parametrize("program", ["consumer.py"], indirect=True)
async def test_a_program_that_starts_midway_takes_the_first_that_comes_for_the_first(
    start: Start, bus: Bus, connection: Connection
) -> None:
    strict = await start()
    await bus.publish(event(5))
    await strict.says("7 5 waits for 1")
    assert await strict.stop() == 0
    await start("--start-midway")
    await bus.publish(event(6))
    await comes_to(connection, {7: (6, 2)})


@pytest.mark.parametrize("program", ["consumer.py"], indirect=True)
async def test_a_program_that_loses_its_broker_connects_again_and_loses_nothing(
    start: Start,
    bus: Bus,
    connection: Connection,
    settings: Settings,
    start_proxy: Callable[[str], Awaitable[Proxy]],
) -> None:
    proxy = await start_proxy(settings.amqp_url)
    example = await start(amqp_url=proxy.url)
    proxy.cutting = True
    await bus.publish(event(1))
    await example.says("no broker, trying again")
    proxy.cutting = False
    await comes_to(connection, {7: (1, 1)})
