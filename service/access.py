"""Access: an id for every request, which its log line, its errors and its event carry."""

import re
import time
from typing import NamedTuple

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler

from service import ids, logs

logger = structlog.get_logger(__name__)

# What we take over from a caller: short, printable, without spaces, so that a log line stays one.
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# Characters of a path in a log line.
_LONGEST_PATH = 200
# Version 00 of https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Trace(NamedTuple):
    """Where a request belongs: our id or the caller's, and the caller's trace if it sent one."""

    request_id: str
    traceparent: str | None

    def as_headers(self) -> dict[str, str]:
        """What goes along with an event."""
        headers = {"request-id": self.request_id}
        return headers if self.traceparent is None else headers | {"traceparent": self.traceparent}


TRACE: web.RequestKey[Trace] = web.RequestKey("TRACE")
_STARTED: web.RequestKey[float] = web.RequestKey("_STARTED")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Trace the request, and answer with its id."""
    request[_STARTED] = time.perf_counter()
    current = request[TRACE] = trace(request)
    logs.bind(request_id=current.request_id)
    response = await handler(request)
    response.headers["X-Request-ID"] = current.request_id
    return response


class Log(AbstractAccessLogger):
    """A line for each request, when its answer is sent: nobody waits until it is written."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, _: float) -> None:
        """Tell how it ended; of what was no request, nothing is known.

        The time is our own, as that of the event loop is in whole milliseconds.
        """
        if _STARTED not in request:
            return
        # Probes come every few seconds and would bury the rest.
        log = logger.info if request.path.startswith("/api/") else logger.debug
        log(
            "request",
            method=request.method,
            path=shown(request),
            status=response.status,
            milliseconds=round((time.perf_counter() - request[_STARTED]) * 1000, 1),
        )


def shown(request: web.BaseRequest) -> str:
    """The path as a log may have it: encoded as it was sent, and not for ever."""
    return request.rel_url.raw_path[:_LONGEST_PATH]


def trace(request: web.BaseRequest) -> Trace:
    """Take over what the caller says of itself, as far as it may go into a log line."""
    request_id = request.headers.get("X-Request-ID", "")
    traceparent = request.headers.get("traceparent", "")
    return Trace(
        request_id if _REQUEST_ID.fullmatch(request_id) else str(ids.new()),
        traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
    )
