"""Scenario 18: one event that can never be published, in front of ten thousand healthy ones."""

import asyncio
import json
import time

import pytest
import requests

from service.postgres import Connection
from service.settings import Settings
from tests.consumers import QUEUES, eventually
from tests.faults.conftest import Scene
from tests.faults.tally import Tally
from tests.observed import Observe
from tests.processes import Service
from tests.test_commands import campaigns
from tests.test_create import EXAMPLE

HEALTHY = 10_000

# What their bodies have, and no other.
MARK = b'"filler"'


@pytest.fixture
def ledger(organization: int) -> Tally:
    return Tally(organization, MARK)


@pytest.mark.timeout(300)
async def test_an_event_that_can_never_be_published_holds_up_its_own_campaign_only(
    scene: Scene,
    ledger: Tally,
    owner: Settings,
    api_key: str,
    connection: Connection,
    observed: Observe,
) -> None:
    api = await scene.start(command="serve --no-relay")
    campaign_id = await asyncio.to_thread(three_versions, api, api_key)
    # The broker wants a list there, and closes the channel over anything else.
    await set_headers(connection, campaign_id, {"CC": "nobody"})
    await connection.execute(BACKLOG, HEALTHY)
    began = time.monotonic()
    await scene.start()
    async with scene.load() as load:
        await eventually(lambda: is_parked(connection, campaign_id), 60, "the parking")
        found = time.monotonic() - began
        await load.goes_on()
    await eventually(lambda: waiting(connection, [campaign_id] * 3), 60, "all others leave")
    others = time.monotonic() - began
    # What has left may still be on its way.
    await eventually(lambda: ledger.fewest >= HEALTHY, 90, "all others in each queue")
    assert ledger.counted == dict.fromkeys(QUEUES, HEALTHY)

    listed = await asyncio.to_thread(campaigns, *LIST, settings=owner)
    [parked] = json.loads(listed.stdout)["events"]
    assert (parked["campaign_id"], parked["sequence"], parked["behind"]) == (campaign_id, 1, 2)
    assert parked["reason"].startswith("the broker rejects it: PRECONDITION_FAILED")

    await set_headers(connection, campaign_id, {})
    replay = (*REPLAY, parked["event_id"])
    assert (await asyncio.to_thread(campaigns, *replay, settings=owner)).returncode == 0
    await scene.check()
    figures = f"parked after {found:.1f} s, all others gone after {others:.1f} s"
    observed(
        18,
        f"an event that no attempt can publish, in front of {HEALTHY:,}",
        "its campaign waits, nobody else; parked with its reason, replayed in order",
        f"{figures}, each in each queue; {ledger.figures()}",
    )


LIST = ("events", "parked", "list", "--json")
REPLAY = ("events", "parked", "replay", "--event-id")

# Of an organization that no other test has, in messages as large as ours.
BACKLOG = """
    INSERT INTO outbox (organization_id, campaign_id, sequence, event_id, event_type,
                        body, headers, created_at)
    SELECT 9000000000000000, number, 1, gen_random_uuid(), 'campaign.created',
           json_build_object('filler', repeat('x', 2000)), '{}', now()
    FROM generate_series(1, $1::integer) AS number
"""


def three_versions(api: Service, api_key: str) -> int:
    """A campaign that was changed twice; its id."""
    campaign_id: int = api.create(api_key, EXAMPLE).json()["id"]
    for name in ("second", "third"):
        answer = requests.patch(
            f"{api.url}/api/v1/campaigns/{campaign_id}",
            json={"name": name},
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=10,
        )
        assert answer.status_code == 200
    return campaign_id


async def set_headers(connection: Connection, campaign_id: int, headers: dict[str, str]) -> None:
    await connection.execute(
        "UPDATE outbox SET headers = $2 WHERE campaign_id = $1 AND sequence = 1"
        " AND organization_id < 9000000000000000",
        campaign_id,
        json.dumps(headers),
    )


async def is_parked(connection: Connection, campaign_id: int) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT 1 FROM outbox WHERE campaign_id = $1 AND next_attempt_at = 'infinity'",
            campaign_id,
        )
    )


async def waiting(connection: Connection, campaign_ids: list[int]) -> bool:
    rows = await connection.fetch("SELECT campaign_id FROM outbox")
    return [row["campaign_id"] for row in rows] == campaign_ids
