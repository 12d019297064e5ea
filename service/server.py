"""The HTTP server: aiohttp's, whose answers to what is no HTTP are problem documents as well."""

import asyncio
import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from service import access, connections, files, problems
from service.capacity import CAPACITY
from service.failure import Failure
from service.settings import SETTINGS, Settings

logger = structlog.get_logger(__name__)


async def run(
    app: web.Application, settings: Settings, tell: Callable[[], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests and relay finish.

    One of several processes that share the port calls `tell` when it listens.

    Raises:
        Failure: this process may not open enough connections; or nobody may listen at this
            address, or somebody does already.
    """
    files.claim(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = _Runner(
        app,
        # It waits twice: for requests to finish, and for those that it has told to end.
        shutdown_timeout=settings.shutdown_seconds / 2,
        **_limits(settings),
    )
    # What is there now stays for good, and requests leave hardly a cycle behind. By default these
    # are looked for after every 700 objects, which took 8 % of a create.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        await runner.setup()
        await _listen(runner, settings, shared=tell is not None)
        if tell:
            tell()
        await stopped.wait()
    finally:
        await runner.cleanup()


def check_address(settings: Settings) -> None:
    """See that nobody else listens there, which several processes that share a port do not mind.

    Done before one process, too, so that both say the same: uvloop has words of its own.

    Raises:
        Failure: as above.
    """

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, settings.http_host, settings.http_port
        )
        server.close()

    with _refusals(settings):
        # Not uvloop's: its threads would stay, and a process that has threads must not fork.
        asyncio.run(listen())


async def _listen(runner: web.AppRunner, settings: Settings, *, shared: bool) -> None:
    # All that wait are accepted at once; were they as many as there may be connections, a crowd
    # could push somebody out again before the request is read.
    backlog = max(settings.http_connections // 4, 1)
    site = web.TCPSite(
        runner,
        settings.http_host,
        settings.http_port,
        backlog=backlog,
        reuse_port=shared,
    )
    with _refusals(settings):
        await site.start()
    logger.info("listening", host=settings.http_host, port=settings.http_port)


@contextmanager
def _refusals(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        address = f"{settings.http_host}:{settings.http_port}"
        raise Failure(f"cannot listen on {address}, set HTTP_HOST or HTTP_PORT: {error}") from error


def _limits(settings: Settings) -> dict[str, Any]:
    return {
        "keepalive_timeout": settings.http_idle_seconds,
        # A body that was refused unread gets as long as any other, or the answer may get lost.
        "lingering_time": settings.http_body_timeout_seconds,
        # All headers together are limited, so a line or their number needs no limit of its own.
        "max_line_size": settings.http_header_bytes,
        "max_field_size": settings.http_header_bytes,
        "max_headers": settings.http_header_bytes,
    }


class _Connection(connections.Connection):
    """What aiohttp cannot parse never gets to the middlewares, and it would log it as it came."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer in place of a handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("An answer is on its way already.")
        trace, error = access.trace(request), exc or RuntimeError(message)
        if not isinstance(error, HttpProcessingError | connections.Refused):
            logger.error(
                "request failed", status=status, request_id=trace.request_id, exc_info=error
            )
        return problems.document(trace, error)


class _Server(web.Server):
    def __init__(self, app: web.Application, made: web.Server) -> None:
        make_request = made.request_factory
        super().__init__(
            made.request_handler,
            request_factory=lambda message, *rest: make_request(_harmless(message), *rest),
            capacity=app[CAPACITY],
            limits=app[SETTINGS],
            **made._kwargs,
        )

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        # An AppRunner makes its server by itself, and has no parameter for the class.
        return _Server(self.app, await super()._make_server())


def _harmless(message: RawRequestMessage) -> RawRequestMessage:
    """Take away what aiohttp would stumble over before any middleware is in charge.

    Expectations that nobody knows may be ignored (RFC 9110, 10.1.1); a host that is no name says
    nothing, as all hosts are ours, but nobody would answer.
    """
    if message.headers.get("Expect", "100-continue").lower() != "100-continue":
        known = CIMultiDict(message.headers)
        del known["Expect"]
        message = message._replace(headers=CIMultiDictProxy(known))
    try:
        _ = message.url.host
    except ValueError:
        path, query = message.url.raw_path, message.url.raw_query_string
        message = message._replace(url=URL.build(path=path, query_string=query, encoded=True))
    return message
