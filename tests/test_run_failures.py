"""`./run` when something is missing or wrong: one sentence, with what to do."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.environment import ROOT
from tests.runs import Run

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"HTTP_PORT": "many"}, "HTTP_PORT is 'many': give a number from 1 to 65535"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d"}, "check DATABASE_URL"),
        ({"DATABASE_URL": "secret"}, "database_url: Must be a URL like"),
        ({"STATE_DIR": "/proc/none"}, "set STATE_DIR"),
        ({"API_KEY": "secret"}, "API_KEY is no key: leave it out"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    start_run: Callable[..., Run], amqp_url: str, environment: dict[str, str], sentence: str
) -> None:
    run = start_run(**{"AMQP_URL": amqp_url, **environment})
    status = run.process.wait(30)
    [line] = [line for line in run.log.read_text().splitlines() if line.startswith("run: ")]
    assert status == 1
    assert sentence in line
    assert "secret" not in line


def test_a_wrong_broker_is_said_with_what_to_do(
    start_run: Callable[..., Run], database_url: str
) -> None:
    run = start_run(DATABASE_URL=database_url, AMQP_URL="amqp://u:secret@127.0.0.1:1/")
    assert run.process.wait(30) == 1
    assert "run: RabbitMQ cannot be used, check AMQP_URL" in run.log.read_text()
    assert "secret" not in run.log.read_text()


def test_a_port_in_use_is_said_with_what_to_do(start_run: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        run = start_run(HTTP_PORT=port)
        assert run.process.wait(30) == 1
    assert f"run: cannot listen on 127.0.0.1 port {port}" in run.log.read_text()


def test_without_a_python_it_is_said_what_to_install(tmp_path: Path) -> None:
    for name in ("readlink", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/bin/sh", ROOT / "run"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("run: there is no Python 3.11 or newer here: install one")


def test_without_a_way_to_get_a_broker_the_three_ways_are_named(
    start_run: Callable[..., Run], tmp_path: Path, database_url: str
) -> None:
    if Path("/usr/lib/rabbitmq/lib").exists():
        pytest.skip("this machine has a RabbitMQ of its own")
    (tmp_path / "bin").mkdir()
    for name in ("readlink", "dirname"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
    run = start_run(
        PATH=str(tmp_path / "bin"), XDG_CACHE_HOME=str(tmp_path), DATABASE_URL=database_url
    )
    assert run.process.wait(60) == 1
    assert "there are three ways to get one: set AMQP_URL" in run.log.read_text()


def test_commands_without_a_running_stack_say_what_to_start(folder: Path) -> None:
    done = subprocess.run(
        [ROOT / "run", "campaigns", "events", "tail"],
        env={**os.environ, "STATE_DIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == f"run: nothing runs on {folder}: start ./run in another terminal\n"
