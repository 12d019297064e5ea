"""Request bodies: from what arrives to one JSON value, or one refusal that says what is wrong."""

import asyncio
import json
import math
from collections import Counter
from typing import Any, NoReturn

from aiohttp import HttpVersion11, web

from service.settings import SETTINGS
from service.slots import SLOTS

# Bytes; far above the longest campaign that makes sense.
LARGEST = 1024 * 1024

# Characters; a longer number becomes infinite, which no field accepts, instead of being calculated.
_LONGEST_NUMBER = 100


class NotJson(Exception):
    """The headers do not announce JSON in UTF-8."""


class Encoded(Exception):
    """The body is compressed."""


class TooSlow(Exception):
    """The body did not arrive in time."""


class TooLarge(Exception):
    """The body is larger than `LARGEST`."""


class Incomplete(Exception):
    """The caller went away while it was sending; nobody reads the answer, and nothing is ours."""


class Malformed(Exception):
    """The body is not JSON; the text says where it stops being so."""


class RepeatedNames(dict[str, Any]):
    """A JSON object that has a name more than once, of which this keeps the last value."""

    repeated: frozenset[str]


# For PATCH, also what the format is called there (RFC 7396).
_TYPES = ("application/json", "application/merge-patch+json")


async def read(request: web.Request, otherwise: Any = None) -> Any:
    """Read the body, for which the caller has the time of `http_body_timeout_seconds`.

    If there is `otherwise` something, it is what no body at all means.

    Raises:
        NotJson, Encoded: by its headers.
        TooLarge: as soon as that is known.
        TooSlow, Incomplete: it does not arrive.
        turns.Overloaded: there is no slot for it when it has arrived.
        Malformed: what arrives is not JSON.
    """
    if otherwise is not None and not request.body_exists:
        return otherwise
    types = _TYPES if request.method == "PATCH" else _TYPES[:1]
    if request.content_type not in types or (request.charset or "utf-8").lower() not in (
        "utf-8",
        "utf8",
    ):
        raise NotJson("Send the body as 'Content-Type: application/json', in UTF-8.")
    if any(
        coding.lower() != "identity" for coding in request.headers.getall("Content-Encoding", [])
    ):
        raise Encoded("Send the body as it is, without a Content-Encoding.")
    if (request.content_length or 0) > LARGEST:
        raise _too_large()
    return parse(await _receive(request))


async def _receive(request: web.Request) -> bytes:
    try:
        if not request.content.is_eof():
            return await _arriving(request)
        # All of it is here already, as nearly always.
        body = request.content.read_nowait()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except ConnectionResetError as error:
        raise Incomplete("The connection ended before the body did.") from error
    except web.RequestPayloadError as error:
        raise Malformed("The body does not arrive as its headers announce.") from error
    if len(body) > LARGEST:
        raise _too_large()
    return body


async def _arriving(request: web.Request) -> bytes:
    timeout_seconds = request.app[SETTINGS].http_body_timeout_seconds
    try:
        # The caller may be slow on purpose, so others work meanwhile. It keeps its place in the
        # share of its organization, or the bytes that have arrived would fill the memory.
        with request.app[SLOTS].all.lent():
            async with asyncio.timeout(timeout_seconds):
                await _ask_for_body(request)
                return await request.read()
    except TimeoutError as error:
        raise TooSlow(f"The body did not arrive within {timeout_seconds:g} seconds.") from error


def _too_large() -> TooLarge:
    return TooLarge(f"A body may have at most {LARGEST} bytes.")


async def ignore_expectation(_request: web.Request) -> None:
    """Leave `Expect: 100-continue` to `read`, so that nobody sends what is refused anyway."""


async def _ask_for_body(request: web.Request) -> None:
    expected = request.headers.get("Expect", "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Or aiohttp takes the answer for begun already.
        request.writer.output_size = 0


def parse(body: bytes) -> Any:
    """Read JSON (RFC 8259) without the liberties that Python takes.

    Raises:
        Malformed: it is something else, from some place on.
    """
    try:
        return _DECODER.decode(_text(body))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise Malformed(f"The body is not valid JSON: {error.msg}: {place}.") from error
    except RecursionError as error:
        raise Malformed("The body is not valid JSON: it is nested too deeply.") from error


def _text(body: bytes) -> str:
    if not body:
        raise Malformed("The body is not valid JSON: it is empty.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not valid UTF-8: at byte {error.start + 1}.") from error
    if text.startswith("\ufeff"):
        raise Malformed("The body is not valid JSON: it begins with a byte order mark.")
    return text


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(members)
    if len(values) == len(members):
        return values
    counts = Counter(name for name, _ in members)
    repeating = RepeatedNames(values)
    repeating.repeated = frozenset(name for name, count in counts.items() if count > 1)
    return repeating


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else math.inf


def _float(digits: str) -> float:
    return float(digits) if len(digits) <= _LONGEST_NUMBER else math.inf


def _no_number(word: str) -> NoReturn:
    raise Malformed(f"The body is not valid JSON: {word} is not a JSON value.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_no_number,
)
