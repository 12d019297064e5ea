"""What the scenarios of tests/faults saw, as a table and as a file: no figure comes by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tabulate import tabulate

Observe = Callable[[int, str, str, str], None]

_rows: list[dict[str, Any]] = []
_tried: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--observed",
        metavar="FILE",
        help="write what the scenarios saw to this file; with --collect-only, who would",
    )


@pytest.fixture
def observed(request: pytest.FixtureRequest) -> Observe:
    """Note the number of a scenario, its fault, what held, and the figures seen."""
    test = request.node.nodeid

    def observe(scenario: int, fault: str, held: str, figures: str) -> None:
        row = {"test": test, "scenario": scenario, "fault": fault, "held": held, "figures": figures}
        # These come along with the report of the test, also from another process.
        request.node.user_properties.append(("observed", row))

    return observe


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell which tests would observe something, so that one that has not is missed."""
    if session.config.option.collectonly and session.config.option.observed:
        items = [item for item in session.items if isinstance(item, pytest.Function)]
        names = [item.nodeid for item in items if "observed" in item.fixturenames]
        Path(session.config.option.observed).write_text(json.dumps(names))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _tried.add(report.nodeid)
    if report.when == "call":
        _rows.extend(
            row | {"outcome": report.outcome}
            for name, row in report.user_properties
            if name == "observed" and isinstance(row, dict)
        )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not _rows or not (config.option.observed or config.option.verbose > 0):
        return
    rows = sorted(_rows, key=lambda row: (row["scenario"], row["fault"]))
    terminalreporter.section("observed")
    # By its own width: a terminal that is narrower would cut figures off.
    widths = [None, 40, 50, 60, None]
    shown = [{name: value for name, value in row.items() if name != "test"} for row in rows]
    terminalreporter.write_line(tabulate(shown, headers="keys", maxcolwidths=widths))
    if config.option.observed:
        _keep(Path(config.option.observed))


def _keep(file: Path) -> None:
    """Write what was seen in place of what the same tests saw before, and leave that of others."""
    before = json.loads(file.read_text()) if file.exists() else []
    rows = [row for row in before if row.get("test") not in _tried] + _rows
    rows.sort(key=lambda row: (row["scenario"], row["fault"]))
    file.write_text(json.dumps(rows, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
