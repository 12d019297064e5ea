"""Whether a contender does what it is measured by: else it would be fast by leaving things out."""

import asyncio
import json
import time
from typing import Any

import aio_pika
import requests

from bench import versions
from bench.load import PATH
from bench.rig import Place
from dev.addresses import EXAMPLE
from dev.console import Failure
from service import topology

# They differ from one create to the next.
_OWN = ("id", "created_at", "updated_at")

_WRONG: dict[str, object] = {
    "name": " ",
    "campaign_type": "fax",
    "assistant_id": 0,
    "description": "x" * 2_001,
    "agenda_template": "x" * 10_001,
    "max_attempts": 101,
    "retry_delay_minutes": -1,
    "fallback_values": {"name": []},
}


def check(name: str, url: str, place: Place) -> None:
    """Create one campaign and look at its answer and its events; then have others refused.

    Raises:
        Failure: the contender does less than the service.
    """
    place.clean()
    body = json.loads(EXAMPLE.read_text())
    answer = _post(url, place.key, body)
    wanted = json.loads(versions.example().answer.body)
    _same(name, "status", answer.status_code, 201)
    _same(name, "Location", answer.headers.get("Location"), f"{PATH}/{answer.json()['id']}")
    _same(name, "campaign", _shown(answer.json()), _shown(wanted))
    for event in asyncio.run(_events(place)):
        _same(name, "event", event["data"]["campaign"], answer.json())
    for field, value in _WRONG.items():
        _same(name, f"status of a wrong {field}", _status(url, place.key, body | {field: value}), 4)
    for field in ("name", "campaign_type", "assistant_id"):
        without = {key: value for key, value in body.items() if key != field}
        _same(name, f"status without {field}", _status(url, place.key, without), 4)
    _same(name, "status of an unknown key", _status(url, "nobody's", body), 4)


def _post(url: str, key: str, body: object) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(url + PATH, json=body, headers=headers, timeout=10)


def _status(url: str, key: str, body: object) -> int:
    """The hundreds only: whose detail it is differs."""
    return _post(url, key, body).status_code // 100


def _shown(campaign: dict[str, Any]) -> list[tuple[str, Any]]:
    return [item for item in campaign.items() if item[0] not in _OWN]


def _same(name: str, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Failure(f"{name} is not comparable, {what}: {found!r} instead of {wanted!r}")


async def _events(place: Place) -> list[dict[str, Any]]:
    """The event of each queue."""
    async with await aio_pika.connect(place.amqp_url) as connection:
        channel = await connection.channel()
        events = []
        for name in topology.QUEUES:
            queue, deadline = await channel.get_queue(name), time.monotonic() + 5
            while (message := await queue.get(no_ack=True, fail=False)) is None:
                if time.monotonic() > deadline:
                    raise Failure(f"no event came to {name}")
                await asyncio.sleep(0.05)
            events.append(json.loads(message.body))
    return events
