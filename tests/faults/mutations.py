"""Mutations: each safety line is taken out of a copy of the checkout, and a scenario must fail.

A scenario that passes without the line that it is about would prove nothing.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).parents[2]

# What a copy needs none of, or makes anew.
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".state", "node_modules", "__pycache__", ".*_cache"
)

_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Mutation:
    """A line that is taken out, by replacing texts that are there exactly once."""

    line: str
    file: str
    changes: tuple[tuple[str, str], ...]
    scenario: str


MUTATIONS = [
    Mutation(
        "confirms",
        "service/broker.py",
        (
            ("publisher_confirms=True, on_return_raises=True", "publisher_confirms=False"),
            ("if not isinstance(confirmation, Basic.Ack):", "if False:"),
        ),
        "test_links.py::test_confirms_that_are_held_back_and_lost_cost_copies_and_no_event[2]",
    ),
    Mutation(
        "mandatory",
        "service/broker.py",
        (("mandatory=True", "mandatory=False"),),
        "test_topologies.py::test_events_that_no_binding_takes_are_held",
    ),
    Mutation(
        "delete after the confirm, not before",
        "service/relay.py",
        (
            ("acquire() as connection, connection.transaction():", "acquire() as connection:"),
            (
                "results = await asyncio.gather(",
                """await queries.delete_events(connection, batch)
            results = await asyncio.gather(""",
            ),
        ),
        "test_kills.py::test_a_replica_that_is_killed_at_a_point_loses_nothing"
        "[after the delete, before the commit]",
    ),
    Mutation(
        "only the oldest event of a campaign",
        "service/queries.sql",
        (("AND earlier.sequence < o.sequence", "AND false"),),
        "test_order.py::test_events_of_a_campaign_stay_in_order_whoever_writes_them"
        "_and_whatever_crashes[6]",
    ),
    Mutation(
        "look-up of the idempotency key",
        "service/queries.sql",
        (("WHERE $3::text IS NULL OR EXISTS (SELECT 1 FROM record)", "WHERE true"),),
        "test_database.py::test_a_create_that_is_cut_off_at_its_commit_is_made_once_by_those_who"
        "_repeat_it_at_once[5-after it, before its answer-cut_at_answer]",
    ),
    Mutation(
        "deadline of a publish",
        "service/broker.py",
        (("mandatory=True, timeout=self._timeout_seconds", "mandatory=True"),),
        "test_links.py::test_a_broker_that_stops_reading_is_given_up_and_others_publish",
    ),
    Mutation(
        "deadline of a transaction that is silent",
        "service/postgres.py",
        (('"idle_in_transaction_session_timeout": str(round(idle_seconds * 1000)),', ""),),
        "test_database.py::test_a_replica_whose_database_is_silent_fails_in_time_and_others_take"
        "_its_events[4]",
    ),
    Mutation(
        "deadline of a statement",
        "service/hosts.py",
        (("command_timeout=self._timeout_seconds,", ""),),
        "test_database.py::test_a_replica_whose_database_is_silent_fails_in_time_and_others_take"
        "_its_events[4]",
    ),
    Mutation(
        "another connection after an unknown outcome",
        "service/broker.py",
        (('self._doubt = f"the outcome of an event is unknown: {type(error).__name__}"', "pass"),),
        "test_links.py::test_a_broker_that_stops_reading_is_given_up_and_others_publish",
    ),
    Mutation(
        "the second way to each queue",
        "service/broker.py",
        (('"BCC": list(QUEUES)', ""),),
        "test_topologies.py::test_a_binding_that_is_removed_costs_no_event[False]",
    ),
    Mutation(
        "one event alone after a failure",
        "service/relay.py",
        (("self._window = 1\n", "\n"),),
        "test_poison.py::test_an_event_that_can_never_be_published_holds_up_its_own_campaign_only",
    ),
    Mutation(
        "parking",
        "service/settlement.py",
        (("await queries.park_event(connection, event, reason)", "pass"),),
        "test_poison.py::test_an_event_that_can_never_be_published_holds_up_its_own_campaign_only",
    ),
]


def main() -> int:
    """Try all mutations, or those whose name has one of these words; tell how many survived."""
    chosen = [m for m in MUTATIONS if not sys.argv[1:] or any(w in m.line for w in sys.argv[1:])]
    rows = []
    for number, mutation in enumerate(chosen, start=1):
        print(f"{number} of {len(chosen)}: without {mutation.line}", flush=True)
        verdict, reason = _try(mutation)
        rows.append((mutation.line, mutation.scenario.partition("::")[2], verdict, reason))
    print(tabulate(rows, ["taken out", "scenario", "", "why"], maxcolwidths=[24, 40, 10, 60]))
    return sum(row[2] != "fails" for row in rows)


def _try(mutation: Mutation) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        (copy / mutation.file).write_text(without(mutation))
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "", "--tb=short"]
        done = subprocess.run(
            [*command, f"tests/faults/{mutation.scenario}"],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    lines = done.stdout.splitlines()
    reasons = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    # Nothing but a test that failed counts: no error on the way to it, and no test that is unknown.
    failed = done.returncode == 1 and " failed" in lines[-1] and " error" not in lines[-1]
    if failed:
        return "fails", reasons[0] if reasons else ""
    return ("passes" if done.returncode == 0 else "broken"), "\n".join(lines[-3:])


def without(mutation: Mutation) -> str:
    """The file without the line.

    Raises:
        LookupError: it is not what this table takes it for.
    """
    text = (ROOT / mutation.file).read_text()
    for old, new in mutation.changes:
        if text.count(old) != 1:
            raise LookupError(f"{mutation.file} has not exactly one {old!r}")
        text = text.replace(old, new)
    return text


if __name__ == "__main__":
    sys.exit(main())
