"""Connections: aiohttp's, but a client has little time and space before it has sent a request.

From then on the request's own bounds are in charge, and those of the answer.
"""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from service.capacity import Capacity
from service.settings import Settings


class Refused(Exception):
    """Nothing more is read from this connection; the text says why."""


class HeadersTooSlow(Refused):
    """The headers of a request did not arrive in time."""


class HeadersTooLarge(Refused):
    """The headers of a request have too many bytes."""


class Full(Refused):
    """As many connections are open as may be, and all of them are at work."""


class Connection(web.RequestHandler):
    """One connection, from the first byte to the last answer."""

    __slots__ = (
        "_body",
        "_capacity",
        "_head_bytes",
        "_head_end",
        "_head_since",
        "_limits",
        "_refused",
        "_socket",
        "_unsent_since",
        "is_strangers",
    )

    # aiohttp forgets its own as soon as it wants to close, but it closes when all has been sent.
    _socket: asyncio.Transport

    def __init__(
        self, server: web.Server, capacity: Capacity, limits: Settings, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._capacity = capacity
        self._limits = limits
        self._refused = False
        # The body of the last request, and what has arrived behind it without being one.
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self._head_end = b""
        self._head_since: float | None = self._loop.time()
        self.is_strangers = True
        self._unsent_since: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is lost with it; who does not take the answers loses them."""
        return self.writing_paused or not self._is_at_work

    @property
    def _is_at_work(self) -> bool:
        return self._request_in_progress or bool(self._messages)

    def abort(self) -> None:
        """Close it now, whatever is on its way."""
        self._socket.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._socket = self.transport
        if not self._capacity.admit(self):
            self._refuse(Full("All connections are at work. Try again later."))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._capacity.forget(self)
        super().connection_lost(exc)

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Any
    ) -> tuple[web.StreamResponse, bool]:
        if self._messages:
            # From Python 3.12 on, aiohttp would work off all that one client has sent at once
            # before anybody else gets a turn.
            await asyncio.sleep(0)
        return await super()._handle_request(request, start_time, request_handler)

    def data_received(self, data: bytes) -> None:
        """Parse no more at once than headers may have, so that too many are noticed before."""
        while not self._refused:
            # At least a byte at a time, so that this ends whatever was counted.
            room = max(self._limits.http_header_bytes - self._head_bytes, 1)
            piece, data = data[:room], data[room:]
            self._parse(piece)
            if not data:
                break

    def _parse(self, piece: bytes) -> None:
        is_head, requests = self._body.is_eof(), self._request_count
        super().data_received(piece)
        # It is counted when its headers are complete.
        if self._request_count > requests:
            self._body = self._messages[-1][1]
            self._begin_head(piece)
            self._capacity.renew(self)
        elif is_head and piece:
            self._head_bytes += len(piece)
            self._head_end = (self._head_end + piece)[-3:]
            self._head_since = self._head_since or self._loop.time()
            if self._head_bytes >= self._limits.http_header_bytes:
                most = f"{self._limits.http_header_bytes:,}"
                self._refuse(HeadersTooLarge(f"A request may have {most} bytes before its body."))

    def _begin_head(self, piece: bytes) -> None:
        """Count what has come of the next head; nobody knows where it begins behind a body."""
        _, end, rest = (self._head_end + piece).rpartition(b"\r\n\r\n")
        if not end or self._body is not EMPTY_PAYLOAD:
            rest = b""
        self._head_bytes, self._head_end = len(rest), rest[-3:]
        self._head_since = self._loop.time() if rest else None

    def review(self, now: float) -> None:
        """End what takes too long."""
        if not self._socket.get_write_buffer_size():
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        elif now - self._unsent_since > self._limits.http_answer_timeout_seconds:
            self.abort()
        if self._head_since is None:
            return
        if self._is_at_work:
            # The next request may have to wait for us, too.
            self._head_since = now
        elif now - self._head_since > self._limits.http_header_timeout_seconds:
            self._give_up()

    def _give_up(self) -> None:
        if self._head_bytes:
            seconds = self._limits.http_header_timeout_seconds
            self._refuse(HeadersTooSlow(f"The headers did not arrive within {seconds:g} seconds."))
        else:
            self.force_close()

    def _refuse(self, reason: Refused) -> None:
        """Answer this in place of a request, as aiohttp does where it finds none."""
        self._refused, self._head_since = True, None
        self._messages.append((_ErrInfo(status=400, exc=reason, message=""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def protect(request: web.Request) -> None:
    """Let the connection of a known caller make no room for others while it is at work."""
    if isinstance(request.protocol, Connection):
        request.protocol.is_strangers = False
