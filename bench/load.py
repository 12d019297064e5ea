"""Load from outside of Python: wrk, which posts one body again and again."""

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dev import packages
from dev.addresses import EXAMPLE
from dev.console import Failure

PATH = "/api/v1/campaigns"

_SCRIPT = Path(__file__).with_suffix(".lua")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of so much load; `errors` are broken connections and answers after 2 seconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    count: int
    errors: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Generator:
    """wrk, of this machine or of its distribution's packages."""

    program: Path
    libraries: list[Path]

    def post(
        self,
        url: str,
        key: str,
        *,
        connections: int,
        seconds: int,
        with_keys: bool = False,
        per_second: float | None = None,
    ) -> Load:
        """Post over so many connections: at once whenever one is free, or so many a second.

        Raises:
            Failure: there is no load, with what was said.
        """
        settings = {}
        if with_keys:
            settings["BENCH_KEYS"] = secrets.token_hex(8)
        if per_second is not None:
            settings["BENCH_RATE"] = str(per_second)
        command = [str(self.program), "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds}s", "--script", str(_SCRIPT)]
        done = subprocess.run(
            [*command, url + PATH, "--", str(EXAMPLE), key],
            env=os.environ | self._environment() | settings,
            capture_output=True,
            text=True,
        )
        if done.returncode or not done.stdout.endswith("}\n"):
            raise Failure(f"wrk failed: {done.stderr or done.stdout}")
        return Load(**json.loads(done.stdout.splitlines()[-1]))

    def _environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries))} if self.libraries else {}


def generator() -> Generator:
    """Find wrk, or fetch it.

    Raises:
        Failure: there is none.
    """
    if installed := shutil.which("wrk"):
        return Generator(Path(installed), [])
    root = packages.fetch(
        "wrk",
        ["wrk"],
        dependencies=("libluajit", "libssl"),
        size="4 MB",
        otherwise="install wrk, or run this on Debian or Ubuntu with a network",
    )
    return Generator(root / "usr/bin/wrk", [path.parent for path in root.glob("usr/lib/*/*.so.2")])
