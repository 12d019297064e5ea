"""Preconditions: which version of a campaign a caller speaks of (RFC 9110, 13)."""

from dataclasses import dataclass

from aiohttp import web
from aiohttp.helpers import ETAG_ANY

from service.drafts import Campaign
from service.settings import SETTINGS


class Failed(Exception):
    """The campaign has another version by now."""

    def __init__(self, etag: str) -> None:
        super().__init__(f"The campaign has changed: its ETag is {etag} now.")
        self.etag = etag


class Required(Exception):
    """The caller does not say which version it has seen, and has to."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """The versions of which one must be the current one; None: any."""

    etags: frozenset[str] | None

    def check(self, campaign: Campaign) -> None:
        """Raises: Failed."""
        if self.etags is not None and campaign.etag not in self.etags:
            raise Failed(campaign.etag)


def of(request: web.Request) -> Precondition:
    """Read If-Match, in which a weak ETag is none.

    Raises:
        Required: there is none, and the settings demand one.
    """
    if "If-Match" not in request.headers:
        if request.app[SETTINGS].require_if_match:
            raise Required(
                "Send the ETag of the campaign that you have read in the header If-Match."
            )
        return Precondition(None)
    given = request.if_match or ()
    if any(tag.value == ETAG_ANY for tag in given):
        return Precondition(None)
    return Precondition(frozenset(f'"{tag.value}"' for tag in given if not tag.is_weak))


def is_known(request: web.Request, campaign: Campaign) -> bool:
    """Whether If-None-Match says that the caller has this version already."""
    given = request.if_none_match or ()
    return any(tag.value in (ETAG_ANY, str(campaign.version)) for tag in given)
