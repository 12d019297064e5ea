"""What the README and the pages under docs/ show is what the service answers."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from service import topology
from tests.conftest import Client
from tests.consumers import Consumer
from tests.faults import matrix, mutations
from tests.faults.safety_lines import MUTATIONS
from tests.processes import ROOT
from tests.test_create import EXAMPLE

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
ANSWER, EVENT, PROBLEM = map(json.loads, BLOCKS)

# Different every time; all else must be the same, in the same order.
CHANGING = {"id", "source", "subject", "partitionkey", "time", "requestid", "request_id"} | {
    "created_at",
    "updated_at",
    "organization_id",
}


def steady(document: dict[str, Any]) -> str:
    """The document without what changes."""
    return json.dumps({k: "..." if k in CHANGING else v for k, v in document.items()}, indent=1)


async def test_the_answer_in_the_readme_is_real(client: Client) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE)
    assert steady(await response.json()) == steady(ANSWER)


async def test_the_event_in_the_readme_is_real(client: Client, consumer: Consumer) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    [event] = (await consumer.events(1))["campaign.import"]
    # Left out there, because it is the answer.
    event["data"]["campaign"] = {}
    assert steady(event) == steady(EVENT)


async def test_the_problem_in_the_readme_is_real(client: Client) -> None:
    wrong = EXAMPLE | {
        "agenda_template": "Hi {{ name|titlecase }}",
        "max_attempts": 0,
        "max_attempt": 3,
    }
    response = await client.post("/api/v1/campaigns", json=wrong)
    assert steady(await response.json()) == steady(PROBLEM)


def test_the_readme_names_every_event_and_every_queue() -> None:
    assert [
        name for name in (*topology.EVENT_TYPES, *topology.QUEUES) if f"`{name}`" not in README
    ] == []


def test_every_file_that_the_readme_names_is_there() -> None:
    proofs = {f"tests/{name}" for name in re.findall(r"`(test_\w+\.py)`", README)}
    folders = "service|config|dev|tests|docs|bench|examples"
    places = set(re.findall(rf"`((?:{folders})/[\w./]*)`", README))
    assert len(proofs) > 5
    assert [name for name in proofs | places if not (ROOT / name).exists()] == []


def test_the_map_names_every_file_of_the_service() -> None:
    files = {file.name for file in (ROOT / "service").glob("*.py")} - {"__init__.py"}
    assert {name for name in files if f"`{name}`" not in README} - {
        name for name in files if f"`service/{name}`" in README
    } == set()


def test_the_fault_matrix_is_what_was_observed() -> None:
    observed = matrix.rows()
    assert {row["scenario"] for row in observed} == matrix.SCENARIOS.keys()
    assert {row["outcome"] for row in observed} == {"passed"}
    assert matrix.in_readme(README) == matrix.summary(observed)
    assert (ROOT / "docs" / "faults.md").read_text() == matrix.page(observed, mutations.kept())


def test_every_scenario_is_in_the_fault_matrix(tmp_path: Path) -> None:
    file = tmp_path / "scenarios.json"
    collect = ["-m", "pytest", "--collect-only", "-q", "-n", "0", "-m", "", "tests/faults"]
    command = [sys.executable, *collect, "--observed", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    observed = [row["test"] for row in matrix.rows()]
    assert sorted(observed) == sorted(json.loads(file.read_text()))


def test_the_table_of_mutations_is_what_came_of_them() -> None:
    kept = mutations.kept()
    assert [row["line"] for row in kept] == [mutation.line for mutation in MUTATIONS]
    assert {row["verdict"] for row in kept} == {"fails"}


def test_what_became_of_a_mutation_is_one_row_of_the_table() -> None:
    row: mutations.Row = {"line": "a", "scenario": "b", "verdict": "fails", "why": "c\n | d"}
    assert matrix.page([], [row]).splitlines()[-1] == "| a | `b` | fails | c \\| d |"
