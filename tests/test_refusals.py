"""`POST /api/v1/campaigns` with input that is wrong: one clear answer, nothing stored."""

import asyncio
import io
import json
from typing import Any

import pytest
import structlog
from aiohttp import web

from service import problems
from service.app import create_app
from service.settings import Settings
from tests.conftest import Client
from tests.consumers import eventually
from tests.test_create import EXAMPLE

MISSING = object()


@pytest.mark.parametrize(
    ("change", "pointer", "detail", "reason"),
    [
        ({"name": MISSING}, "#/name", "Missing data", "required"),
        ({"campaign_type": MISSING}, "#/campaign_type", "Missing data", "required"),
        ({"assistant_id": MISSING}, "#/assistant_id", "Missing data", "required"),
        ({"name": None}, "#/name", "may not be null", "required is not null either"),
        ({"name": ""}, "#/name", "1 to 200", "published minimum"),
        ({"name": "x" * 201}, "#/name", "1 to 200", "published maximum"),
        ({"name": 7}, "#/name", "string", "no number becomes a text"),
        ({"name": "a\0b"}, "#/name", "NUL", "PostgreSQL cannot store it"),
        ({"campaign_type": "fax"}, "#/campaign_type", "call, sms, mixed", "not a published type"),
        ({"assistant_id": "123"}, "#/assistant_id", "integer", "no text becomes a number"),
        ({"assistant_id": 1.0}, "#/assistant_id", "integer", "no fraction, not even .0"),
        ({"assistant_id": True}, "#/assistant_id", "integer", "JSON's true is no 1"),
        ({"assistant_id": 2**63}, "#/assistant_id", "integer", "beyond the column"),
        ({"assistant_id": 0}, "#/assistant_id", "integer", "ids start at 1"),
        ({"max_attempts": 0}, "#/max_attempts", "integer", "no attempt is no campaign"),
        ({"max_attempts": 2**31}, "#/max_attempts", "integer", "beyond the column"),
        ({"retry_delay_minutes": -1}, "#/retry_delay_minutes", "integer", "no time travel"),
        ({"max_attempt": 3}, "#/max_attempt", "not a field", "a typo is not dropped silently"),
        ({"agenda_template": "{{ name"}, "#/agenda_template", "line 1", "unclosed"),
        ({"agenda_template": "{{n|shout}}"}, "#/agenda_template", "title_case", "unknown filter"),
        ({"agenda_template": "{{" + "(" * 5000}, "#/agenda_template", "deeply", "deep nesting"),
        (
            {"agenda_template": "{{a" + "|upper" * 5000 + "}}"},
            "#/agenda_template",
            "deeply",
            "chain",
        ),
        ({"agenda_template": "{{a" + "+a" * 5000 + "}}"}, "#/agenda_template", "deeply", "sum"),
        ({"_schema": 1}, "#/_schema", "not a field", "a name that marshmallow uses itself"),
        ({"value": [1]}, "#/value", "not a field", "another one"),
        ({"fallback_values": {"key": []}}, "#/fallback_values/key", "string", "and another"),
        ({"fallback_values": []}, "#/fallback_values", "object", "not an object"),
        ({"fallback_values": {"a/b~": []}}, "#/fallback_values/a~1b~0", "string", "escaped key"),
        ({"retry_delay_minutes": 2**31}, "#/retry_delay_minutes", "integer", "beyond the column"),
        ({"welcome_message_template": "{{ a"}, "#/welcome_message_template", "line 1", "each one"),
        ({"end_call_message_template": "{{ a"}, "#/end_call_message_template", "line 1", "each"),
        ({"sms_message_template": "{{ a"}, "#/sms_message_template", "line 1", "each"),
        ({"fallback_values": {"a": "b\0"}}, "#/fallback_values/a", "NUL", "also inside"),
        ({"fallback_values": {"a\0": "b"}}, "#/fallback_values/a\0", "NUL", "also in a name"),
        ({"x": None}, "#/x", "not a field", "null makes no field known"),
        ({"fallback_values": {"a": None}}, "#/fallback_values/a", "", "null is no value"),
    ],
)
async def test_a_wrong_field_is_named(
    client: Client, change: dict[str, Any], pointer: str, detail: str, reason: str
) -> None:
    body = {name: value for name, value in (EXAMPLE | change).items() if value is not MISSING}
    response = await client.post("/api/v1/campaigns", json=body)
    document = await response.json()
    assert response.status == 422, reason
    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert detail in document["errors"][0]["detail"]


async def test_all_that_is_wrong_is_named_at_once(client: Client) -> None:
    response = await client.post("/api/v1/campaigns", json={"name": "", "campaign_type": 1, "x": 2})
    errors = (await response.json())["errors"]
    assert {error["pointer"] for error in errors} == {
        "#/name",
        "#/campaign_type",
        "#/assistant_id",
        "#/x",
    }


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null"])
async def test_a_body_that_is_no_object_is_refused(client: Client, body: str) -> None:
    response = await client.post("/api/v1/campaigns", data=body)
    assert response.status == 422
    assert (await response.json())["errors"][0]["pointer"] == "#"


@pytest.mark.parametrize("body", [b"", b"{", b'{"name": NaN}', b'"\xff"', b'{"name": "\\ud800"}'])
async def test_malformed_json_is_a_400(client: Client, body: bytes) -> None:
    response = await client.post("/api/v1/campaigns", data=body)
    document = await response.json()
    assert response.status == 400
    assert document["type"] == "urn:problem-type:campaigns:malformed-body"
    assert document["detail"].startswith("The body is not valid JSON: ")


async def test_a_body_that_is_not_as_compressed_as_announced_is_a_400(client: Client) -> None:
    response = await client.post(
        "/api/v1/campaigns", data=b"not gzip", headers={"Content-Encoding": "gzip"}
    )
    assert response.status == 400
    assert response.content_type == "application/problem+json"


async def test_a_caller_that_goes_away_is_no_failure_of_ours(
    settings: Settings, api_key: str
) -> None:
    # The test client's server cancels such a handler; the one of the service lets it end.
    runner = web.AppRunner(create_app(settings))
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    with structlog.testing.capture_logs() as logged:
        _, port = runner.addresses[0]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Expect: 100-continue\r\nAuthorization: Bearer " + api_key.encode() + b"\r\n\r\n{"
        )
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.close()

        def has_ended() -> bool:
            return any(entry["event"] == "request" for entry in logged)

        await eventually(has_ended, 10, "the end of the request")
    await site.stop()
    await runner.cleanup()
    assert [entry["status"] for entry in logged if entry["event"] == "request"] == [400]
    assert [entry for entry in logged if entry["log_level"] == "error"] == []


async def test_every_refusal_is_one_problem_document(client: Client) -> None:
    response = await client.post("/api/v1/campaigns", json={})
    document = await response.json()
    assert response.content_type == "application/problem+json"
    assert list(document) == ["type", "title", "status", "detail", "request_id", "errors"]
    assert document["status"] == response.status == 422
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(document["detail"], str)


async def test_a_body_over_the_limit_is_a_413(client: Client) -> None:
    limit = 1024 * 1024
    just_fits = await client.post("/api/v1/campaigns", data=io.BytesIO(b" " * limit))
    response = await client.post("/api/v1/campaigns", data=io.BytesIO(b" " * (limit + 1)))
    assert (just_fits.status, response.status) == (400, 413)
    assert response.content_type == "application/problem+json"


async def test_an_unknown_path_is_a_404_document(client: Client) -> None:
    response = await client.get("/api/v1/nothing")
    assert response.status == 404
    assert (await response.json())["type"] == "urn:problem-type:campaigns:not-found"


async def test_a_wrong_method_is_a_405_that_names_the_right_ones(client: Client) -> None:
    response = await client.delete("/api/v1/campaigns")
    assert response.status == 405
    assert response.headers["Allow"] == "POST"
    assert response.content_type == "application/problem+json"


async def test_a_crash_tells_the_log_all_and_the_caller_nothing(
    settings: Settings, aiohttp_client: Any
) -> None:
    async def crash(_request: web.Request) -> web.Response:
        raise ZeroDivisionError("the inside")

    app = create_app(settings)
    app.router.add_get("/crash", crash)
    client = await aiohttp_client(app)
    with structlog.testing.capture_logs() as logged:
        response = await client.get("/crash")
        text = await response.text()
    assert response.status == 500
    assert response.content_type == problems.CONTENT_TYPE
    assert "inside" not in text
    assert "ZeroDivision" not in text
    assert json.loads(text)["request_id"] == response.headers["X-Request-ID"]
    [entry] = [entry for entry in logged if entry["log_level"] == "error"]
    assert (entry["event"], entry["path"], entry["exc_info"]) == ("request failed", "/crash", True)
