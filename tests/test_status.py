"""`campaigns events status`: what it tells, and when it says that something is wrong."""

import asyncio
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from yarl import URL

from dev.rabbitmq import RabbitMQ
from service import broker, sources, topology
from service.app import create_app
from service.postgres import Connection
from service.relay import RELAY
from service.settings import Settings
from tests.conftest import NOWHERE, Client, Start, insert_event
from tests.consumers import eventually
from tests.parking import park
from tests.proxies import Proxy
from tests.test_commands import campaigns
from tests.test_create import EXAMPLE

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"


def address(client: Client) -> str:
    return str(client.make_url("/")).rstrip("/")


async def status(
    owner: Settings, url: str, environment: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """The exit status, and what it prints for scripts."""
    done = await asyncio.to_thread(
        campaigns,
        "events", "status", "--json", "--url", url,
        settings=owner, environment=environment,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
async def publishing(client: Client) -> Client:
    """A service whose relay is at work."""

    async def publishes() -> bool:
        body = await (await client.get("/readyz")).json()
        return bool(body["relay"]["state"] == "publishing")

    await eventually(publishes, 20, "a relay that publishes")
    return client


@pytest.fixture
async def api(settings: Settings, aiohttp_client: Start) -> Client:
    """A service without a relay, so that events stay as a test stores them."""
    return await aiohttp_client(create_app(settings, with_relay=False))


@pytest.fixture
def bare_broker(worker: str) -> Iterator[str]:
    """A virtual host in which there is nothing."""
    rabbitmq = RabbitMQ(Path(os.environ["TEST_STATE"]))
    name = f"{worker}-{secrets.token_hex(4)}"
    rabbitmq.control("add_vhost", name)
    rabbitmq.control("set_permissions", "--vhost", name, "campaigns", ".*", ".*", ".*")
    yield rabbitmq.url + name
    rabbitmq.control("delete_vhost", name)


@pytest.fixture
async def channel(bare_broker: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(bare_broker, timeout=10) as connection:
        yield await connection.channel()


@pytest.fixture
def silent() -> Iterator[str]:
    """Where connections are accepted, and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def test_all_is_well_with_an_empty_outbox_queues_and_a_relay(
    owner: Settings, publishing: Client
) -> None:
    code, told = await status(owner, address(publishing))
    assert (code, told["healthy"], told["problems"]) == (0, True, [])
    assert told["outbox"]["waiting"]["total"] == 0
    assert told["outbox"]["waiting"]["oldest_seconds"] is None
    assert told["process"]["readiness"]["relay"]["state"] == "publishing"


@pytest.mark.usefixtures("publisher")
async def test_every_event_is_counted_by_what_it_waits_for(
    owner: Settings, connection: Connection, api: Client
) -> None:
    for campaign_id, events in {1: 2, 2: 3, 3: 4}.items():
        for sequence in range(1, events + 1):
            await insert_event(connection, campaign_id, sequence)
    await connection.execute(
        "UPDATE outbox SET next_attempt_at = now() + interval '1 hour', attempts = 1"
        " WHERE campaign_id = 2 AND sequence = 1"
    )
    await park(connection, 3, 1, "too large")
    # The same campaign of another organization waits for nobody.
    await insert_event(connection, 3, 9, organization_id=2)
    _, told = await status(owner, address(api))
    assert told["outbox"]["waiting"] | {"oldest_seconds": 0} == {
        "total": 10,
        "due": 3,
        "postponed": 1,
        "behind_postponed": 2,
        "parked": 1,
        "behind_parked": 3,
        "oldest_seconds": 0,
    }


@pytest.mark.usefixtures("publisher")
async def test_a_parked_event_is_wrong_and_its_reason_is_told(
    owner: Settings, connection: Connection, api: Client
) -> None:
    for campaign_id in (1, 2, 3):
        await insert_event(connection, campaign_id, 1)
        await park(connection, campaign_id, 1, "too large" if campaign_id < 3 else "no type")
    await insert_event(connection, 4, 1)
    await connection.execute(
        "UPDATE outbox SET next_attempt_at = now() + interval '1 hour', last_error = 'full'"
        " WHERE campaign_id = 4"
    )
    code, told = await status(owner, address(api))
    assert (code, told["healthy"]) == (1, False)
    assert told["problems"] == ["3 events are parked: see 'campaigns events parked list'"]
    assert told["outbox"]["reasons"] == [
        {"parked": True, "reason": "too large", "events": 2},
        {"parked": False, "reason": "full", "events": 1},
        {"parked": True, "reason": "no type", "events": 1},
    ]


@pytest.mark.usefixtures("publisher")
@pytest.mark.parametrize(("minutes", "code"), [(2, 1), (0.5, 0)])
async def test_an_event_that_waits_for_more_than_a_minute_is_wrong(
    owner: Settings, connection: Connection, api: Client, minutes: float, code: int
) -> None:
    await insert_event(connection, 1, 1)
    await connection.execute(
        "UPDATE outbox SET next_attempt_at = now() - make_interval(secs => $1)", minutes * 60
    )
    answer, told = await status(owner, address(api))
    age = told["outbox"]["waiting"]["oldest_seconds"]
    assert minutes * 60 < age < minutes * 60 + 20
    assert answer == code
    assert told["problems"] == [f"the oldest event has waited for {age:.0f} seconds"] * code


@pytest.mark.usefixtures("publisher")
async def test_an_event_of_the_past_that_was_republished_now_is_not_wrong(
    owner: Settings, connection: Connection, api: Client
) -> None:
    await insert_event(connection, 1, 1)
    await connection.execute("UPDATE outbox SET created_at = now() - interval '7 days'")
    assert (await status(owner, address(api)))[0] == 0


@pytest.mark.usefixtures("publisher")
async def test_an_event_that_is_refused_again_and_again_grows_older(
    owner: Settings, connection: Connection, api: Client
) -> None:
    await insert_event(connection, 1, 1)
    await connection.execute(
        "UPDATE outbox SET created_at = now() - interval '1 hour', attempts = 60,"
        " next_attempt_at = now() + interval '1 minute'"
    )
    _, told = await status(owner, address(api))
    assert told["outbox"]["waiting"]["oldest_seconds"] > 3600


async def test_the_rate_is_that_of_the_events_that_come_and_leave_meanwhile(
    owner: Settings, publishing: Client
) -> None:
    async def go_on() -> None:
        while True:
            await publishing.post("/api/v1/campaigns", json=EXAMPLE)

    creating = asyncio.create_task(go_on())
    try:
        rate = (await status(owner, address(publishing)))[1]["outbox"]["rate"]
    finally:
        creating.cancel()
        with suppress(asyncio.CancelledError):
            await creating
    assert rate["entered"] > 0
    assert rate["gone"] > 0
    assert rate["interval_seconds"] >= 2


async def test_queues_are_told_with_their_messages_and_consumers(
    owner: Settings, api: Client, bare_broker: str, channel: AbstractChannel
) -> None:
    for name in (*topology.QUEUES, topology.DEAD_LETTERS):
        await channel.declare_queue(name)
    for _ in range(2):
        message = aio_pika.Message(b"{}")
        await channel.default_exchange.publish(message, "campaign.dead")

    async def take(_: AbstractIncomingMessage) -> None:
        pass

    await (await channel.get_queue("campaign.start")).consume(take)
    code, told = await status(replace(owner, amqp_url=bare_broker), address(api))
    assert code == 0
    assert told["queues"] == [
        {"name": "campaign.import", "ready": 0, "consumers": 0, "problem": None},
        {"name": "campaign.schedule", "ready": 0, "consumers": 0, "problem": None},
        {"name": "campaign.start", "ready": 0, "consumers": 1, "problem": None},
        {"name": "campaign.dead", "ready": 2, "consumers": 0, "problem": None},
    ]


async def test_each_missing_queue_is_wrong_and_hides_no_other(
    owner: Settings, api: Client, bare_broker: str, channel: AbstractChannel
) -> None:
    for name in ("campaign.schedule", "campaign.dead"):
        await channel.declare_queue(name)
    code, told = await status(replace(owner, amqp_url=bare_broker), address(api))
    assert code == 1
    assert told["problems"] == [
        "the queue campaign.import does not exist",
        "the queue campaign.start does not exist",
    ]
    assert [queue["ready"] for queue in told["queues"]] == [None, 0, None, 0]


@pytest.mark.usefixtures("publisher")
async def test_without_the_database_the_others_are_told(owner: Settings, api: Client) -> None:
    code, told = await status(replace(owner, database_url=NO_DATABASE), address(api))
    assert code == 1
    assert told["outbox"]["away"].startswith("PostgreSQL cannot be used, check DATABASE_URL: ")
    assert told["problems"] == ["the database cannot be asked"]
    assert len(told["queues"]) == 4
    assert told["process"]["readiness"]["status"] == "ready"


@pytest.mark.usefixtures("publisher")
async def test_a_database_without_the_schema_is_told_with_what_to_do(
    owner: Settings, api: Client, connection: Connection
) -> None:
    await connection.execute("DROP TABLE outbox")
    _, told = await status(owner, address(api))
    assert told["outbox"]["away"] == (
        "the database has no schema, or an old one: run 'campaigns migrate' first"
    )


@pytest.mark.usefixtures("publisher")
async def test_a_login_that_may_not_look_is_told_which_one_may(
    settings: Settings, api: Client
) -> None:
    _, told = await status(settings, address(api))
    assert told["outbox"]["away"].endswith("; this needs the DATABASE_URL of the tables' owner")


async def test_without_the_broker_the_others_are_told(owner: Settings, api: Client) -> None:
    code, told = await status(replace(owner, amqp_url=NOWHERE), address(api))
    assert code == 1
    assert told["queues"]["away"].startswith("RabbitMQ cannot be used, check AMQP_URL: ")
    assert told["problems"] == ["the broker cannot be asked"]
    assert told["outbox"]["waiting"]["total"] == 0


@pytest.mark.usefixtures("publisher")
async def test_without_the_process_the_others_are_told(owner: Settings) -> None:
    code, told = await status(owner, "http://127.0.0.1:1")
    assert code == 1
    assert told["process"]["away"].startswith("http://127.0.0.1:1/readyz does not answer: ")
    assert told["problems"] == ["the process cannot be asked"]
    assert (told["outbox"]["waiting"]["total"], len(told["queues"])) == (0, 4)


async def test_sources_that_say_nothing_are_given_up(owner: Settings, silent: str) -> None:
    mute = replace(owner, database_url=f"postgresql://u@{silent}/d", amqp_url=f"amqp://{silent}/")
    seconds = {"DATABASE_TIMEOUT_SECONDS": "0.5", "AMQP_TIMEOUT_SECONDS": "0.5"}
    code, told = await status(mute, f"http://{silent}", seconds)
    assert code == 1
    assert [
        part for part, found in told.items() if isinstance(found, dict) and "away" in found
    ] == [
        "outbox",
        "queues",
        "process",
    ]


@pytest.mark.usefixtures("publisher")
async def test_a_process_that_is_not_ready_is_wrong(
    owner: Settings, settings: Settings, aiohttp_client: Start
) -> None:
    unready = replace(settings, database_url=NO_DATABASE)
    client = await aiohttp_client(create_app(unready, with_relay=False))
    code, told = await status(owner, address(client))
    [problem] = told["problems"]
    assert (code, problem) == (1, f"the process at {address(client)} is unready")


@pytest.mark.usefixtures("publisher")
async def test_a_relay_that_does_not_publish_is_wrong(owner: Settings, idle_client: Client) -> None:
    code, told = await status(owner, address(idle_client))
    [problem] = told["problems"]
    assert code == 1
    assert problem == f"the relay at {address(idle_client)} is in the state 'connecting'"


async def test_a_queue_that_was_gone_is_wrong_as_it_took_events_with_it(
    owner: Settings, publishing: Client
) -> None:
    assert publishing.app is not None
    relay = publishing.app[RELAY]
    relay._gone.add("campaign.start")
    relay._note_topology()
    code, told = await status(owner, address(publishing))
    [problem] = told["problems"]
    assert code == 1
    assert problem == (
        f"the relay at {address(publishing)} found 1 queue gone: what was in it is lost, see"
        " 'campaigns events republish' (told until the process ends)"
    )


@pytest.mark.usefixtures("publisher")
async def test_what_is_no_process_of_ours_is_not_taken_for_one(
    owner: Settings, api: Client
) -> None:
    _, told = await status(owner, f"{address(api)}/api/v1")
    assert told["process"]["away"] == (
        f"what answers at {address(api)}/api/v1/readyz is no process of this service"
    )


async def test_the_process_is_the_one_of_the_settings_unless_it_is_named(
    owner: Settings, publishing: Client
) -> None:
    url = URL(address(publishing))
    environment = {"HTTP_HOST": str(url.host), "HTTP_PORT": str(url.port)}
    done = await asyncio.to_thread(
        campaigns, "events", "status", settings=owner, environment=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nAll is well.\n")


@pytest.mark.usefixtures("publisher")
async def test_people_are_told_the_same_on_one_screen(
    owner: Settings, api: Client, connection: Connection
) -> None:
    for sequence in (1, 2):
        await insert_event(connection, 1, sequence)
    await park(connection, 1, 1, "too\nlarge")
    done = await asyncio.to_thread(
        campaigns, "events", "status", "--url", address(api), settings=owner
    )
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert len(lines) < 40
    for line in (
        "waiting 2",
        "due 0",
        "parked 1",
        "behind a parked one 1",
        "1 parked too large",
        "status ready",
        "relay state elsewhere",
        "1 event is parked: see 'campaigns events parked list'",
    ):
        assert line in lines
    assert any(line.startswith("campaign.import ") for line in lines)


async def test_people_are_told_what_is_away(owner: Settings) -> None:
    gone = replace(owner, database_url=NO_DATABASE, amqp_url=NOWHERE)
    done = await asyncio.to_thread(
        campaigns, "events", "status", "--url", "http://127.0.0.1:1", settings=gone
    )
    assert (done.returncode, done.stdout.count("  AWAY: "), done.stderr) == (1, 3, "")


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://h", "http://", "http://h:x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    done = campaigns("events", "status", "--url", url)
    assert done.returncode == 2
    assert "argument --url: give a URL like http://127.0.0.1:8080" in done.stderr


def test_the_help_tells_every_exit_status() -> None:
    text = " ".join(campaigns("events", "status", "--help").stdout.split())
    assert "Exit status: 0 when all is well; 1 when something is wrong" in text


@pytest.mark.parametrize("cut", [True, False])
async def test_a_broker_that_goes_away_while_it_is_asked_is_a_problem_of_each_queue(
    settings: Settings, start_proxy: Callable[[str], Awaitable[Proxy]], cut: bool
) -> None:
    proxy = await start_proxy(settings.amqp_url)
    async with broker.connect(replace(settings, amqp_url=proxy.url)) as connection:
        if cut:
            proxy.cutting = True
        else:
            proxy.passing.clear()
        asked = [sources.ask_queue(connection, name, 1) for name in topology.QUEUES]
        found = await asyncio.gather(*asked)
    for queue in found:
        assert (queue.problem or "").startswith("cannot be asked: ")
