"""Scenarios 4 to 6: the broker takes nothing, hangs, or is killed, while campaigns are created."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from dev.rabbitmq import RabbitMQ
from tests.consumers import eventually
from tests.faults.conftest import Scene
from tests.faults.ledger import emptied
from tests.faults.own_broker.conftest import control, two_replicas
from tests.observed import Observe
from tests.proxies import Link, Proxy

# How basic.ack begins: what the broker says when it has stored an event.
CONFIRM = b"\x00\x3c\x00\x50"

# Seconds from when the broker is well again: a publish has `amqp_timeout_seconds`, and the relay
# pauses after it.
LATEST = 20

# Events a second that leave at least after that: a fourth of what was seen.
LEAST_RATE = 500


@pytest.mark.parametrize("seconds", [5, pytest.param(30, marks=pytest.mark.minutes)])
async def test_a_broker_that_is_short_of_memory_costs_no_request_and_no_event(
    scene: Scene, rabbitmq: RabbitMQ, observed: Observe, seconds: int
) -> None:
    await two_replicas(scene)
    async with scene.load() as load:
        await load.goes_on()
        await control(rabbitmq, "set_vm_memory_high_watermark", "0.0001")
        try:
            await load.goes_on()
            await asyncio.sleep(seconds)
            # Later, those that wait may have left before the broker's command has ended.
            waited = await _waiting(scene)
        finally:
            await control(rabbitmq, "set_vm_memory_high_watermark", "0.6")
        drained = await emptied(scene.connection, LATEST + waited / LEAST_RATE)
    await scene.check()
    assert waited >= 50
    observed(
        4,
        f"memory alarm for {seconds} s",
        "campaigns are created all the while, and told of after it",
        f"{waited:,} events waited, gone {drained:.1f} s after it; {scene.ledger.figures()}",
    )


async def test_a_broker_that_is_short_of_memory_is_asked_with_one_event_at_a_time(
    scene: Scene, rabbitmq: RabbitMQ, observed: Observe
) -> None:
    await two_replicas(scene, amqp_timeout_seconds=1.0)
    async with scene.load() as load:
        await load.goes_on()
        await control(rabbitmq, "set_vm_memory_high_watermark", "0.0001")
        try:
            await load.goes_on()
            await eventually(lambda: _circuits(scene, "half-open", 1), 30, "one event at a time")
        finally:
            await control(rabbitmq, "set_vm_memory_high_watermark", "0.6")
        await emptied(scene.connection, LATEST)
        most = scene.settings.relay_batch_size
        await eventually(lambda: _circuits(scene, "closed", most), 30, "whole batches again")
    await scene.check()
    observed(
        4,
        "memory alarm, and a publish may take 1 s",
        "the broker is asked with one event at a time, and has whole batches after it",
        f"a window of 1, of {most} after it; {scene.ledger.figures()}",
    )


async def _circuits(scene: Scene, circuit: str, window: int) -> bool:
    """Whether each replica says this of itself."""
    relays = [await asyncio.to_thread(replica.relay) for replica in scene.replicas]
    return all((r["circuit"], r["window"]) == (circuit, window) for r in relays)


@pytest.mark.parametrize("seconds", [5, pytest.param(20, marks=pytest.mark.minutes)])
async def test_a_broker_that_hangs_costs_no_request_and_no_event(
    scene: Scene, rabbitmq: RabbitMQ, observed: Observe, seconds: int
) -> None:
    await two_replicas(scene)
    async with scene.load() as load:
        await load.goes_on()
        rabbitmq.child.process.send_signal(signal.SIGSTOP)
        try:
            await load.goes_on()
            await asyncio.sleep(seconds)
            waited = await _waiting(scene)
        finally:
            rabbitmq.child.process.send_signal(signal.SIGCONT)
        drained = await emptied(scene.connection, LATEST + waited / LEAST_RATE)
    await scene.check()
    assert waited >= 50
    observed(
        5,
        f"broker hangs for {seconds} s",
        "campaigns are created all the while, and told of after it",
        f"{waited:,} events waited, gone {drained:.1f} s after it; {scene.ledger.figures()}",
    )


async def test_a_broker_that_is_killed_while_it_confirms_costs_no_request_and_no_event(
    scene: Scene,
    rabbitmq: RabbitMQ,
    start_proxy: Callable[[str], Awaitable[Proxy]],
    observed: Observe,
) -> None:
    proxy = await start_proxy(rabbitmq.url)
    await two_replicas(scene, proxy, proxy)

    def kill_before_it_is_heard(link: Link) -> None:
        rabbitmq.child.kill()
        link.cut()

    async with scene.load() as load:
        await load.goes_on()
        proxy.back.when(CONFIRM, kill_before_it_is_heard)
        await eventually(lambda: _is_dead(rabbitmq), 20, "a confirm")
        await load.goes_on()
        rabbitmq.start()
        await asyncio.to_thread(rabbitmq.wait)
        drained = await emptied(scene.connection, LATEST)
        await load.goes_on()
    await scene.check()
    observed(
        6,
        "kill -9 of the broker before a confirm arrives",
        "campaigns are created all the while, and told of after its restart",
        f"events gone {drained:.1f} s after its restart; {scene.ledger.figures()}",
    )


async def _waiting(scene: Scene) -> int:
    waiting: int = await scene.connection.fetchval("SELECT count(*) FROM outbox")
    return waiting


def _is_dead(broker: RabbitMQ) -> bool:
    return broker.child.process.poll() is not None
