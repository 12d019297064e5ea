"""Peer C's program, built from the distribution's packages without installing any."""

import os
import subprocess
from pathlib import Path

from dev import packages
from dev.console import Failure, say

_SOURCE = Path(__file__).parent / "peers" / "go"

_PACKAGES = [
    "golang-go",
    "golang-github-gofrs-uuid-dev",
    "golang-github-jackc-pgx-v4-dev",
    "golang-github-rabbitmq-amqp091-go-dev",
]


def build(folder: Path) -> Path:
    """Compile peer C into a folder.

    Raises:
        Failure: there is no Go, or it does not accept the program.
    """
    root = packages.fetch(
        "go",
        _PACKAGES,
        dependencies=("golang-",),
        size="100 MB",
        otherwise="peer C needs Debian or Ubuntu and a network",
    )
    go = (root / "usr/lib/go").resolve()
    program = folder / "peer-c"
    say("building peer C")
    done = subprocess.run(
        [go / "bin/go", "build", "-o", program, "."],
        cwd=_SOURCE,
        env={
            "PATH": os.environ["PATH"],
            "GOROOT": str(go),
            "GOPATH": str(root / "usr/share/gocode"),
            # The packages are where Go looked for them before there were modules.
            "GO111MODULE": "off",
            "GOCACHE": str(root / "cache"),
            "GOTOOLCHAIN": "local",
            # Without a C compiler.
            "CGO_ENABLED": "0",
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failure(f"peer C cannot be built: {done.stderr.strip()}")
    return program
