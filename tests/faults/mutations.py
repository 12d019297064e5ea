"""Mutations: each safety line is taken out of a copy of the checkout, and a scenario must fail.

A scenario that passes without the line that it is about would prove nothing.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from tabulate import tabulate

from tests.faults.safety_lines import MUTATIONS, ROOT, Mutation, without

_KEPT = Path(__file__).with_name("mutated.json")

# What a copy needs none of, or makes anew.
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".state", "node_modules", "__pycache__", ".*_cache"
)

_SECONDS = 600

# How a test says what it misses.
_TOLD = ("Failed:", "AssertionError", "assert ")

# Seconds that a run which is given up has to stop its servers.
_PATIENCE = 30


class Row(TypedDict):
    """What became of the scenario when the line was taken out."""

    line: str
    scenario: str
    verdict: str
    why: str


def main() -> int:
    """Try all mutations, or those whose name has one of these words; tell how many survived."""
    chosen = [m for m in MUTATIONS if not sys.argv[1:] or any(w in m.line for w in sys.argv[1:])]
    rows = []
    for number, mutation in enumerate(chosen, start=1):
        print(f"{number} of {len(chosen)}: without {mutation.line}", flush=True)
        rows.append(_try(mutation))
    print(tabulate(rows, headers="keys", maxcolwidths=[24, 40, 10, 60]))
    _keep(rows)
    return sum(row["verdict"] != "fails" for row in rows)


def _keep(rows: Sequence[Row]) -> None:
    """Write what was shown in place of what the same mutations showed before."""
    before = kept() if _KEPT.exists() else []
    by_line = {row["line"]: row for row in (*before, *rows)}
    found = [by_line[mutation.line] for mutation in MUTATIONS if mutation.line in by_line]
    _KEPT.write_text(json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def kept() -> list[Row]:
    """What the last run of each mutation showed."""
    rows: list[Row] = json.loads(_KEPT.read_text())
    return rows


def _try(mutation: Mutation) -> Row:
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        (copy / mutation.file).write_text(without(mutation))
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "", "--tb=short"]
        command += [f"tests/faults/{mutation.scenario}"]
        status, output = run(command, copy, _SECONDS)
    verdict, why = judge(status, output)
    name = mutation.scenario.partition("::")[2]
    return {"line": mutation.line, "scenario": name, "verdict": verdict, "why": why}


def run(command: Sequence[str], folder: Path, seconds: float) -> tuple[int | None, str]:
    """The exit status and what was printed; no status: it did not end in time."""
    # A file, since a pipe has no end before all who were started there have theirs.
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            _end(process)
        output.seek(0)
        return status, output.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it stop what it has started, if it still can."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def judge(status: int | None, output: str) -> tuple[str, str]:
    """What became of the scenario, and why.

    Nothing but a test that failed counts: no error on the way to it, no test that is unknown, and
    no run without an end.
    """
    lines = output.splitlines() or [""]
    reasons = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    if status is None:
        return "hangs", f"no end within {_SECONDS} seconds"
    if status == 1 and " failed" in lines[-1] and " error" not in lines[-1]:
        # Ahead of it is what was cancelled when the time was over.
        told = [reason for reason in reasons if reason.startswith(_TOLD)]
        return "fails", textwrap.shorten((told or reasons or [""])[0], 120)
    return ("passes" if status == 0 else "broken"), "\n".join(lines[-3:])


if __name__ == "__main__":
    sys.exit(main())
