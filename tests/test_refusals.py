"""`POST /api/v1/campaigns` with input that is wrong: one clear answer, nothing stored."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from aiohttp import web
from yarl import URL

from service import problems
from service.app import create_app
from service.settings import Settings
from tests.conftest import Client
from tests.consumers import eventually
from tests.test_create import EXAMPLE

JSON = {"Content-Type": "application/json"}


async def test_a_template_that_is_wrong_is_told_with_its_place(client: Client) -> None:
    wrong = EXAMPLE | {"agenda_template": "Hi {{ name|titlecase }}"}
    response = await client.post("/api/v1/campaigns", json=wrong)
    assert (await response.json())["errors"] == [
        {
            "pointer": "#/agenda_template",
            "detail": "There is no filter 'titlecase'. Did you mean 'title_case'?",
            "line": 1,
            "column": 12,
            "source": "{{ name|titlecase }}",
            "allowed": ["default", "lower", "phone_format", "title_case", "upper"],
        }
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_attempt", "max_attempts"),
        ("maxAttempts", "max_attempts"),
        ("Name", "name"),
        ("sms_template", "sms_message_template"),
        ("type", None),
        ("x" * 65, None),
    ],
)
async def test_an_unknown_field_is_told_with_the_one_that_may_have_been_meant(
    client: Client, name: str, meant: str | None
) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE | {name: 3})
    [error] = (await response.json())["errors"]
    hint = "" if meant is None else f" Did you mean '{meant}'?"
    assert error["detail"] == f"Is not a known field.{hint}"


async def test_more_problems_than_anybody_reads_are_not_told(client: Client) -> None:
    body = EXAMPLE | {f"unknown_{number}": 1 for number in range(20_000)}
    response = await client.post("/api/v1/campaigns", json=body)
    document = await response.json()
    assert document["detail"] == "100 problems in the body, and more."
    assert len(document["errors"]) == 100


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The body is not valid JSON: it is empty."),
        (b"{}x", "The body is not valid JSON: Extra data: line 1 column 3."),
        (b'{"name": NaN}', "The body is not valid JSON: NaN is not a JSON value."),
        (b"\xef\xbb\xbf{}", "The body is not valid JSON: it begins with a byte order mark."),
        (b'{"name": "\xff"}', "The body is not valid UTF-8: at byte 11."),
        (b"[" * 100_000, "The body is not valid JSON: it is nested too deeply."),
    ],
)
async def test_malformed_json_is_told_with_its_place(
    client: Client, body: bytes, detail: str
) -> None:
    response = await client.post("/api/v1/campaigns", data=body, headers=JSON)
    document = await response.json()
    assert document["type"] == "urn:problem-type:campaigns:malformed-body"
    assert document["detail"] == detail


@pytest.mark.parametrize(
    ("headers", "name", "value"),
    [
        ({"Content-Type": "text/plain"}, "Accept", "application/json"),
        (JSON | {"Content-Encoding": "gzip"}, "Accept-Encoding", "identity"),
    ],
)
async def test_a_415_says_what_would_be_supported(
    client: Client, headers: dict[str, str], name: str, value: str
) -> None:
    response = await client.post("/api/v1/campaigns", data=b"{}", headers=headers)
    assert response.status == 415
    assert response.headers[name] == value


@pytest.mark.parametrize(
    "kind", ["application/json;charset=UTF-8", 'Application/JSON; charset="utf-8"']
)
async def test_json_in_utf_8_may_be_announced_in_any_spelling(client: Client, kind: str) -> None:
    response = await client.post(
        "/api/v1/campaigns", data=json.dumps(EXAMPLE), headers={"Content-Type": kind}
    )
    assert response.status == 201


async def test_a_body_that_does_not_arrive_in_time_is_a_408(
    settings: Settings, api_key: str, aiohttp_client: Any
) -> None:
    hurried = replace(settings, http_body_timeout_seconds=0.2)
    client = await aiohttp_client(
        create_app(hurried), headers={"Authorization": f"Bearer {api_key}"}
    )

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await stalled.wait()

    stalled = asyncio.Event()
    response = await client.post("/api/v1/campaigns", data=slowly(), headers=JSON)
    document = await response.json()
    stalled.set()
    assert response.status == document["status"] == 408
    assert document["detail"] == "The body did not arrive within 0.2 seconds."
    assert response.headers["Connection"] == "close"


async def test_nobody_is_asked_for_a_body_that_is_refused_anyway(client: Client) -> None:
    expecting = b"Expect: 100-continue\r\nContent-Length: 2\r\n"
    refused = await raw(client, expecting + b"Content-Type: text/plain\r\n\r\n")
    asked = await raw(client, expecting + b"Content-Type: application/json\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 415 ")
    assert asked == b"HTTP/1.1 100 Continue\r\n"


async def test_a_path_is_logged_as_it_was_sent_and_not_at_length(client: Client) -> None:
    with structlog.testing.capture_logs() as logged:
        await client.get(URL("/api/%00%0a" + "x" * 5000, encoded=True))
    [path] = [entry["path"] for entry in logged if entry["event"] == "request"]
    assert path == "/api/%00%0a" + "x" * 189


async def raw(client: Client, headers: bytes) -> bytes:
    """Send headers, and the begin of a body, as no library would; answer the first line."""
    key = client._session.headers["Authorization"].encode()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(
        b"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nAuthorization: " + key + b"\r\n" + headers
    )
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    return line


async def test_nothing_of_a_refused_body_is_logged(client: Client) -> None:
    with structlog.testing.capture_logs() as logged:
        for body in ({"HOSTILE": 1}, EXAMPLE | {"name": ["HOSTILE"]}):
            await client.post("/api/v1/campaigns", json=body)
        await client.post("/api/v1/campaigns", data=b"HOSTILE", headers=JSON)
        await client.post("/api/v1/campaigns", data=b"{}", headers={"Content-Type": "HOSTILE"})
    assert len([entry for entry in logged if entry["event"] == "request"]) == 4
    assert "HOSTILE" not in str(logged)


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
            b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
            b"Authorization: Bearer " + api_key.encode() + b"\r\n\r\n{"
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


async def in_chunks(size: int) -> AsyncIterator[bytes]:
    """A body whose size no header announces."""
    for _ in range(size // 1024):
        yield b" " * 1024
    yield b" " * (size % 1024)


async def test_a_body_over_the_limit_is_a_413(client: Client) -> None:
    limit = 1024 * 1024
    just_fits = await client.post("/api/v1/campaigns", data=in_chunks(limit), headers=JSON)
    response = await client.post("/api/v1/campaigns", data=in_chunks(limit + 1), headers=JSON)
    assert (just_fits.status, response.status) == (400, 413)
    assert response.content_type == "application/problem+json"


async def test_an_unknown_path_is_a_404_document(client: Client) -> None:
    response = await client.get("/api/v1/nothing")
    assert response.status == 404
    assert (await response.json())["type"] == "urn:problem-type:campaigns:not-found"


async def test_a_wrong_method_is_a_405_that_names_the_right_ones(client: Client) -> None:
    response = await client.delete("/api/v1/campaigns")
    assert response.status == 405
    assert response.headers["Allow"] == "GET,HEAD,POST"
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


async def test_what_is_missing_is_told_in_the_same_words_for_every_field(client: Client) -> None:
    response = await client.post("/api/v1/campaigns", json={"campaign_type": None})
    errors = (await response.json())["errors"]
    assert {error["pointer"]: error["detail"] for error in errors} == {
        "#/campaign_type": "Must not be null.",
        "#/name": "Is required.",
        "#/assistant_id": "Is required.",
    }
