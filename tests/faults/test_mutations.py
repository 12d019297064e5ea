"""The table of mutations is about lines and scenarios that there are."""

import sys
from pathlib import Path

import pytest

from tests.faults.mutations import judge, run
from tests.faults.safety_lines import MUTATIONS, ROOT, Mutation, without


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.line)
def test_each_line_that_is_taken_out_is_there(mutation: Mutation) -> None:
    assert without(mutation) != (ROOT / mutation.file).read_text()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.line)
def test_each_scenario_is_there(mutation: Mutation) -> None:
    file, _, name = mutation.scenario.partition("::")
    text = (ROOT / "tests" / "faults" / file).read_text()
    assert f"def {name.partition('[')[0]}(" in text


@pytest.mark.parametrize(
    ("status", "last", "verdict"),
    [
        (1, "1 failed in 9.00s", "fails"),
        (0, "1 passed in 9.00s", "passes"),
        # A server that did not start, or something that broke beside the test.
        (1, "1 failed, 1 error in 9.00s", "broken"),
        (4, "ERROR: not found", "broken"),
        (None, "", "hangs"),
    ],
)
def test_nothing_but_a_test_that_failed_counts(status: int | None, last: str, verdict: str) -> None:
    assert judge(status, f"E   lost\n{last}")[0] == verdict


def test_a_run_that_has_no_end_is_given_up(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert run(sleeper, tmp_path, 1) == (None, "")
