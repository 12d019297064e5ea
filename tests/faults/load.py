"""A bounded load: callers who create, change and delete, and never give up before it ends."""

import asyncio
import json
import random
import secrets
from collections.abc import Sequence
from typing import Any, Self

import aiohttp

from tests.consumers import eventually
from tests.faults.ledger import Ledger, Outcome
from tests.test_create import EXAMPLE

PATH = "/api/v1/campaigns"

# Seconds that a caller waits for an answer.
_PATIENCE = 10.0


class Load:
    """So many callers at once; each keeps its key until it knows what became of its request."""

    def __init__(
        self,
        urls: Sequence[str],
        api_key: str,
        ledger: Ledger,
        callers: int = 8,
        body: dict[str, Any] = EXAMPLE,
    ) -> None:
        # May be changed while the load goes on, as replicas come and go.
        self.urls = list(urls)
        self._body = body
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._ledger = ledger
        self._callers = callers
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=_PATIENCE)
        )
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self._callers)]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._over.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATIENCE + 5)
        for task in self._tasks:
            task.cancel()
        failures = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        assert not any(failures), failures

    async def goes_on(self, requests: int = 50, seconds: float = 60) -> None:
        """Return when so many more requests succeeded."""
        enough = self._ledger.successes + requests

        def has_gone_on() -> bool:
            return self._ledger.successes >= enough or any(task.done() for task in self._tasks)

        await eventually(has_gone_on, seconds, f"{requests} more requests that succeed")

    async def _call(self, number: int) -> None:
        while not self._over.is_set():
            # The name tells in its event which key made a campaign.
            key = f"{number}-{secrets.token_hex(8)}"
            created = await self.insist("POST", PATH, key, self._body | {"name": key})
            if created is None:
                return
            campaign_id = json.loads(created)["id"]
            for _ in range(random.randrange(4)):
                change = {"description": secrets.token_hex(4)}
                await self.insist("PATCH", f"{PATH}/{campaign_id}", None, change, campaign_id)
            if random.random() < 0.1:
                await self.insist("DELETE", f"{PATH}/{campaign_id}", None, None, campaign_id)

    async def insist(
        self,
        method: str,
        path: str,
        key: str | None,
        body: dict[str, Any] | None,
        campaign_id: int | None = None,
    ) -> bytes | None:
        """Repeat a request until it succeeds; None: it did not before the end of the load."""
        key = key or f"{method}-{secrets.token_hex(8)}"
        attempt = random.randrange(len(self.urls))
        while not self._over.is_set():
            url = self.urls[attempt % len(self.urls)]
            outcome = await self.request(method, url + path, key, body, campaign_id)
            # Bounded: the load is there to be harmed, not to fill the machine.
            await asyncio.sleep(random.uniform(0.005, 0.02))
            if outcome.status not in (None, 429, 503):
                return outcome.body if outcome.status < 300 else None
            attempt += 1
        return None

    async def request(
        self,
        method: str,
        url: str,
        key: str,
        body: dict[str, Any] | None,
        campaign_id: int | None = None,
    ) -> Outcome:
        """Make a request once, and note what became of it."""
        headers = {"Idempotency-Key": key}
        try:
            async with self._session.request(method, url, json=body, headers=headers) as answer:
                outcome = Outcome(method, key, answer.status, await answer.read(), campaign_id)
        except (aiohttp.ClientError, TimeoutError, OSError):
            outcome = Outcome(method, key, None, campaign_id=campaign_id)
        self._ledger.note(outcome)
        return outcome
