"""The HTTP server: aiohttp's, whose answers to what is no HTTP are problem documents as well."""

import asyncio
import signal

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from service import access, problems
from service.settings import Settings

logger = structlog.get_logger(__name__)


async def run(app: web.Application, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let requests and relay finish.

    Raises:
        OSError: nobody may listen at this address, or somebody does already.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = _Runner(app, access_log=None, shutdown_timeout=settings.shutdown_seconds)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


class _Connection(web.RequestHandler):
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
        if not isinstance(error, HttpProcessingError):
            logger.error(
                "request failed", status=status, request_id=trace.request_id, exc_info=error
            )
        return problems.document(trace, error)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # An AppRunner makes its server by itself, and has no parameter for the class.
        server.__class__ = _Server
        make_request = server.request_factory
        server.request_factory = lambda message, *rest: make_request(_harmless(message), *rest)
        return server


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
