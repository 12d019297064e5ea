"""Scenarios 11, 12 and 14: the link between a replica and its database is cut or silent."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.load import PATH
from tests.observed import Observe
from tests.proxies import Link, Proxy
from tests.test_create import EXAMPLE

StartProxy = Callable[[str], Awaitable[Proxy]]

# What a statement and what the whole transaction of a delete are answered with.
_DELETED, _COMMIT = b"DELETE ", b"COMMIT;"

_SHORT_OR_LONG = [5, pytest.param(100, marks=pytest.mark.minutes)]


@pytest.mark.parametrize(
    ("fault", "harm"),
    [("before it", Link.cut), ("after it, before its answer", Link.cut_at_answer)],
)
@pytest.mark.parametrize("cuts", _SHORT_OR_LONG)
@pytest.mark.timeout(600)
async def test_a_create_that_is_cut_off_at_its_commit_is_made_once_by_those_who_repeat_it_at_once(
    scene: Scene,
    observed: Observe,
    start_proxy: StartProxy,
    fault: str,
    harm: Callable[[Link], None],
    cuts: int,
) -> None:
    proxy = await start_proxy(scene.settings.database_url)
    cut_off = await scene.start(database_url=proxy.url)
    await scene.start()
    async with scene.load() as load:
        await load.goes_on()
        for number in range(cuts):
            key = f"cut-{number}"
            # A create is one statement, and its key is first sent along with it.
            proxy.there.when(key.encode(), harm)
            body = EXAMPLE | {"name": key}
            await asyncio.gather(
                load.request("POST", cut_off.url + PATH, key, body),
                *(load.insist("POST", PATH, key, body) for _ in range(5)),
            )
            assert 503 in [o.status for o in scene.ledger.outcomes if o.key == key]
    await scene.check()
    fault = f"database link cut at the commit of a create, {fault}, {cuts} times"
    observed(11, fault, "one campaign for six who repeat it at once", scene.ledger.figures())


def _cut_before_the_commit(proxy: Proxy, harm: Callable[[Link], None]) -> None:
    proxy.back.when(_DELETED, harm)


def _cut_at_the_commit(proxy: Proxy, harm: Callable[[Link], None]) -> None:
    proxy.back.when(_DELETED, lambda _: proxy.there.when(_COMMIT, harm))


@pytest.mark.parametrize(
    ("fault", "prepare", "cut"),
    [
        ("after the delete", _cut_before_the_commit, Link.cut),
        ("at the commit", _cut_at_the_commit, Link.cut),
        ("after the commit, before its answer", _cut_at_the_commit, Link.cut_at_answer),
    ],
)
@pytest.mark.parametrize("cuts", _SHORT_OR_LONG)
@pytest.mark.timeout(600)
async def test_a_relay_that_is_cut_off_while_it_forgets_what_was_confirmed_loses_nothing(
    scene: Scene,
    observed: Observe,
    start_proxy: StartProxy,
    fault: str,
    prepare: Callable[[Proxy, Callable[[Link], None]], None],
    cut: Callable[[Link], None],
    cuts: int,
) -> None:
    assert scene.settings.relay_database_url
    proxy = await start_proxy(scene.settings.relay_database_url)
    await scene.start(relay_database_url=proxy.url)
    await scene.start()
    async with scene.load() as load:
        await load.goes_on()
        for _ in range(cuts):
            done = asyncio.Event()

            def harm(link: Link, done: asyncio.Event = done) -> None:
                cut(link)
                done.set()

            prepare(proxy, harm)
            await asyncio.wait_for(done.wait(), 30)
    await scene.check()
    fault = f"relay's database link cut {fault}, {cuts} times"
    observed(12, fault, "nothing lost, copies at most", scene.ledger.figures())


@pytest.mark.parametrize("silent", [4, pytest.param(30, marks=pytest.mark.minutes)])
async def test_a_replica_whose_database_is_silent_fails_in_time_and_others_take_its_events(
    scene: Scene, observed: Observe, start_proxy: StartProxy, silent: float
) -> None:
    assert scene.settings.relay_database_url
    proxy = await start_proxy(scene.settings.database_url)
    relays = await start_proxy(scene.settings.relay_database_url)
    cut_off = await scene.start(
        database_url=proxy.url,
        relay_database_url=relays.url,
        database_timeout_seconds=1.0,
        amqp_timeout_seconds=1.0,
    )
    other = await scene.start()
    swallowing = asyncio.Event()

    def swallow(_: Link) -> None:
        for direction in (proxy.there, proxy.back, relays.there, relays.back):
            direction.swallowing = True
        swallowing.set()

    async with scene.load(other) as load:
        await load.goes_on()
        # Its transaction is open, and what it has claimed is locked.
        relays.back.when(_DELETED, swallow)
        await asyncio.wait_for(swallowing.wait(), 30)
        began = time.monotonic()
        taken_over = asyncio.create_task(emptied(scene.connection, 20))
        slowest = 0.0
        while time.monotonic() - began < silent:
            asked = time.monotonic()
            answer = await load.request("POST", cut_off.url + PATH, "asked", EXAMPLE)
            slowest = max(slowest, time.monotonic() - asked)
            assert answer.status == 503
        seconds = await taken_over
        for direction in (proxy.there, proxy.back, relays.there, relays.back):
            direction.swallowing = False
        await asyncio.to_thread(cut_off.wait_for_relay)
        await load.goes_on()
    await scene.check()
    assert slowest < 5
    figures = f"refused after {slowest:.1f} s, taken over after {seconds:.1f} s"
    observed(
        14,
        f"the database is silent for one replica for {silent} s",
        "its requests fail by their deadline, others take its events",
        f"{figures}; {scene.ledger.figures()}",
    )
