"""`./run` as a person uses it: started, used, stopped and killed."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable

import asyncpg
import psutil
import pytest

from dev.environment import ROOT
from service import keys
from tests.processes import until
from tests.runs import Run

pytestmark = pytest.mark.timeout(180)


def test_a_stack_runs_stops_in_order_and_keeps_its_data(start_run: Callable[..., Run]) -> None:
    first = start_run("a folder with spaces/" + "long" * 40)
    first.wait()
    env = first.env
    created = first.create()
    assert created.status_code == 201
    assert stat.S_IMODE((first.state / "env").stat().st_mode) == 0o600
    children = first.children()

    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(15) == 0
    # All was stopped before it ended; a grandchild may wait to be collected by the system.
    left = [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert not (first.state / "env").exists()
    assert '"state":"stopped"' in first.log.read_text()

    second = Run(first.state, int(env["URL"].rpartition(":")[2]))
    try:
        second.wait()
        assert second.env == env
        assert second.create().json()["id"] > created.json()["id"]
    finally:
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(15) == 0


def test_the_banner_can_be_pasted_into_a_shell(start_run: Callable[..., Run]) -> None:
    key = keys.generate()
    run = start_run(API_KEY=key)
    run.wait()
    until(lambda: "Stop with Ctrl-C" in run.log.read_text(), 10, run.log.read_text)
    banner = run.log.read_text()
    start = banner.index("curl -i ")
    command = banner[start : banner.index("\nEND\n") + 5]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("HTTP/1.1 201 ")
    assert run.env["API_KEY"] == key


def test_after_kill_9_no_server_survives_and_a_new_run_may_follow(
    start_run: Callable[..., Run],
) -> None:
    run = start_run()
    run.wait()
    children = run.children()
    assert len(children) > 3
    run.process.kill()
    run.process.wait()
    assert not psutil.wait_procs(children, timeout=20)[1]

    start_run().wait()


def test_two_stacks_run_side_by_side_but_not_on_one_folder(start_run: Callable[..., Run]) -> None:
    one, two = start_run("one"), start_run("two")
    one.wait()
    two.wait()
    assert one.create().status_code == two.create().status_code == 201
    assert one.env["DATABASE_URL"] != two.env["DATABASE_URL"]

    third = start_run("one")
    assert third.process.wait(30) == 1
    assert f"another ./run (process {one.process.pid}) uses" in third.log.read_text()
    assert one.create().status_code == 201


def test_given_servers_are_used_and_none_is_started(
    start_run: Callable[..., Run], database_url: str, amqp_url: str
) -> None:
    run = start_run(DATABASE_URL=database_url, AMQP_URL=amqp_url)
    run.wait()
    assert run.create().status_code == 201
    assert (run.env["DATABASE_URL"], run.env["AMQP_URL"]) == (database_url, amqp_url)
    assert len(run.children()) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5])
def test_a_run_that_is_killed_while_its_broker_boots_leaves_no_server(
    start_run: Callable[..., Run], seconds: float
) -> None:
    run = start_run()
    until(run.boots_broker, 60, run.log.read_text)
    time.sleep(seconds)
    children = run.children()
    run.process.kill()
    run.process.wait()
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_run_that_is_stopped_while_it_starts_ends_soon(start_run: Callable[..., Run]) -> None:
    run = start_run()
    until(run.boots_broker, 60, run.log.read_text)
    children = run.children()
    run.process.send_signal(signal.SIGINT)
    # A broker that boots hears nothing for as long as that takes, and is killed after 20 seconds.
    assert run.process.wait(30) == 0
    assert not psutil.wait_procs(children, timeout=5)[1]


def test_commands_of_the_service_reach_the_running_stack(start_run: Callable[..., Run]) -> None:
    run = start_run()
    run.wait()
    key = campaigns_of(run, "keys", "create", "--organization", "2", "--name", "a")
    assert run.create(key.strip()).json()["organization_id"] == 2
    status = json.loads(campaigns_of(run, "events", "status", "--json"))
    assert status["process"]["url"] == run.env["URL"]


def campaigns_of(run: Run, *arguments: str) -> str:
    """What a command of the service prints, from wherever it is called."""
    return subprocess.run(
        [str(ROOT / "run"), "campaigns", *arguments],
        env={**os.environ, "STATE_DIR": str(run.state)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_servers_that_outlive_a_killed_run_keep_its_folder(
    start_run: Callable[..., Run],
) -> None:
    run = start_run()
    run.wait()
    postgres = next(child for child in run.children() if "-D" in child.cmdline())
    postgres.suspend()
    run.process.kill()
    run.process.wait()
    second = start_run()
    try:
        until(lambda: "waiting for the servers" in second.log.read_text(), 20, second.log.read_text)
        assert second.children() == []
    finally:
        postgres.resume()
    second.wait()


@pytest.mark.parametrize("name", ["-m service serve", "postgres -D", "beam.smp"])
def test_the_end_of_one_part_ends_all(start_run: Callable[..., Run], name: str) -> None:
    run = start_run()
    run.wait()
    children = run.children()
    next(child for child in children if name in " ".join(child.cmdline())).kill()
    assert run.process.wait(30) == 1
    assert "has ended with status -9" in run.log.read_text()
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert not (run.state / "env").exists()


def test_nobody_else_gets_in(start_run: Callable[..., Run]) -> None:
    run = start_run()
    run.wait()
    listening = {
        connection.laddr.ip
        for child in run.children()
        for connection in child.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    wrong = run.env["DATABASE_URL"].replace("//campaigns:", "//campaigns:not-")
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(asyncpg.connect(wrong, timeout=10))
