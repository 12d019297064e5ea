"""Sources of what operators are told: the database, the broker and one process.

Each may be away, which is an answer like any other: the others are what is left to go by.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import orjson
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

from service import broker, failure, outbox, postgres, queries, topology
from service.settings import Settings

# Seconds between the two readings of a rate: sessions report what they did about once a second.
_INTERVAL = 2.0

# Seconds for /readyz, which itself waits for a database.
_PROCESS_SECONDS = 10.0

# As many as fit on a screen.
_REASONS = 5


@dataclass(frozen=True)
class Away:
    """A source does not answer, and why."""

    away: str


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Events a second, over so many seconds."""

    entered: float
    gone: float
    interval_seconds: float


@dataclass(frozen=True, kw_only=True)
class Outbox:
    waiting: outbox.Waiting
    rate: Rate
    reasons: Sequence[outbox.Reason]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The numbers are known unless there is a problem."""

    name: str
    ready: int | None = None
    consumers: int | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Process:
    """What a process answers at /readyz."""

    url: str
    readiness: dict[str, object]


async def ask_outbox(settings: Settings) -> Outbox | Away:
    try:
        async with postgres.connect(settings) as connection:
            before = await queries.count_passages(connection)
            waiting = await queries.count_waiting(connection)
            reasons = await queries.count_reasons(connection, _REASONS)
            await asyncio.sleep(_INTERVAL)
            return Outbox(
                waiting=waiting,
                rate=_rate(before, await queries.count_passages(connection)),
                reasons=reasons,
            )
    except failure.OF_DATABASE as error:
        return Away(failure.of_database(error))


def _rate(before: outbox.Passages, after: outbox.Passages) -> Rate:
    seconds = after.at - before.at
    return Rate(
        entered=(after.entered - before.entered) / seconds,
        gone=(after.gone - before.gone) / seconds,
        interval_seconds=seconds,
    )


async def ask_queues(settings: Settings) -> list[Queue] | Away:
    try:
        async with broker.connect(settings) as connection:
            return list(
                await asyncio.gather(
                    *(
                        ask_queue(connection, name, settings.amqp_timeout_seconds)
                        for name in (*topology.QUEUES, topology.DEAD_LETTERS)
                    )
                )
            )
    except broker.ERRORS as error:
        return Away(f"RabbitMQ cannot be used, check AMQP_URL: {_words(error)}")


async def ask_queue(connection: AbstractConnection, name: str, seconds: float) -> Queue:
    try:
        async with asyncio.timeout(seconds):
            # Of its own, as the broker closes the channel that asks for what is not there.
            channel = await connection.channel()
            declared = await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        return Queue(name=name, problem="does not exist")
    except broker.ERRORS as error:
        return Queue(name=name, problem=f"cannot be asked: {_words(error)}")
    counts = declared.declaration_result
    return Queue(name=name, ready=counts.message_count, consumers=counts.consumer_count)


async def ask_process(url: URL) -> Process | Away:
    place, timeout = url / "readyz", aiohttp.ClientTimeout(total=_PROCESS_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(place) as answer:
            readiness = _readiness(await answer.read())
    except (aiohttp.ClientError, OSError) as error:
        return Away(f"{place} does not answer: {_words(error)}")
    if readiness is None:
        return Away(f"what answers at {place} is no process of this service")
    return Process(url=str(url).rstrip("/"), readiness=readiness)


def _readiness(body: bytes) -> dict[str, object] | None:
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(body)
        if isinstance(document, dict) and document.keys() >= {"status", "relay"}:
            return document
    return None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
