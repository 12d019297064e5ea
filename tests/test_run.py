"""`./run` as a person uses it: started, used, stopped, killed, and started wrongly."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests

from dev.environment import ROOT
from dev.processes import steady_port
from dev.server import EXAMPLE, state_folder

pytestmark = pytest.mark.timeout(180)


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
        _until((self.state / "env").exists, 90, lambda: self.log.read_text())

    def create(self) -> requests.Response:
        env = self.env
        return requests.post(
            f"{env['URL']}/api/v1/campaigns",
            data=EXAMPLE.read_bytes(),
            headers={"Authorization": f"Bearer {env['API_KEY']}"},
            timeout=10,
        )

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def boots_broker(self) -> bool:
        """Whether the shell script of RabbitMQ has become the Erlang machine."""
        with suppress(psutil.NoSuchProcess):
            return any(child.name() == "beam.smp" for child in self.children())
        return False


def _until(happened: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} seconds: {explain()}")
        time.sleep(0.05)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may pass through, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="campaigns-run-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


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
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert not (first.state / "env").exists()

    second = Run(first.state, int(env["URL"].rpartition(":")[2]))
    try:
        second.wait()
        assert second.env == env
        assert second.create().json()["id"] > created.json()["id"]
    finally:
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(15) == 0


def test_the_banner_can_be_pasted_into_a_shell(start_run: Callable[..., Run]) -> None:
    run = start_run(API_KEY="a key of one's own")
    run.wait()
    _until(lambda: "Stop with Ctrl-C" in run.log.read_text(), 10, run.log.read_text)
    banner = run.log.read_text()
    start = banner.index("curl -i ")
    command = banner[start : banner.index("\nEND\n") + 5]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("HTTP/1.1 201 ")
    assert run.env["API_KEY"] == "a key of one's own"


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


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"HTTP_PORT": "many"}, "HTTP_PORT is 'many': give a number from 1 to 65535"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d"}, "check DATABASE_URL"),
        ({"DATABASE_URL": "secret"}, "database_url: Must be a URL like"),
        ({"STATE_DIR": "/proc/none"}, "set STATE_DIR"),
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


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5])
def test_a_run_that_is_killed_while_its_broker_boots_leaves_no_server(
    start_run: Callable[..., Run], seconds: float
) -> None:
    run = start_run()
    _until(run.boots_broker, 60, run.log.read_text)
    time.sleep(seconds)
    children = run.children()
    run.process.kill()
    run.process.wait()
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_run_that_is_stopped_while_it_starts_ends_soon(start_run: Callable[..., Run]) -> None:
    run = start_run()
    _until(run.boots_broker, 60, run.log.read_text)
    children = run.children()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(15) == 0
    assert not psutil.wait_procs(children, timeout=5)[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_a_folder_that_the_servers_user_cannot_reach_is_left_as_it_is(
    start_run: Callable[..., Run], folder: Path
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    run = start_run("closed/state")
    with _moved_outside(run, "postgres") as outside:
        assert run.create().status_code == 201
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert outside.stat().st_uid == 0


def test_a_path_may_be_longer_than_the_servers_can_bear(start_run: Callable[..., Run]) -> None:
    run = start_run("a b/" + "/".join(["long" * 50] * 5))
    with _moved_outside(run, "postgres"), _moved_outside(run, "rabbitmq"):
        assert run.create().status_code == 201


@contextmanager
def _moved_outside(run: Run, server: str) -> Iterator[Path]:
    """Where a server's files are instead; they are removed at the end, as the run is stopped."""
    run.wait()
    outside = Path((run.state / server / "is-at").read_text().strip())
    try:
        yield outside
    finally:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            run.process.wait(30)
        shutil.rmtree(outside)


def test_secrets_are_closed_and_servers_work_whatever_the_umask_is(
    start_run: Callable[..., Run],
) -> None:
    before = os.umask(0o077)
    try:
        strict = start_run("strict")
        os.umask(0o000)
        loose = start_run("loose")
    finally:
        os.umask(before)
    for run in (strict, loose):
        run.wait()
        assert run.create().status_code == 201
        for name in ("env", "api-key", "postgres/password", "rabbitmq/password"):
            assert stat.S_IMODE((run.state / name).stat().st_mode) == 0o600
        for name in ("postgres/data-18", "rabbitmq"):
            assert stat.S_IMODE((run.state / name).stat().st_mode) == 0o700


def test_a_relative_state_folder_is_the_callers() -> None:
    assert state_folder({"STATE_DIR": "here"}) == Path.cwd() / "here"
    assert state_folder({}) == ROOT / ".state"


def test_commands_of_the_service_reach_the_running_stack(start_run: Callable[..., Run]) -> None:
    run = start_run()
    run.wait()
    command = [
        str(ROOT / "run"),
        "campaigns",
        "keys",
        "create",
        "--organization",
        "2",
        "--name",
        "a",
    ]
    environment = {**os.environ, "STATE_DIR": str(run.state)}
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
    answer = requests.post(
        f"{run.env['URL']}/api/v1/campaigns",
        data=EXAMPLE.read_bytes(),
        headers={"Authorization": f"Bearer {done.stdout.strip()}"},
        timeout=10,
    )
    assert answer.json()["organization_id"] == 2


def test_commands_without_a_running_stack_say_what_to_start(folder: Path) -> None:
    done = subprocess.run(
        [ROOT / "run", "campaigns", "events", "tail"],
        env={**os.environ, "STATE_DIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == f"run: nothing runs on {folder}: start ./run in another terminal\n"
