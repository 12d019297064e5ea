"""A consumer of campaign events to copy: every event is applied once, in order, though it comes
at least once.

The work and the note that it is done are one transaction, and the broker is told after its commit:
whatever fails in between, the event comes again and is known. What happens to

- a copy of what has come before: it is acknowledged, nothing else;
- the next one of its campaign: it is applied, with those that have waited for it;
- a later one: it waits in the inbox. To give it back would not let the missing one pass: RabbitMQ
  delivers what is given back first, and makes it a dead letter after 20 times;
- one that nobody can read: it is rejected and waits in campaign.dead.

An event is missing when it is a dead letter, or another process on the same queue has it in hand:
then two events of one campaign are handled at once. The row in `positions` that both lock makes one
wait for the other, and the sequence finds out which was first. `x-single-active-consumer` would
keep the second process idle instead, but that is the queue's to say, and this one does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aio_pika
import asyncpg
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError
from yarl import URL

log = logging.getLogger("consumer")

QUEUES = ("campaign.import", "campaign.schedule", "campaign.start")

# asyncpg waits for ever unless it is told how long.
SECONDS = 10.0

# What aio-pika raises when the broker is away; RuntimeError when it was closed already.
NO_BROKER = (AMQPError, OSError, RuntimeError)

# What passes without a change to the event, the program or its privileges. All else ends the
# program: the broker counts that, so that no event is tried for ever.
NO_DATABASE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    # A primary that has become a standby.
    asyncpg.ReadOnlySQLTransactionError,
)

if TYPE_CHECKING:
    # They know of what they are containers when types are checked, not when they are used.
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

T = TypeVar("T", str, int)


class Poison(Exception):
    """Nobody can read this message, now or later; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Event:
    id: str
    type: str
    sequence: int
    body: str
    campaign_id: int
    name: str
    status: str
    version: int


def parse(body: bytes | str) -> Event:
    """Read all that the work needs, as an event that waits must not fail when its turn comes."""
    try:
        event = json.loads(body)
        if _member(event, "specversion", str) != "1.0":
            raise Poison("this version of CloudEvents is unknown")
        _member(event, "source", str)
        campaign = event["data"]["campaign"]
        return Event(
            id=_member(event, "id", str),
            type=_member(event, "type", str),
            sequence=_sequence(_member(event, "sequence", str)),
            body=body if isinstance(body, str) else body.decode(),
            campaign_id=_member(campaign, "id", int),
            name=_member(campaign, "name", str),
            status=_member(campaign, "status", str),
            version=_member(campaign, "version", int),
        )
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise Poison(f"it is no event: {error!r}") from error


def _member(document: Any, name: str, kind: type[T]) -> T:
    value = document[name]
    # Not isinstance, for which true is an integer.
    if type(value) is not kind or not _can_be_stored(value):
        raise Poison(f"{name} is unusable: {value!r:.100}")
    return value


def _can_be_stored(value: str | int) -> bool:
    """Whether PostgreSQL has a place for it."""
    if isinstance(value, int):
        return 0 < value < 2**63
    return value != "" and "\0" not in value and bool(value.encode())


def _sequence(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or not int(text):
        raise Poison(f"the sequence is unusable: {text!r:.100}")
    return int(text)


async def work(connection: Connection, event: Event) -> None:
    """Put yours here. It is done once, if all it does is in this database, by this connection."""
    if event.type == "campaign.deleted":
        await connection.execute("DELETE FROM campaigns WHERE id = $1", event.campaign_id)
        return
    await connection.execute(
        """
        INSERT INTO campaigns AS known (id, name, status, version)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (id) DO UPDATE
        SET name = excluded.name,
            status = excluded.status,
            version = excluded.version,
            events = known.events + 1
        """,
        event.campaign_id,
        event.name,
        event.status,
        event.version,
    )


async def take(connection: Connection, event: Event, start_midway: bool) -> str:
    """Apply it once, in its turn; answer what came of it."""
    async with connection.transaction():
        last = await _locked_position(connection, event.campaign_id)
        if event.sequence <= last or not await _is_new(connection, event):
            return "had come before"
        if last == 0 and start_midway:
            last = await _before_first(connection, event.campaign_id)
        reached = await _apply_from(connection, event.campaign_id, last + 1)
        return f"waits for {last + 1}" if reached == last else f"applied up to {reached}"


async def _locked_position(connection: Connection, campaign_id: int) -> int:
    """From here on, other processes with an event of this campaign wait for the commit."""
    await connection.execute(
        "INSERT INTO positions (campaign_id, sequence) VALUES ($1, 0) ON CONFLICT DO NOTHING",
        campaign_id,
    )
    last: int = await connection.fetchval(
        "SELECT sequence FROM positions WHERE campaign_id = $1 FOR UPDATE", campaign_id
    )
    return last


async def _is_new(connection: Connection, event: Event) -> bool:
    inserted = await connection.execute(
        """
        INSERT INTO inbox (event_id, campaign_id, sequence, body)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
        """,
        event.id,
        event.campaign_id,
        event.sequence,
        event.body,
    )
    return bool(inserted == "INSERT 0 1")


async def _before_first(connection: Connection, campaign_id: int) -> int:
    first: int = await connection.fetchval(
        "SELECT min(sequence) FROM inbox WHERE campaign_id = $1", campaign_id
    )
    return first - 1


async def _apply_from(connection: Connection, campaign_id: int, sequence: int) -> int:
    """Apply what has come without a gap from here on; answer the last one applied."""
    while body := await connection.fetchval(
        "SELECT body FROM inbox WHERE campaign_id = $1 AND sequence = $2", campaign_id, sequence
    ):
        await work(connection, parse(body))
        await connection.execute(
            "UPDATE inbox SET body = NULL WHERE campaign_id = $1 AND sequence = $2",
            campaign_id,
            sequence,
        )
        sequence += 1
    await connection.execute(
        "UPDATE positions SET sequence = $2 WHERE campaign_id = $1", campaign_id, sequence - 1
    )
    return sequence - 1


class Consumer:
    """Takes one message after the other until it is told to stop."""

    def __init__(self, options: argparse.Namespace, pool: Pool) -> None:
        self._options = options
        self._pool = pool
        self._stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)

    async def run(self) -> None:
        """Consume, and connect again whenever the broker was away."""
        while not self._stopping.is_set():
            try:
                async with _deliveries(self._options, self._stopping) as messages:
                    async for message in messages:
                        await self._settle(message)
            except NO_BROKER as error:
                log.warning("no broker, trying again: %r", error)
            await self._pause()

    async def _settle(self, message: AbstractIncomingMessage) -> None:
        """Tell the broker what became of a message; nothing, if that is for the next process."""
        try:
            event = parse(message.body)
        except Poison as reason:
            log.warning("message %s goes to the dead letters: %s", message.message_id, reason)
            await message.reject(requeue=False)
            return
        if outcome := await self._store(event):
            log.info("%s %s %s", event.campaign_id, event.sequence, outcome)
            await message.ack()

    async def _store(self, event: Event) -> str | None:
        """Try until the database is there, with the message in hand.

        Each time a message is given back counts towards the 20, and so does each connection that
        ends with it. The broker itself takes a message back after half an hour.
        """
        while not self._stopping.is_set():
            try:
                async with self._pool.acquire(timeout=SECONDS) as connection:
                    return await take(connection, event, self._options.start_midway)
            except NO_DATABASE as error:
                log.warning("no database, trying again: %r", error)
                # One that leads to a server that is no longer the primary looks alive.
                await self._pool.expire_connections()
            await self._pause()
        return None

    async def _pause(self) -> None:
        """Wait about a second: all consumers notice at once, and should not come back at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(0.5, 1.5)):
                await self._stopping.wait()


@asynccontextmanager
async def _deliveries(
    options: argparse.Namespace, stopping: asyncio.Event
) -> AsyncIterator[AsyncIterator[AbstractIncomingMessage]]:
    """Consume; the iterator ends when it is told to stop, and when the broker ends it."""
    arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
    # The default heartbeat notices a dead peer after minutes.
    url = URL(options.amqp_url).update_query(heartbeat="5")
    connection = await aio_pika.connect(url, timeout=SECONDS)
    stop = asyncio.create_task(stopping.wait())
    try:
        async with asyncio.timeout(SECONDS):
            channel = await connection.channel()
            for ends in await _ends_of(channel):
                ends.add(lambda *_: arrived.put_nowait(None))
            stop.add_done_callback(lambda _: arrived.put_nowait(None))
            # Those in hand count as tried when a process dies: with one, it is the one it died of.
            await channel.set_qos(prefetch_count=1)
            # It is not declared here: its arguments are the service's to choose.
            queue = await channel.get_queue(options.queue)
            await queue.consume(arrived.put)
        log.info("consuming %s", options.queue)
        yield _until_none(arrived, stopping)
    finally:
        stop.cancel()
        # A broker that hangs must not hold up the end.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await connection.close()


async def _ends_of(channel: AbstractChannel) -> tuple[Any, ...]:
    """What is called when no more messages will come: aio-pika tells by itself of neither."""
    cancelled = (await channel.get_underlay_channel()).on_consumer_cancel_callbacks
    return channel.close_callbacks, cancelled


async def _until_none(
    arrived: asyncio.Queue[AbstractIncomingMessage | None], stopping: asyncio.Event
) -> AsyncIterator[AbstractIncomingMessage]:
    while (message := await arrived.get()) and not stopping.is_set():
        yield message


async def prepare(pool: Pool, schema: str) -> None:
    """Make the tables unless they are there; two processes may start at once."""
    tables = Path(__file__).with_name("inbox.sql").read_text()
    async with pool.acquire(timeout=SECONDS) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('inbox'))")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await connection.execute(tables)


async def main(options: argparse.Namespace) -> None:
    """Run until SIGTERM or Ctrl-C."""
    schema = options.queue.replace(".", "_") + "_inbox"
    pool = await asyncpg.create_pool(
        options.database_url,
        min_size=0,
        max_size=1,
        timeout=SECONDS,
        command_timeout=SECONDS,
        server_settings={"search_path": schema, "application_name": f"consumer {options.queue}"},
    )
    try:
        consumer = Consumer(options, pool)
        # Not tried again: at the start, what does not work is rather a setting than an outage.
        await prepare(pool, schema)
        await consumer.run()
    finally:
        # Unlike close(), it waits for nobody.
        pool.terminate()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--queue", choices=QUEUES, required=True)
    parser.add_argument(
        "--amqp-url", default=os.environ.get("AMQP_URL"), help="or AMQP_URL, which no ps shows"
    )
    parser.add_argument(
        "--database-url", default=os.environ.get("DATABASE_URL"), help="or DATABASE_URL"
    )
    parser.add_argument(
        "--start-midway",
        action="store_true",
        help="let the first event that comes of a campaign be its first, for a queue that another "
        "consumer has emptied before; without, it waits for number 1. With two processes on the "
        "queue, number 2 may come first, and 1 would be taken for a copy",
    )
    options = parser.parse_args()
    if not options.amqp_url or not options.database_url:
        parser.error("AMQP_URL and DATABASE_URL are needed")
    return options


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    asyncio.run(main(arguments()))
