"""Every endpoint, and what each kind of caller gets there."""

from dataclasses import replace
from typing import Any

import pytest

from service import keys
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start, create_key
from tests.test_create import EXAMPLE

CAMPAIGNS = "/api/v1/campaigns"
CAMPAIGN = "/api/v1/campaigns/{id}"
DUPLICATE = "/api/v1/campaigns/{id}/duplicate"
HISTORY = "/api/v1/campaigns/{id}/history"
PREVIEW = "/api/v1/campaigns/template-preview"

SAMPLE = {"template": "Hi {{ name }}"}

READ, WRITE, PREVIEWS = "campaigns:read", "campaigns:write", "templates:preview"
NO_KEY, STRANGER = "no key", "another organization"

# A stranger has a key with all scopes; what it creates is its own, and what it looks for is not.
TABLE: dict[tuple[str, str], tuple[dict[str, Any] | None, dict[str, int]]] = {
    ("POST", CAMPAIGNS): (
        EXAMPLE,
        {READ: 403, WRITE: 201, PREVIEWS: 403, NO_KEY: 401, STRANGER: 201},
    ),
    ("GET", CAMPAIGNS): (
        None,
        {READ: 200, WRITE: 403, PREVIEWS: 403, NO_KEY: 401, STRANGER: 200},
    ),
    ("HEAD", CAMPAIGNS): (
        None,
        {READ: 200, WRITE: 403, PREVIEWS: 403, NO_KEY: 401, STRANGER: 200},
    ),
    ("GET", CAMPAIGN): (
        None,
        {READ: 200, WRITE: 403, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("HEAD", CAMPAIGN): (
        None,
        {READ: 200, WRITE: 403, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("PATCH", CAMPAIGN): (
        {"name": "changed"},
        {READ: 403, WRITE: 200, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("PUT", CAMPAIGN): (
        {"name": "changed"},
        {READ: 403, WRITE: 200, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("DELETE", CAMPAIGN): (
        None,
        {READ: 403, WRITE: 200, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("POST", DUPLICATE): (
        None,
        {READ: 403, WRITE: 201, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("GET", HISTORY): (
        None,
        {READ: 200, WRITE: 403, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("HEAD", HISTORY): (
        None,
        {READ: 200, WRITE: 403, PREVIEWS: 403, NO_KEY: 401, STRANGER: 404},
    ),
    ("POST", PREVIEW): (
        SAMPLE,
        {READ: 403, WRITE: 403, PREVIEWS: 200, NO_KEY: 401, STRANGER: 200},
    ),
}
# Nothing of any organization can be learned there.
OPEN_TO_ALL = [(method, path) for method in ("GET", "HEAD") for path in ("/healthz", "/readyz")]

ROWS = [
    pytest.param(method, path, body, caller, status, id=f"{method} {path}, {caller}")
    for (method, path), (body, answers) in TABLE.items()
    for caller, status in answers.items()
]


def test_every_endpoint_has_a_row(client: Client) -> None:
    assert client.app is not None
    routes = {
        (route.method, resource.canonical)
        for resource in client.app.router.resources()
        for route in resource
    }
    assert routes == TABLE.keys() | set(OPEN_TO_ALL)


def test_every_row_has_every_kind_of_caller() -> None:
    for _, answers in TABLE.values():
        assert answers.keys() == {*keys.SCOPES, NO_KEY, STRANGER}


@pytest.mark.parametrize(("method", "path", "body", "caller", "status"), ROWS)
async def test_a_caller_gets(
    client: Client,
    connection: Connection,
    organization: int,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    caller: str,
    status: int,
) -> None:
    created = await (await client.post(CAMPAIGNS, json=EXAMPLE)).json()
    client.session.headers.clear()
    headers = {}
    if caller != NO_KEY:
        grant = keys.Grant(organization, caller, frozenset([caller]))
        stranger = keys.Grant(organization + 1, caller)
        key = await create_key(connection, stranger if caller == STRANGER else grant)
        headers = {"Authorization": f"Bearer {key}"}
    answer = await client.request(method, path.format(id=created["id"]), json=body, headers=headers)
    assert answer.status == status


@pytest.mark.parametrize(("method", "path"), TABLE)
async def test_every_call_counts_against_the_limit_of_its_key(
    settings: Settings, api_key: str, aiohttp_client: Start, method: str, path: str
) -> None:
    limited = replace(settings, key_requests_per_second=0.01, key_requests_burst=1)
    headers = {"Authorization": f"Bearer {api_key}"}
    client = await aiohttp_client(create_app(limited), headers=headers)
    body, _ = TABLE[method, path]
    statuses = [
        (await client.request(method, path.format(id=1), json=body)).status for _ in range(2)
    ]
    assert statuses[0] != statuses[1] == 429


@pytest.mark.parametrize(("method", "path"), OPEN_TO_ALL)
async def test_health_is_open_to_all(client: Client, method: str, path: str) -> None:
    client.session.headers.clear()
    assert (await client.request(method, path)).status == 200
