"""The service, which also counts what its interpreter does; started by `effort`.

Instructions and calls are the same however busy the machine is, so that they can be held against a
bound, as no time can. What a call of C does inside is not seen.
"""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any

import uvloop
from aiohttp import web

from service import broker, logs, postgres, relay, schemas, server, settings
from service.app import create_app
from service.settings import SETTINGS

PUBLISHER: web.AppKey[broker.Publisher] = web.AppKey("PUBLISHER")


class _Counts:
    """Instructions of Python, and calls of functions that are written in C, of this thread."""

    def __init__(self) -> None:
        self._instructions = self._calls = 0

    def take(self) -> dict[str, int]:
        """What there was since it was last asked; from now on it counts."""
        taken = {"instructions": self._instructions, "calls": self._calls}
        self._instructions = self._calls = 0
        sys.settrace(self._enter)
        sys.setprofile(self._profile)
        return taken

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._trace

    def _trace(self, _frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        self._instructions += event == "opcode"
        return self._trace

    def _profile(self, _frame: FrameType, event: str, _argument: object) -> None:
        self._calls += event == "c_call"


COUNTS: web.AppKey[_Counts] = web.AppKey("COUNTS")


async def take(request: web.Request) -> web.Response:
    return web.json_response(request.app[COUNTS].take())


async def publish(request: web.Request) -> web.Response:
    """Let a relay empty the outbox; answer what each batch took."""
    counts, publisher = request.app[COUNTS], request.app[PUBLISHER]
    one = relay.Relay(request.app[postgres.POOL], request.app[SETTINGS])
    batches = []
    counts.take()
    while published := (await one.step(publisher))["confirmed"]:
        batches.append(counts.take() | {"events": published})
    return web.json_response(batches)


async def _publisher(app: web.Application) -> AsyncIterator[None]:
    async with broker.publisher(app[SETTINGS]) as app[PUBLISHER]:
        yield


def _check_twice() -> None:
    once = schemas.load_draft

    def load_draft(body: Any) -> Any:
        once(body)
        return once(body)

    schemas.load_draft = load_draft


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--twice", action="store_true", help="check each body twice")
    if parser.parse_args().twice:
        _check_twice()
    loaded = settings.load(os.environ)
    logs.configure(loaded)
    app = create_app(loaded, with_relay=False)
    app[COUNTS] = _Counts()
    app.cleanup_ctx.append(_publisher)
    app.add_routes([web.post("/counts", take), web.post("/published", publish)])
    uvloop.run(server.run(app, loaded))


if __name__ == "__main__":
    main()
