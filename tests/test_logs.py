"""Logs: one event a line, with all that is known, and no noise."""

import contextvars
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from service import access, logs
from service.settings import Settings
from tests.conftest import Client
from tests.consumers import eventually
from tests.processes import ROOT
from tests.test_create import EXAMPLE


@pytest.mark.usefixtures("restored_logging")
def test_a_line_in_json_has_all_that_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json", log_level="warning"))
    contextvars.copy_context().run(_say_something, structlog.get_logger("test"))
    line = json.loads(capfd.readouterr().err)
    assert line["exception"].endswith("ZeroDivisionError: the inside")
    assert line["timestamp"].endswith("Z")
    assert (line["event"], line["level"], line["logger"]) == ("failed", "error", "test")
    assert line["request_id"] == "order-17"


def _say_something(logger: Any) -> None:
    logs.bind(request_id="order-17")
    logger.info("too small")
    logging.getLogger("aiormq").warning("said by us already")
    logger.error("failed", exc_info=ZeroDivisionError("the inside"))


@pytest.mark.usefixtures("restored_logging")
def test_text_is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="text"))
    structlog.get_logger("test").info("starting", settings=1)
    assert "starting" in (text := capfd.readouterr().err)
    assert not text.startswith("{")


SPEAKER = """
import structlog
from service import logs
from service.settings import Settings

logs.configure(Settings(log_format="json"))
for _ in range(3):
    structlog.get_logger("test").error("nobody hears this")
print("goes on")
"""


def test_a_log_that_takes_no_line_stops_nobody() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", SPEAKER]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.stdout == "goes on\n"


@pytest.mark.usefixtures("restored_logging")
def test_what_libraries_repeat_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"))
    logging.getLogger("aiormq.connection").warning("said by us already")
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("restored_logging")
def test_what_is_below_the_level_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json", log_level="warning"))
    structlog.get_logger("test").info("too small")
    assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == ""


async def test_a_request_is_logged_once_with_who_sent_it(client: Client, organization: int) -> None:
    with structlog.testing.capture_logs(processors=[logs.add_bound]) as lines:
        headers = {"X-Request-ID": "order-17"}
        await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/campaigns", 201)
    assert (line["request_id"], line["organization_id"]) == ("order-17", organization)
    assert line["log_level"] == "info"


async def test_a_request_has_nothing_of_the_one_before(client: Client) -> None:
    await (await client.post("/api/v1/campaigns", json=EXAMPLE)).read()
    with structlog.testing.capture_logs(processors=[logs.add_bound]) as lines:
        await client.get("/healthz")
    [line] = [line for line in lines if line["event"] == "request"]
    assert "organization_id" not in line
    assert line["log_level"] == "debug"


async def test_nobody_waits_for_an_answer_until_its_line_is_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived: list[bytes] = []
    with socket.create_connection((client.host, client.port)) as caller:
        caller.setblocking(False)
        see = SimpleNamespace(debug=lambda *_, **__: arrived.append(caller.recv(4096)))
        monkeypatch.setattr(access, "logger", see)
        caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: bool(arrived), 10, "the line")
    assert arrived[0].startswith(b"HTTP/1.1 200 OK\r\n")
