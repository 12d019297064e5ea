"""The fault matrix: what the scenarios saw, as README.md and docs/faults.md show it.

`python -m tests.faults.matrix` writes both from observed.json and mutated.json, after
`./run test faults` and `./run test mutations`.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from tests.faults import mutations
from tests.processes import ROOT

_OBSERVED = Path(__file__).with_name("observed.json")
_README, _PAGE = ROOT / "README.md", ROOT / "docs" / "faults.md"

SCENARIOS = {
    1: "`kill -9` of a replica at every point of a create and of a batch",
    2: "confirms held back, then the link cut",
    3: "a broker that stops reading, or falls silent while a replica connects",
    4: "a memory alarm",
    5: "a broker that hangs",
    6: "`kill -9` of the broker before a confirm arrives",
    7: "bindings removed while events leave",
    8: "a start without queues, without exchange, with one of another type, with a wrong password",
    9: "exchange deleted or replaced, channels or connections closed or refused, password changed",
    10: "a queue that is full, then drained",
    11: "the database's link cut at the commit of a create that six repeat at once",
    12: "the database's link cut while the relay forgets what was confirmed",
    13: "a standby promoted, the old primary back as a standby",
    14: "a database that is silent for one replica, or has no connection left",
    15: "writers committing out of turn, 10 % rolled back, four relays crashing",
    16: "a snapshot of the database held open",
    17: "a long backlog, while creates go on",
    18: "an event that can never be published",
    19: "SIGTERM during a blocked publish, and a rolling restart",
    20: "an event loop that stalls, a clock that is moved",
}

_COUNTED = ("creates", "changes", "retried", "duplicates")
_BEGIN, _END = "<!-- faults -->\n", "<!-- end of faults -->"


class Row(TypedDict):
    """What one test observed."""

    test: str
    scenario: int
    fault: str
    held: str
    figures: str
    outcome: str


def rows() -> list[Row]:
    found: list[Row] = json.loads(_OBSERVED.read_text())
    return found


def summary(observed: list[Row]) -> str:
    """One line a scenario, with sums over its tests."""
    lines = ["| | Broken, under load | Tests | " + " | ".join(_COUNTED) + " |"]
    lines.append("|--:|---|" + "--:|" * (len(_COUNTED) + 1))
    for number, title in SCENARIOS.items():
        of_it = [row for row in observed if row["scenario"] == number]
        sums = [f"{_sum(of_it, word):,}" for word in _COUNTED]
        lines.append(f"| {number} | {title} | {len(of_it)} | {' | '.join(sums)} |")
    return "\n".join(lines) + "\n"


def _sum(observed: Iterable[Row], word: str) -> int:
    found = (re.search(rf"([\d,]+) {word}", row["figures"]) for row in observed)
    return sum(int(match[1].replace(",", "")) for match in found if match)


def page(observed: list[Row], mutated: list[mutations.Row]) -> str:
    """Every test, with all that it saw, and what became of those whose safety was taken out."""
    lines = [
        "# Faults that were tried\n",
        "Written by `python -m tests.faults.matrix` from what `./run test faults` saw. Each has",
        "a load of creates, changes and deletions running, and a ledger of every answer and every",
        "message of all three queues, which is held against the database afterwards: nothing lost,",
        "nothing twice, in order, byte-identical, the outbox empty in time without a restart.\n",
        "| | Fault | What held | What was seen |",
        "|--:|---|---|---|",
    ]
    for row in observed:
        assert row["outcome"] == "passed"
        lines.append(f"| {row['scenario']} | {row['fault']} | {row['held']} | {row['figures']} |")
    lines += [
        "\n# Safety that was taken out\n",
        "What `./run test mutations` saw: each line that these faults are survived by is taken",
        "out of a copy, and a scenario that holds with it must fail without it.\n",
        "| Taken out | Scenario | | Why |",
        "|---|---|---|---|",
    ]
    for taken in mutated:
        cells = (taken["line"], f"`{taken['scenario']}`", taken["verdict"], taken["why"])
        lines.append(f"| {' | '.join(map(_in_cell, cells))} |")
    return "\n".join(lines) + "\n"


def _in_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def in_readme(text: str) -> str:
    """The part of the README that is written here."""
    return text.partition(_BEGIN)[2].partition(_END)[0]


def main() -> None:
    """Write both."""
    readme, observed = _README.read_text(), rows()
    begin, end = readme.partition(_BEGIN), readme.partition(_END)
    _README.write_text(begin[0] + _BEGIN + summary(observed) + _END + end[2])
    _PAGE.write_text(page(observed, mutations.kept()))


if __name__ == "__main__":
    main()
