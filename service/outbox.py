"""Outbox: what operators see of the events that wait in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Numbers of events: each that waits is counted once more, by what it waits for."""

    total: int
    due: int
    postponed: int
    behind_postponed: int
    parked: int
    behind_parked: int
    # None: there is none.
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why so many events are postponed, or parked."""

    parked: bool
    reason: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """How many events have come and gone until then, in seconds of the database's clock."""

    entered: int
    gone: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Parked:
    """An event that no attempt can deliver; `behind` others of its campaign wait for it."""

    organization_id: int
    campaign_id: int
    sequence: int
    type: str
    event_id: str
    created_at: datetime
    attempts: int
    behind: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ParkedEvent(Parked):
    """The same, with what would be published."""

    # Whether it can be republished when it is not in the outbox any more.
    in_history: bool
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How many events were parked and are tried again, and how many others waited for them."""

    replayed: int
    behind: int


def events(number: int) -> str:
    """The beginning of a sentence about so many of them."""
    return "1 event is" if number == 1 else f"{number:,} events are"
