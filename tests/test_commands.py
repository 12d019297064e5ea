"""The command line of the service."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.rabbitmq import RabbitMQ
from service import keys
from service.postgres import SCHEMA_REVISION, Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client
from tests.processes import ROOT
from tests.test_create import EXAMPLE


def campaigns(
    *arguments: str,
    settings: Settings | None = None,
    environment: dict[str, str] | None = None,
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    environment = environment or {}
    if settings:
        environment |= {"DATABASE_URL": settings.database_url, "AMQP_URL": settings.amqp_url}
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_a_new_key_is_printed_once_and_opens_the_api(owner: Settings, client: Client) -> None:
    made = campaigns("keys", "create", "--organization", "7", "--name", "a", settings=owner)
    key = made.stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    assert (made.returncode, response.status) == (0, 201)
    assert (await response.json())["organization_id"] == 7
    assert key not in made.stderr


async def test_a_key_made_elsewhere_is_stored_once(owner: Settings, connection: Connection) -> None:
    command = ["keys", "create", "--organization", "7", "--name", "a", "--from-stdin"]
    key = keys.generate()
    for _ in range(2):
        assert campaigns(*command, settings=owner, text=f"{key}\n").returncode == 0
    assert await connection.fetchval("SELECT count(*) FROM api_keys") == 1


def test_a_key_of_another_organization_is_refused(owner: Settings) -> None:
    command = ["keys", "create", "--name", "a", "--from-stdin", "--organization"]
    key = keys.generate()
    first, second = (
        campaigns(*command, organization, settings=owner, text=f"{key}\n")
        for organization in ("7", "8")
    )
    assert (first.returncode, second.returncode) == (0, 2)
    assert second.stderr.startswith("campaigns: this key is stored already, for another organ")


async def test_a_key_before_the_schema_is_told_what_to_do(
    owner: Settings, connection: Connection
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    done = campaigns("keys", "create", "--organization", "7", "--name", "a", settings=owner)
    assert done.returncode == 2
    assert done.stderr == (
        "campaigns: the database has no schema, or an old one: run 'campaigns migrate' first\n"
    )


def test_a_key_needs_a_name() -> None:
    done = campaigns("keys", "create", "--organization", "7", "--name", " ")
    assert done.returncode == 2
    assert "argument --name: give it some words" in done.stderr


@pytest.mark.parametrize("organization", ["0", "-1", "x", "9223372036854775808"])
def test_an_organization_is_a_positive_number(organization: str) -> None:
    done = campaigns("keys", "create", "--organization", organization, "--name", "a")
    assert done.returncode == 2
    assert "--organization" in done.stderr


async def test_migrate_makes_an_empty_database_ready(
    owner: Settings, connection: Connection
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    for _ in range(2):
        done = campaigns("migrate", settings=owner)
        assert (done.returncode, done.stdout) == (
            0,
            f"The schema has revision {SCHEMA_REVISION}.\n",
        )


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["migrate"], {"DATABASE_URL": "postgresql://u:pw@127.0.0.1:1/d"}, "check DATABASE_URL"),
        (["migrate"], {"DATABASE_URL": "nonsense"}, "database_url: Must be a URL like"),
        (["events", "tail"], {"AMQP_URL": NOWHERE}, "check AMQP_URL"),
        (["serve"], {"HTTP_PORT": "many"}, "http_port: Not a valid integer."),
        (["serve"], {"CONFIG_FILE": "/none.toml"}, "/none.toml cannot be read"),
        (["serve"], {"HTTP_HOST": "192.0.2.1"}, "set HTTP_HOST or HTTP_PORT"),
        (["relay"], {"HTTP_HOST": "192.0.2.1"}, "set HTTP_HOST or HTTP_PORT"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = campaigns(*arguments, environment=environment)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("campaigns: ")]
    assert done.returncode == 2
    assert sentence in line
    assert "Traceback" not in done.stderr
    assert "pw" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["migrate"],
        ["keys"],
        ["keys", "create"],
        ["events"],
        ["events", "tail"],
        ["events", "republish"],
        ["events", "status"],
        ["events", "parked"],
        ["events", "parked", "list"],
        ["events", "parked", "show"],
        ["events", "parked", "replay"],
        ["events", "parked", "discard"],
    ],
)
def test_every_command_explains_itself(arguments: list[str]) -> None:
    done = campaigns(*arguments, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: campaigns")


def test_the_installed_program_is_the_same() -> None:
    program = Path(sys.executable).with_name("campaigns")
    done = subprocess.run([program, "--help"], capture_output=True, text=True)
    assert done.stdout == campaigns("--help").stdout


@pytest.fixture
def tail(settings: Settings, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "events", "tail", *request.param],
        cwd=ROOT,
        env={**os.environ, "AMQP_URL": settings.amqp_url, "PYTHONUNBUFFERED": ""},
        # Shells start what runs in the background with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    process.stderr.readline()  # Says that it listens from now on.
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("tail", [["--json"]], indirect=True)
async def test_tail_prints_an_event_a_line_until_it_is_stopped(
    tail: subprocess.Popen[str], client: Client
) -> None:
    body = await (await client.post("/api/v1/campaigns", json=EXAMPLE)).json()
    assert tail.stdout
    line = await asyncio.to_thread(tail.stdout.readline)
    assert json.loads(line)["data"]["campaign"] == body
    tail.send_signal(signal.SIGINT)
    assert tail.wait(10) == 130
    assert tail.stderr
    assert tail.stderr.read() == ""


@pytest.mark.parametrize("tail", [[]], indirect=True)
async def test_tail_prints_for_people_without_json(
    tail: subprocess.Popen[str], client: Client
) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    assert tail.stdout
    assert await asyncio.to_thread(tail.stdout.readline) == "{\n"
    assert await asyncio.to_thread(tail.stdout.readline) == '  "specversion": "1.0",\n'


@pytest.mark.parametrize("tail", [["--json"]], indirect=True)
def test_tail_ends_on_sigterm(tail: subprocess.Popen[str]) -> None:
    tail.send_signal(signal.SIGTERM)
    assert tail.wait(10) == 130


@pytest.mark.parametrize("tail", [["--json"]], indirect=True)
def test_tail_ends_when_the_broker_closes(tail: subprocess.Popen[str], worker: str) -> None:
    rabbitmq = RabbitMQ(Path(os.environ["TEST_STATE"]))
    rabbitmq.control("close_all_connections", "--vhost", worker, "maintenance")
    assert tail.wait(10) == 2
    assert tail.stderr
    assert "campaigns: RabbitMQ closed the connection" in tail.stderr.read()


def test_an_empty_key_is_refused(owner: Settings) -> None:
    command = ["keys", "create", "--organization", "7", "--name", "a", "--from-stdin"]
    done = campaigns(*command, settings=owner, text="\n")
    assert (done.returncode, done.stderr) == (2, "campaigns: there is no key on standard input\n")
