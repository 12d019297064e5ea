"""Idempotency: a request that is repeated under its key is answered again, and not done again."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from aiohttp import web

# Characters of a key; the schema has the same limit.
LONGEST = 255

# The key as it is, or as the string that the proposed standard wants (RFC 9651, 3.3.3); see
# https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
_PRINTABLE = re.compile(rf"[ -~]{{1,{LONGEST}}}")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')


class InvalidKey(Exception):
    """The header Idempotency-Key holds no key."""


class KeyReused(Exception):
    """The key came with another request before."""


class Answer(NamedTuple):
    """A response that can be given again, byte for byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False

    def response(self) -> web.Response:
        replayed = {"Idempotency-Replayed": "true"} if self.replayed else {}
        return web.Response(
            status=self.status,
            body=self.body,
            content_type="application/json",
            headers=self.headers | replayed,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that may come again: where, under which key, and what it says."""

    endpoint: str
    key: str
    fingerprint: bytes

    def replay(self, fingerprint: bytes, answer: Answer) -> Answer:
        """Give the answer again that the first attempt got.

        Raises:
            KeyReused: that was another request.
        """
        if fingerprint != self.fingerprint:
            raise KeyReused("This Idempotency-Key came with another body before.")
        return answer._replace(replayed=True)


def attempt(request: web.Request, meaning: Callable[[], dict[str, object]]) -> Attempt | None:
    """Tell this request from others by what it means; None: it has no key.

    Raises:
        InvalidKey: there is a header, but no key in it.
    """
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    canonical = orjson.dumps(meaning(), option=orjson.OPT_SORT_KEYS)
    return Attempt(
        f"{request.method} {request.path}", _key(values), hashlib.sha256(canonical).digest()
    )


def _key(values: list[str]) -> str:
    [value, *others] = values
    quoted = _QUOTED.fullmatch(value)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    if others or (value.startswith('"') and not quoted) or not _PRINTABLE.fullmatch(key):
        wanted = f"1 to {LONGEST} printable ASCII characters, in quotes or not"
        raise InvalidKey(f"Send one Idempotency-Key: {wanted}.")
    return key
