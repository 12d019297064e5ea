"""The environment of peer A, whose packages nothing else needs, beside that of everything else."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from dev.console import Failure, say
from dev.environment import ROOT, VENV

_FOLDER = VENV.with_name(f"{VENV.name}-bench")
_LOCK_FILE = ROOT / "requirements" / "bench.txt"


def python() -> Path:
    """Its Python; the environment is made if it is not what the lock file says.

    Raises:
        Failure: it cannot be made.
    """
    stamp, wanted = _FOLDER / "made-from", hashlib.sha256(_LOCK_FILE.read_bytes()).hexdigest()
    found = _FOLDER / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"making the environment {_FOLDER}")
        _uv("venv", "--clear", "--python", sys.executable, str(_FOLDER))
        _uv("pip", "sync", "--require-hashes", "--python", str(found), str(_LOCK_FILE))
        stamp.write_text(wanted)
    return found


def _uv(*arguments: str) -> None:
    # The system's certificates, as in `dev.environment`.
    done = subprocess.run(
        [Path(sys.executable).parent / "uv", *arguments],
        env=os.environ | {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failure(f"uv {arguments[0]} failed: {done.stderr.strip()}")
