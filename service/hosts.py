"""Hosts: the servers that one URL of PostgreSQL names, of which one takes writes."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

# The server's or the network's fault, not the statement's.
UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class Hosts:
    """The servers that a URL names, a primary and its standbys, in the order to try them in."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        scheme, _, rest = url.partition("://")
        place = re.split("[/?#]", rest, maxsplit=1)[0]
        login, at, hosts = place.rpartition("@")
        path = rest.removeprefix(place)
        self._urls = [f"{scheme}://{login}{at}{host}{path}" for host in hosts.split(",")]
        self._timeout_seconds = timeout_seconds
        # One server alone is used whatever it is: if it takes no writes, it still can be read.
        several = len(self._urls) > 1
        chosen = "target_session_attrs" in parse_qs(urlsplit(url).query)
        self._wanted = SessionAttribute.read_write if several and not chosen else None

    async def connect(
        self, *_url: str | None, **options: Any
    ) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect to the first that will have us; the one that did so last is asked first.

        Each has its share of the time: the client gives all of it to a first one that hangs.
        """
        share = self._timeout_seconds / len(self._urls)
        errors: list[Exception] = []
        for url in list(self._urls):
            try:
                connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
                    url,
                    timeout=share,
                    command_timeout=self._timeout_seconds,
                    target_session_attrs=self._wanted,
                    **options,
                )
            except UNREACHABLE as error:
                errors.append(error)
            else:
                self._urls.sort(key=lambda other: other != url)
                return connection
        # That a standby is one explains less than what is wrong with the others.
        raise min(errors, key=lambda e: isinstance(e, asyncpg.TargetServerAttributeNotMatched))
