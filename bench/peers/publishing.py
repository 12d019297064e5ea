"""Floor P: confirmed publishing of one event after another, and nothing else.

So many are in flight at a time. Prints how many a second, and the latency of one, as JSON.
"""

import argparse
import asyncio
import json
import os
import time
from dataclasses import asdict

import aio_pika
import uvloop

from bench import versions
from bench.load import Load
from service import events, topology


async def publish(amqp_url: str, seconds: float, in_flight: int) -> Load:
    """Publish for so long."""
    latencies: list[float] = []
    event = versions.example().event
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange(topology.EXCHANGE)
        started = time.perf_counter()
        end = started + seconds

        async def one_after_another() -> None:
            while (began := time.perf_counter()) < end:
                message = aio_pika.Message(
                    event.body,
                    content_type=events.CONTENT_TYPE,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=str(event.id),
                    type=event.type,
                    timestamp=event.time,
                    headers={**event.headers},
                )
                await exchange.publish(message, event.type)
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        took = time.perf_counter() - started
    latencies.sort()
    return Load(
        per_second=len(latencies) / took,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
        count=len(latencies),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    options = parser.parse_args()
    done = uvloop.run(publish(os.environ["AMQP_URL"], options.seconds, options.in_flight))
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
