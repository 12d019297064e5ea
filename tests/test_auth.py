"""Who gets in."""

import hashlib

import pytest

from service.postgres import Connection
from tests.conftest import Client
from tests.test_create import EXAMPLE


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "no header"),
        ("", "an empty header"),
        ("Bearer", "no key"),
        ("Bearer ", "an empty key"),
        ("Bearer campaigns_wrong", "an unknown key"),
        ("Basic dXNlcjpwYXNz", "another scheme"),
        ("Bearer \u00e9", "bytes that are no ASCII"),
        ("Bearer \udcff", "bytes that are no UTF-8"),
    ],
)
async def test_without_a_known_key_the_answer_is_401(
    client: Client, authorization: str | None, reason: str
) -> None:
    client.session.headers.clear()
    headers = {} if authorization is None else {"Authorization": authorization}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    assert response.status == 401, reason
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.content_type == "application/problem+json"


async def test_the_key_is_checked_before_the_body(client: Client) -> None:
    client.session.headers.clear()
    response = await client.post("/api/v1/campaigns", data=b"{")
    assert response.status == 401


async def test_the_scheme_may_be_written_in_any_case(client: Client, api_key: str) -> None:
    headers = {"Authorization": f"bearer {api_key}"}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    assert response.status == 201


async def test_a_campaign_belongs_to_the_organization_of_the_key(
    client: Client, connection: Connection, organization: int
) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    assert await connection.fetchval("SELECT organization_id FROM campaigns") == organization


async def test_only_the_hash_of_a_key_is_stored(connection: Connection, api_key: str) -> None:
    row = await connection.fetchrow("SELECT * FROM api_keys")
    assert row is not None
    assert row["sha256"] == hashlib.sha256(api_key.encode()).digest()
    assert api_key not in str(dict(row))
