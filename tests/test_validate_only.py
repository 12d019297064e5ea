"""`POST /api/v1/campaigns?validate_only=true`: all of a create but the creation."""

import pytest

from service.postgres import Connection
from tests.conftest import Client
from tests.test_create import ADDED, EXAMPLE, PUBLISHED

VALIDATE = "/api/v1/campaigns?validate_only=true"


async def test_the_answer_is_what_would_be_created_and_its_variables(client: Client) -> None:
    created = await (await client.post("/api/v1/campaigns", json=EXAMPLE)).json()
    response = await client.post(VALIDATE, json=EXAMPLE)
    validated = await response.json()
    assert response.status == 200
    assert validated.pop("template_variables") == {
        "required": ["appointment_date"],
        "optional": ["assistant_name", "company", "name"],
    }
    assert list(validated) == [
        *(name for name in PUBLISHED if name not in ("id", "created_at", "updated_at")),
        *ADDED,
    ]
    assert validated == {name: created[name] for name in validated}


async def test_nothing_is_stored_or_published(idle_client: Client, connection: Connection) -> None:
    await idle_client.post(VALIDATE, json=EXAMPLE)
    assert await connection.fetchval("SELECT count(*) FROM campaigns") == 0
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_same_is_refused_in_the_same_words(client: Client) -> None:
    wrong = EXAMPLE | {"campaign_type": "fax", "agenda_template": "{{ a.b }}"}
    created = await (await client.post("/api/v1/campaigns", json=wrong)).json()
    response = await client.post(VALIDATE, json=wrong)
    assert response.status == 422
    assert (await response.json())["errors"] == created["errors"]


async def test_the_same_key_is_needed(client: Client) -> None:
    response = await client.post(VALIDATE, json=EXAMPLE, headers={"Authorization": ""})
    assert response.status == 401


async def test_false_creates(client: Client) -> None:
    response = await client.post("/api/v1/campaigns?validate_only=false", json=EXAMPLE)
    assert response.status == 201


@pytest.mark.parametrize(
    ("query", "parameter", "detail", "reason"),
    [
        ("validate_only=1", "validate_only", "Must be true or false.", "one spelling is enough"),
        ("validate_only=True", "validate_only", "Must be true or false.", "the same"),
        ("validate_only", "validate_only", "Must be true or false.", "nothing is said"),
        ("validate_only=true&validate_only=false", "validate_only", "Is given more than once.",
         "nobody knows which"),
        ("validate-only=true", "validate-only",
         "Is not a parameter of this call. Did you mean 'validate_only'?", "a typo"),
        ("dry_run=true", "dry_run", "Is not a parameter of this call.", "nor does another name"),
        ("%ff=1", "\ufffd", "Is not a parameter of this call.", "whatever it is"),
    ],
)  # fmt: skip
async def test_a_query_that_is_not_understood_creates_nothing(
    client: Client, connection: Connection, query: str, parameter: str, detail: str, reason: str
) -> None:
    response = await client.post(f"/api/v1/campaigns?{query}", json=EXAMPLE)
    document = await response.json()
    assert response.status == 422, reason
    assert document["type"] == "urn:problem-type:campaigns:invalid-parameters"
    assert document["errors"] == [{"parameter": parameter, "detail": detail}]
    assert await connection.fetchval("SELECT count(*) FROM campaigns") == 0
