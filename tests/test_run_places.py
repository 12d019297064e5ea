"""`./run` in awkward places: closed folders, long paths, any umask."""

import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.environment import ROOT
from dev.server import state_folder
from tests.runs import Run

pytestmark = pytest.mark.timeout(180)


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
