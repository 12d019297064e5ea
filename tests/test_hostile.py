"""Whatever is sent: one answer, the right one, with nothing stored and nothing broken."""

import json

import pytest

from service import postgres
from tests.hostile import CASES, JSON, SHORTEST, Case
from tests.targets import Target


async def stored(target: Target) -> list[int]:
    async with postgres.connect(target.settings) as connection:
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
        START + b"X: " + b"HOSTILE" * 10_000 + b"\r\n\r\n",
        START + b"Content-Length: HOSTILE\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nHOSTILE\r\n",
    ],
    ids=["no HTTP", "TLS", "no header", "a long header", "no length", "no chunk"],
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
