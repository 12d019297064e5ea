"""The oracle: what callers were told and consumers were given, held against what is stored."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from service.postgres import Connection
from tests.consumers import QUEUES, eventually

# What an outcome may be besides a success: the caller is told to come back, or knows nothing.
_NOT_NOW = {None, 429, 503}

# Objections of one kind that are told; with hundreds nobody would read any.
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request; no status: the connection broke, or nothing came in time."""

    method: str
    key: str
    status: int | None
    body: bytes = b""
    campaign_id: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as a consumer got it; `properties` are all that the service says beside it."""

    message_id: str
    body: bytes
    redelivered: bool = False
    properties: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the history."""

    campaign_id: int
    version: int
    change: str
    event_id: str
    event_body: bytes


@dataclass(slots=True)
class Stored:
    """What the database has of one organization; a create's key is the name of its campaign."""

    campaigns: set[int] = field(default_factory=set)
    history: list[Change] = field(default_factory=list)
    outbox: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """What the body of an event says."""

    campaign_id: int
    sequence: int
    organization_id: int
    name: str

    @staticmethod
    def of(body: bytes) -> "Event":
        event = json.loads(body)
        campaign = event["data"]["campaign"]
        return Event(
            campaign["id"], int(event["sequence"]), campaign["organization_id"], campaign["name"]
        )


class Ledger:
    """Everything that was answered and consumed during one scenario."""

    def __init__(self, organization: int) -> None:
        self.organization = organization
        self.outcomes: list[Outcome] = []
        self.arrivals: dict[str, list[Arrival]] = {name: [] for name in QUEUES}
        # Seconds that the outbox needed to become empty, and what was lost, once that was checked.
        self.empty_after: float | None = None
        self.lost: int | None = None

    def note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def take(self, queue: str, arrival: Arrival) -> None:
        """Note a message, unless it is another organization's, or of no campaign."""
        try:
            event = Event.of(arrival.body)
        except (KeyError, TypeError, ValueError):
            return
        if event.organization_id == self.organization:
            self.arrivals[queue].append(arrival)

    @property
    def successes(self) -> int:
        return sum(_is_success(outcome) for outcome in self.outcomes)

    @property
    def received(self) -> int:
        return sum(map(len, self.arrivals.values()))

    @property
    def copies(self) -> int:
        """Messages that a queue had been given before."""
        return sum(
            len(arrivals) - len({arrival.message_id for arrival in arrivals})
            for arrivals in self.arrivals.values()
        )

    def figures(self) -> str:
        """What was seen, in short."""
        keys = Counter(outcome.key for outcome in self.outcomes)
        created = {o.key for o in self.outcomes if o.method == "POST" and _is_success(o)}
        changed = {o.key for o in self.outcomes if o.method != "POST" and _is_success(o)}
        unknown = sum(outcome.status is None for outcome in self.outcomes)
        parts = [
            f"{len(created):,} creates",
            f"{len(changed):,} changes",
            f"{sum(count > 1 for count in keys.values()):,} retried",
            f"{unknown:,} outcomes unknown",
            f"{self.copies:,} duplicates",
        ]
        if self.lost is not None:
            parts.insert(-1, f"{self.lost:,} lost")
        if self.empty_after is not None:
            parts.append(f"empty after {self.empty_after:.1f} s")
        return ", ".join(parts)

    async def check(self, connection: Connection, seconds: float) -> None:
        """Fail unless all is as it must be, at the latest after `seconds` without any help."""
        began = time.monotonic()
        stored = Stored()

        async def is_settled() -> bool:
            nonlocal stored
            stored = await read(connection, self.organization)
            if self.empty_after is None and not stored.outbox:
                self.empty_after = time.monotonic() - began
            # A confirmed event may still be on its way to the consumer.
            return not stored.outbox and not self._missing(stored)

        try:
            async with asyncio.timeout(seconds):
                # A look at thousands of rows is not for every turn of the event loop.
                while not await is_settled():  # noqa: ASYNC110 (it sets no event)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            stored = await read(connection, self.organization)
        self.lost = len(self._lost(stored) + self._missing(stored))
        objections = self.objections(stored)
        assert not objections, "\n".join(objections)

    def objections(self, stored: Stored) -> list[str]:
        """Everything that contradicts the promises."""
        kinds = [
            self._still_waiting(stored),
            self._refused(),
            self._lost(stored),
            self._stored_twice(stored),
            self._answered_differently(),
            self._missing(stored),
            self._unfounded(stored),
            self._disordered(),
            self._altered(stored),
        ]
        return [objection for kind in kinds for objection in _shortened(kind)]

    def _still_waiting(self, stored: Stored) -> list[str]:
        return [f"the outbox still has {stored.outbox} events"] if stored.outbox else []

    def _refused(self) -> list[str]:
        return [
            f"{outcome.method} was answered {outcome.status}: {outcome.body.decode()}"
            for outcome in self.outcomes
            if outcome.status not in _NOT_NOW and not _is_success(outcome)
        ]

    def _lost(self, stored: Stored) -> list[str]:
        """What a caller was told to be stored, and is not."""
        made = {(change.campaign_id, change.version) for change in stored.history}
        deleted = {change.campaign_id for change in stored.history if change.change == "deleted"}
        lost: list[str] = []
        for outcome in filter(_is_success, self.outcomes):
            if outcome.method == "DELETE":
                if outcome.campaign_id not in deleted:
                    lost.append(f"campaign {outcome.campaign_id} was deleted, and is not")
                continue
            campaign = json.loads(outcome.body)
            if campaign["id"] not in stored.campaigns:
                lost.append(f"campaign {campaign['id']} was answered {outcome.status}, and is lost")
            elif (campaign["id"], campaign["version"]) not in made:
                lost.append(f"version {campaign['version']} of {campaign['id']} is lost")
        return lost

    def _stored_twice(self, stored: Stored) -> list[str]:
        sent = {outcome.key for outcome in self.outcomes if outcome.method == "POST"}
        names = Counter(
            Event.of(change.event_body).name for change in stored.history if change.version == 1
        )
        return [
            f"the key {key} made {names[key]} campaigns" for key in sorted(sent) if names[key] > 1
        ]

    def _answered_differently(self) -> list[str]:
        answers: dict[str, set[bytes]] = defaultdict(set)
        for outcome in filter(_is_success, self.outcomes):
            answers[outcome.key].add(outcome.body)
        return [
            f"the key {key} got {len(bodies)} answers"
            for key, bodies in answers.items()
            if len(bodies) > 1
        ]

    def _missing(self, stored: Stored) -> list[str]:
        missing: list[str] = []
        for queue, arrivals in self.arrivals.items():
            there = {arrival.message_id for arrival in arrivals}
            missing += [
                f"event {change.version} of {change.campaign_id} never reached {queue}"
                for change in stored.history
                if change.event_id not in there
            ]
        return missing

    def _unfounded(self, stored: Stored) -> list[str]:
        """Events of which nothing is stored."""
        known = {change.event_id for change in stored.history}
        unfounded = {
            arrival.message_id: arrival
            for arrivals in self.arrivals.values()
            for arrival in arrivals
            if arrival.message_id not in known
            or Event.of(arrival.body).campaign_id not in stored.campaigns
        }
        return [
            f"nobody stored event {message_id} of campaign {Event.of(arrival.body).campaign_id}"
            for message_id, arrival in unfounded.items()
        ]

    def _disordered(self) -> list[str]:
        disordered: list[str] = []
        for queue, arrivals in self.arrivals.items():
            seen: set[str] = set()
            sequences: dict[int, list[int]] = defaultdict(list)
            for arrival in arrivals:
                if arrival.message_id not in seen:
                    seen.add(arrival.message_id)
                    event = Event.of(arrival.body)
                    sequences[event.campaign_id].append(event.sequence)
            disordered += [
                f"{queue} got {campaign_id} in the order {came}"
                for campaign_id, came in sequences.items()
                if came != [*range(1, len(came) + 1)]
            ]
        return disordered

    def _altered(self, stored: Stored) -> list[str]:
        bodies = {change.event_id: {change.event_body} for change in stored.history}
        properties: dict[str, set[str]] = defaultdict(set)
        for arrivals in self.arrivals.values():
            for arrival in arrivals:
                bodies.setdefault(arrival.message_id, set()).add(arrival.body)
                properties[arrival.message_id].add(arrival.properties)
        return [
            f"{what} event {name} differ"
            for what, all_ in (("copies of", bodies), ("properties of", properties))
            for name, variants in all_.items()
            if len(variants) > 1
        ]


def _is_success(outcome: Outcome) -> bool:
    return outcome.status is not None and 200 <= outcome.status < 300


def _shortened(objections: list[str]) -> list[str]:
    more = len(objections) - _TOLD
    return objections[:_TOLD] + ([f"... and {more} more like the last"] if more > 0 else [])


async def read(connection: Connection, organization: int) -> Stored:
    """What is stored of an organization, deleted or not, as of one moment."""
    async with connection.transaction(isolation="repeatable_read"):
        campaigns = await connection.fetch(
            "SELECT id FROM campaigns WHERE organization_id = $1", organization
        )
        history = await connection.fetch(
            "SELECT campaign_id, version, change, event_id, event_body"
            " FROM campaign_history WHERE organization_id = $1",
            organization,
        )
        outbox = await connection.fetchval(
            "SELECT count(*) FROM outbox WHERE organization_id = $1", organization
        )
    return Stored(
        campaigns={row["id"] for row in campaigns},
        history=[
            Change(
                row["campaign_id"],
                row["version"],
                row["change"],
                str(row["event_id"]),
                row["event_body"].encode(),
            )
            for row in history
        ],
        outbox=outbox,
    )


async def emptied(connection: Connection, seconds: float) -> float:
    """Seconds until the events that are in the outbox now have left it."""
    began = time.monotonic()
    waiting = [row["event_id"] for row in await connection.fetch("SELECT event_id FROM outbox")]

    async def have_left() -> bool:
        return not await connection.fetchval(
            "SELECT count(*) FROM outbox WHERE event_id = ANY($1)", waiting
        )

    await eventually(have_left, seconds, f"{len(waiting)} events leave the outbox")
    return time.monotonic() - began
