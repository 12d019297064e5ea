"""What the oracle calls open: a fresh process has exactly that, and one more is noticed."""

import asyncio
import socket
from dataclasses import replace

import pytest

from tests.faults.conftest import AT_REST, Scene
from tests.faults.footprint import Footprint, tasks

AT_MOST = Footprint(
    connections=1, channels=1, sessions=1, files={7: 9}, sockets={7: 1}, tasks={7: ["run", "read"]}
)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"connections": 2}, "2 connections at the broker, at most 1"),
        ({"channels": 2}, "2 channels, at most 1"),
        ({"sessions": 2}, "2 sessions of the database, at most 1"),
        ({"files": {7: 10}}, "10 files of 7, at most 9"),
        ({"sockets": {7: 2}}, "2 sockets of 7, at most 1"),
        ({"tasks": {7: ["read", "run", "run"]}}, "3 tasks of 7, ['read', 'run', 'run'], at most 2"),
    ],
)
def test_one_more_of_anything_is_noticed(more: dict[str, object], told: str) -> None:
    now = replace(AT_MOST, **more)  # type: ignore[arg-type] # as the rows say
    assert now.exceeds(AT_MOST) == [told]
    assert not AT_MOST.exceeds(AT_MOST)


@pytest.mark.parametrize("command", AT_REST)
async def test_a_fresh_process_has_the_tasks_that_one_may_have_at_rest(
    scene: Scene, command: str
) -> None:
    replica = await scene.start(command=command)
    if command != "serve --no-relay":
        await asyncio.to_thread(replica.wait_for_relay)
    await scene.is_at_rest()
    assert await asyncio.to_thread(tasks, replica, scene.census(0)) == sorted(AT_REST[command])


async def test_a_connection_of_a_caller_is_noticed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.conftest._CLOSED_SECONDS", 1)
    replica = await scene.start()
    port = int(replica.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)),
        pytest.raises(pytest.fail.Exception, match=r"2 sockets of .* at most 1"),
    ):
        await scene.is_at_rest()
    await scene.is_at_rest()
