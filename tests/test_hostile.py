"""Whatever is sent: one answer, the right one, with nothing stored and nothing broken."""

import json

import pytest

from service import postgres
from tests.hostile import CASES, JSON, SHORTEST, Case
from tests.targets import Target


async def stored(target: Target) -> list[int]:
    async with postgres.connect(target.owner) as connection:
        rows = await connection.fetch(
            "SELECT count(*) FROM campaigns UNION ALL SELECT count(*) FROM outbox"
        )
    return [row["count"] for row in rows]


@pytest.mark.parametrize("case", CASES, ids=[case.reason[:60] for case in CASES])
async def test_a_hostile_body_gets_its_answer_and_leaves_no_trace(
    target: Target, case: Case
) -> None:
    answer = target.post(case.body, case.headers)
    document = json.loads(answer.body)
    assert (answer.status, document["status"]) == (case.status, case.status), document
    assert answer.headers["Content-Type"] == "application/problem+json"
    pointers = tuple(error["pointer"] for error in document.get("errors", []))
    assert pointers == case.pointers, document
    assert len(answer.body) < 30_000
    assert await stored(target) == [0, 0]
    good = target.post(json.dumps(SHORTEST).encode(), JSON, "?validate_only=true")
    assert good.status == 200


def test_each_row_has_a_reason_of_its_own() -> None:
    assert len({case.reason for case in CASES}) == len(CASES)


START = b"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "message",
    [
        b"HOSTILE\r\n\r\n",
        b"\x16\x03\x01\x02\x00HOSTILE\r\n\r\n",
        START + b"HOSTILE\r\n\r\n",
        START + b"Content-Length: HOSTILE\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nHOSTILE\r\n",
    ],
    ids=["no HTTP", "TLS", "no header", "no length", "no chunk"],
)
def test_what_is_no_http_gets_a_problem_document_and_is_not_logged(
    target: Target, message: bytes
) -> None:
    answer = target.send(message)
    document = json.loads(answer.body)
    assert answer.status == document["status"] == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-ID"] == document["request_id"]
    assert b"HOSTILE" not in answer.body
    assert b"HOSTILE" not in target.log.read_bytes()


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: HOSTILE\r\n\r\n", 200, "on a known path"),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nExpect: HOSTILE\r\n\r\n", 404, "on an unknown one"),
        (b"PUT /healthz HTTP/1.1\r\nHost: x\r\nExpect: HOSTILE\r\n\r\n", 405, "by no method"),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\n\r\n", 404, "beyond ASCII"),
        (b"GET http://xn--/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, "a host that is no name"),
        (b"POST http://a.xn--/api/v1/campaigns HTTP/1.1\r\nHost: x\r\n\r\n", 401, "as well"),
        (b"CONNECT xn--:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "to be connected to"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, "no path"),
        (b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "a path that is no text"),
        (b"GET /healthz?%ff=%00 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "nor is the query"),
    ],
)  # fmt: skip
def test_a_strange_request_is_answered_as_any(
    target: Target, message: bytes, status: int, reason: str
) -> None:
    answer = target.send(message)
    assert answer.status == status, reason
    assert answer.headers["X-Request-ID"]
    assert b"HOSTILE" not in answer.body


def test_a_body_that_was_not_asked_for_is_not_waited_for(target: Target) -> None:
    head = "POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n"
    with target.connect() as connection:
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in answer


def test_a_caller_of_http_1_0_is_not_told_to_continue(target: Target) -> None:
    head = f"POST /api/v1/campaigns HTTP/1.0\r\nAuthorization: Bearer {target.api_key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with target.connect() as connection:
        connection.sendall(head.encode() + b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.0 422 ")


def test_nothing_is_read_behind_a_body_that_did_not_arrive_in_time(target: Target) -> None:
    head = f"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.api_key}"
    head += "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
    with target.connect() as connection:
        connection.sendall(head.encode())
        first = connection.recv(65536)
        connection.sendall(b"}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        rest = connection.recv(65536)
    assert first.startswith(b"HTTP/1.1 408 ")
    assert b"HTTP/1.1" not in rest


def test_a_body_that_never_ends_is_refused_while_it_comes_and_kept_nowhere(target: Target) -> None:
    before = target.peak_memory()
    head = (
        f"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.api_key}\r\n"
    )
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = target.send(head.encode(), *[chunk] * 1600)
    assert answer.status == 413
    assert target.peak_memory() - before < 20_000_000
