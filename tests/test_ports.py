"""Ports of the private servers."""

import socket
from pathlib import Path

import pytest

from dev.processes import steady_port


def test_a_port_stays_the_same(tmp_path: Path) -> None:
    assert steady_port(tmp_path / "port") == steady_port(tmp_path / "port")


def test_a_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    taken = steady_port(tmp_path / "port")
    with socket.create_server(("127.0.0.1", taken)):
        assert steady_port(tmp_path / "port") != taken
    assert steady_port(tmp_path / "port") != taken


def test_a_port_is_none_that_linux_gives_to_outgoing_connections(tmp_path: Path) -> None:
    assert 1024 < steady_port(tmp_path / "port") < 32_768


@pytest.mark.parametrize("text", ["", "12", "99999", "-1", "port"])
def test_a_note_that_was_cut_off_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "port").write_text(text)
    assert steady_port(tmp_path / "port") > 1024
