"""`campaigns events tail`: what the bus is told, as it is told."""

import argparse
import sys

import orjson
import uvloop

from service import broker, tail
from service.failure import Failure
from service.settings import Settings


def watch(options: argparse.Namespace, settings: Settings) -> None:
    async def tail_events() -> None:
        async with tail.events(settings) as events:
            print("Waiting for events; stop with Ctrl-C.", file=sys.stderr, flush=True)
            async for body in events:
                print(body.decode() if options.json else _readable(body), flush=True)

    try:
        uvloop.run(tail_events())
    except BrokenPipeError:
        raise
    except broker.ERRORS as error:
        raise Failure(f"RabbitMQ cannot be used, check AMQP_URL: {error}") from error
    raise Failure("RabbitMQ closed the connection")


def _readable(body: bytes) -> str:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
