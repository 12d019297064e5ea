"""Preconditions: which version of a campaign a caller speaks of (RFC 9110, 13)."""

import re
from dataclasses import dataclass

from aiohttp import web

from service.drafts import Campaign
from service.settings import SETTINGS

# RFC 9110, 8.8.3; in a list of them, places may be empty (5.6.1).
_ETAG = re.compile(r'(W/)?("[!#-~\x80-\U0010ffff]*")')


class Invalid(Exception):
    """The header holds no ETags."""


class Failed(Exception):
    """The campaign has another version than the caller takes for granted."""

    def __init__(self, etag: str) -> None:
        super().__init__(f"The campaign has changed: its ETag is {etag} now.")
        self.etag = etag


class Required(Exception):
    """The caller does not say which version it has seen, and has to."""


@dataclass(frozen=True, slots=True)
class ETags:
    """Those of a header; `*` is any."""

    strong: frozenset[str]
    weak: frozenset[str]
    is_any: bool

    def match(self, campaign: Campaign) -> bool:
        """Whether it is this version, to the last byte."""
        return self.is_any or campaign.etag in self.strong

    def match_weakly(self, campaign: Campaign) -> bool:
        """Whether it is as good as this version."""
        return self.match(campaign) or campaign.etag in self.weak


@dataclass(frozen=True, slots=True)
class Precondition:
    """What a caller who changes a campaign takes for granted."""

    if_match: ETags | None
    if_none_match: ETags | None

    def check(self, campaign: Campaign) -> None:
        """Raises: Failed."""
        is_other = self.if_match and not self.if_match.match(campaign)
        is_ruled_out = self.if_none_match and self.if_none_match.match_weakly(campaign)
        if is_other or is_ruled_out:
            raise Failed(campaign.etag)


def of(request: web.Request) -> Precondition:
    """Read the preconditions of a change.

    Raises:
        Invalid: there is a header, but no ETag in it.
        Required: there is no If-Match, and the settings demand one.
    """
    if_match = _read(request, "If-Match")
    if if_match is None and request.app[SETTINGS].require_if_match:
        raise Required("Send the ETag of the campaign that you have read in the header If-Match.")
    return Precondition(if_match, _read(request, "If-None-Match"))


def is_known(request: web.Request, campaign: Campaign) -> bool:
    """Whether If-None-Match says that the caller has this version already.

    Raises:
        Invalid: there is a header, but no ETag in it.
    """
    given = _read(request, "If-None-Match")
    return given is not None and given.match_weakly(campaign)


def _read(request: web.Request, name: str) -> ETags | None:
    lines = request.headers.getall(name, [])
    if not lines:
        return None
    text = ",".join(lines).strip(" \t")
    if text == "*":
        return ETags(frozenset(), frozenset(), is_any=True)
    found = _ETAG.findall(text)
    if not found or _ETAG.sub("", text).strip(" \t,"):
        raise Invalid(f'Send {name} as ETags in quotes, such as "3", or as *.')
    return ETags(
        strong=frozenset(tag for weak, tag in found if not weak),
        weak=frozenset(tag for weak, tag in found if weak),
        is_any=False,
    )
