"""`POST /api/v1/campaigns` with input that is right."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.postgres import Connection
from tests.conftest import Client

EXAMPLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "dev" / "example.json").read_text()
)

# The keys of the published response, in its order.
PUBLISHED = [
    "id",
    "name",
    "description",
    "campaign_type",
    "status",
    "assistant_id",
    "welcome_message_template",
    "agenda_template",
    "end_call_message_template",
    "sms_message_template",
    "fallback_values",
    "variable_mappings",
    "available_variables",
    "max_attempts",
    "retry_delay_minutes",
    "total_contacts",
    "completed_contacts",
    "failed_contacts",
    "created_at",
    "updated_at",
]

# After them come those that only a reader needs, and those of the official SDK.
ADDED = {
    "assistant_name": None,
    "last_import_file_name": None,
    "last_import_date": None,
    "last_import_row_count": None,
    "organization_id": ...,
    "version": 1,
    "settings": ...,
}


async def test_the_published_example_gives_the_published_response(
    client: Client, organization: int
) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE)
    body = await response.json()
    assert response.status == 201
    assert list(body) == [*PUBLISHED, *ADDED]
    assert body == EXAMPLE | ADDED | {
        "id": body["id"],
        "status": "draft",
        "sms_message_template": None,
        "variable_mappings": {},
        "available_variables": [],
        "total_contacts": 0,
        "completed_contacts": 0,
        "failed_contacts": 0,
        "created_at": body["created_at"],
        "updated_at": body["created_at"],
        "organization_id": organization,
        "settings": {
            "max_attempts": EXAMPLE["max_attempts"],
            "retry_delay_minutes": EXAMPLE["retry_delay_minutes"],
            "welcome_template": EXAMPLE["welcome_message_template"],
            "agenda_template": EXAMPLE["agenda_template"],
        },
    }
    assert type(body["id"]) is int
    assert body["created_at"].endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(body["created_at"]) < timedelta(minutes=1)


async def test_the_answer_says_where_the_campaign_is_and_which_version(client: Client) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE)
    body = await response.json()
    assert response.headers["Location"] == f"/api/v1/campaigns/{body['id']}"
    assert response.headers["ETag"] == '"1"'
    assert response.content_type == "application/json"


async def test_the_shortest_body_gets_the_published_defaults(client: Client) -> None:
    shortest = {"name": "A", "campaign_type": "sms", "assistant_id": 1}
    response = await client.post("/api/v1/campaigns", json=shortest)
    body = await response.json()
    assert response.status == 201
    assert {name: body[name] for name in PUBLISHED[1:18]} == {
        "name": "A",
        "description": None,
        "campaign_type": "sms",
        "status": "draft",
        "assistant_id": 1,
        "welcome_message_template": None,
        "agenda_template": None,
        "end_call_message_template": None,
        "sms_message_template": None,
        "fallback_values": {},
        "variable_mappings": {},
        "available_variables": [],
        "max_attempts": 3,
        "retry_delay_minutes": 30,
        "total_contacts": 0,
        "completed_contacts": 0,
        "failed_contacts": 0,
    }


@pytest.mark.parametrize(
    "field",
    [
        "description",
        "welcome_message_template",
        "agenda_template",
        "end_call_message_template",
        "sms_message_template",
        "fallback_values",
        "max_attempts",
        "retry_delay_minutes",
    ],
)
async def test_an_optional_field_that_is_null_is_not_given(client: Client, field: str) -> None:
    shortest = {"name": "A", "campaign_type": "mixed", "assistant_id": 1}
    without = await (await client.post("/api/v1/campaigns", json=shortest)).json()
    response = await client.post("/api/v1/campaigns", json=shortest | {field: None})
    assert response.status == 201
    assert (await response.json())[field] == without[field]


async def test_what_is_stored_is_what_was_answered(client: Client, connection: Connection) -> None:
    body = await (await client.post("/api/v1/campaigns", json=EXAMPLE)).json()
    row = await connection.fetchrow("SELECT * FROM campaigns")
    assert row is not None
    stored = dict(row)
    assert stored.pop("name_key") == EXAMPLE["name"].lower()
    assert stored.pop("deleted_at") is None
    for name in ("fallback_values", "variable_mappings", "available_variables"):
        stored[name] = json.loads(stored[name])
    for name in ("created_at", "updated_at"):
        stored[name] = stored[name].isoformat().replace("+00:00", "Z")
    assert stored == {name: body[name] for name in [*PUBLISHED, "organization_id", "version"]}


async def test_fallback_values_keep_their_order_and_types(client: Client) -> None:
    values = {"zeta": "z", "alpha": 1, "yes": True, "rate": 0.5}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE | {"fallback_values": values})
    answered = (await response.json())["fallback_values"]
    assert list(answered.items()) == list(values.items())
    assert answered["yes"] is True


async def test_a_name_is_stored_without_the_white_space_around_it(client: Client) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE | {"name": "\u2003 a  b\n"})
    assert (await response.json())["name"] == "a  b"


async def test_ids_are_never_given_twice(client: Client) -> None:
    # More than one reserved block of ids.
    answers = [await client.post("/api/v1/campaigns", json=EXAMPLE) for _ in range(120)]
    assert len({(await answer.json())["id"] for answer in answers}) == 120


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "\u00fc" * 200, "characters count, not bytes"),
        ("name", "\U0001f600" * 200, "nor the halves of a pair"),
        ("description", "\U0001f600" * 2000, "the longest"),
        ("description", "", "the shortest"),
        ("assistant_id", 2**63 - 1, "the largest of bigint"),
        ("agenda_template", "\u00fc" * 10_000, "the longest"),
        ("agenda_template", "{{a}}" * 200, "the most tags"),
        ("agenda_template", "", "says nothing, on purpose"),
        ("fallback_values", {f"a{number}": "\u00fc" * 1000 for number in range(100)}, "the most"),
        ("fallback_values", {"x" * 64: ""}, "the longest name, the shortest value"),
        ("fallback_values", {"a": 2**53 - 1, "b": -(2**53 - 1)}, "the largest numbers"),
        ("fallback_values", {"a": 0.1, "b": -0.0, "c": 1e-300}, "fractions"),
        ("max_attempts", 1, "the fewest"),
        ("max_attempts", 100, "the most"),
        ("retry_delay_minutes", 0, "at once"),
        ("retry_delay_minutes", 43_200, "in 30 days"),
    ],
)
async def test_a_value_at_its_limit_is_accepted(
    client: Client, field: str, value: Any, reason: str
) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE | {field: value})
    assert (response.status, (await response.json())[field]) == (201, value), reason
