"""Who gets in."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from service import keys, postgres
from service.postgres import Connection
from tests.conftest import Client, create_key
from tests.test_create import EXAMPLE


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "no header"),
        ("", "an empty header"),
        ("Bearer", "no key"),
        ("Bearer ", "an empty key"),
        ("Bearer campaigns_wrong", "a mistyped key"),
        ("Basic dXNlcjpwYXNz", "another scheme"),
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


@pytest.mark.parametrize("scheme", ["Basic", "Token"])
async def test_another_scheme_is_refused_even_with_a_known_key(
    client: Client, api_key: str, scheme: str
) -> None:
    headers = {"Authorization": f"{scheme} {api_key}"}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    assert response.status == 401


@pytest.mark.parametrize("path", ["/api/v1/campaigns/1", "/api/v1/nothing", "/api/"])
async def test_everything_under_api_needs_a_key(client: Client, path: str) -> None:
    client.session.headers.clear()
    assert (await client.get(path)).status == 401


async def test_a_key_of_any_bytes_is_just_mistyped(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer \xff\r\nContent-Length: 0\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer "])
async def test_a_missing_key_is_told_from_a_wrong_one(client: Client, authorization: str) -> None:
    client.session.headers.clear()
    headers = {"Authorization": authorization}
    response = await client.post("/api/v1/campaigns", headers=headers)
    assert (await response.json())["detail"].startswith("Send your API key")


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ("DELETE FROM api_keys", "unknown"),
        ("UPDATE api_keys SET revoked_at = now()", "revoked"),
        ("UPDATE api_keys SET expires_at = now()", "expired"),
    ],
)
async def test_unknown_expired_and_revoked_keys_get_one_answer(
    client: Client, connection: Connection, ended: str, reason: str
) -> None:
    await connection.execute(ended)
    response = await client.post("/api/v1/campaigns", json=EXAMPLE)
    document = await response.json()
    assert response.headers["WWW-Authenticate"] == "Bearer"
    del document["request_id"]
    assert document == {
        "type": "urn:problem-type:campaigns:unauthenticated",
        "title": "A valid API key is needed",
        "status": 401,
        "detail": "This API key is unknown, or has expired, or was revoked.",
    }, reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda key: key[:-1], "cut"),
        (lambda key: key + "x", "longer"),
        (lambda key: key[:20] + ("a" if key[20] != "a" else "b") + key[21:], "one letter mistyped"),
        (lambda key: key.replace("campaigns_", "campaign_"), "another prefix"),
        (lambda _key: "campaigns_" + "\u0660" * 49, "digits of another script"),
    ],
)
async def test_a_mistyped_key_is_told_as_such_without_a_look_up(
    client: Client, api_key: str, change: Callable[[str], str], reason: str
) -> None:
    # Nobody could look anything up.
    assert client.app is not None
    await client.app[postgres.POOL]._pool.close()
    headers = {"Authorization": f"Bearer {change(api_key)}"}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    assert response.status == 401, reason
    assert (await response.json())["detail"].startswith("This is no API key")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/api/v1/campaigns", "campaigns:write"),
        ("/api/v1/campaigns?validate_only=true", "campaigns:write"),
        ("/api/v1/campaigns/template-preview", "templates:preview"),
    ],
)
async def test_a_key_without_the_scope_is_told_which_is_missing(
    client: Client, connection: Connection, path: str, scope: str
) -> None:
    scopes = frozenset(keys.SCOPES) - {scope}
    key = await create_key(connection, keys.Grant(1, "narrow", scopes))
    response = await client.post(path, data=b"{", headers={"Authorization": f"Bearer {key}"})
    document = await response.json()
    assert response.status == 403
    assert document["type"] == "urn:problem-type:campaigns:forbidden"
    assert document["detail"] == f"This call needs a key with the scope '{scope}'."
