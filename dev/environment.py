"""First half of `./run`: makes the environment that the second half, `dev`, runs in.

Each version of Python has one of its own, `.venv/3.11` and so on, so that trying another version
takes nothing away from a stack that runs.

Runs in whatever Python the machine has, so it imports nothing but the standard library.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv" / "{}.{}".format(*sys.version_info)
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "made-from"
LOCK_FILE = ROOT / "requirements" / "dev.txt"

_STARTED = time.monotonic()


class Failure(Exception):
    """The environment cannot be made; the text says why, and what to do."""


def main() -> None:
    """Make the environment unless it is up to date, and go on in it."""
    try:
        with _lock():
            if not _is_up_to_date():
                _make()
    except KeyboardInterrupt:
        sys.exit(130)
    except PermissionError as error:
        sys.exit(f"run: {error.filename} cannot be written: work in a checkout of your own")
    except (Failure, OSError) as error:
        sys.exit(f"run: {error}")
    os.environ["RUN_STARTED"] = str(_STARTED)
    os.execv(PYTHON, [str(PYTHON), "-P", "-m", "dev", *sys.argv[1:]])


def _make() -> None:
    """Install what the lock file names, checked by hash, and the service itself."""
    _say(f"making the environment {VENV} with Python {sys.version.split()[0]}")
    if not _is_ours():
        _make_empty()
    uv = shutil.which("uv") or str(VENV / "bin" / "uv")
    _do([uv, "pip", "sync", "--require-hashes", "--python", str(PYTHON), str(LOCK_FILE)])
    _do(
        [uv, "pip", "install", "--python", str(PYTHON)]
        + ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    )
    STAMP.write_text(_stamp())
    _say("environment ready")


def _is_up_to_date() -> bool:
    return _is_ours() and STAMP.read_text() == _stamp()


def _is_ours() -> bool:
    """Whether it was finished once, its Python is still there, and the checkout did not move."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text().startswith(f"{ROOT}\n")


def _make_empty() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    if uv := shutil.which("uv"):
        _do([uv, "venv", "--python", sys.executable, str(VENV)])
        return
    try:
        _do([sys.executable, "-m", "venv", str(VENV)])
    except Failure as error:
        raise Failure(
            f"{sys.executable} cannot make virtual environments: install your distribution's "
            "package python3-venv, or uv, and run this again"
        ) from error
    # pip only has to get the locked uv, which installs the rest much faster.
    alone = VENV / "uv.txt"
    alone.write_text(_block_of_lock_file("uv=="))
    _do([str(PYTHON), "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", str(alone)])


def _block_of_lock_file(start: str) -> str:
    """One package of the lock file, with its hashes."""
    lines = LOCK_FILE.read_text().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if line.startswith(start))
    end = next((n for n in range(first + 1, len(lines)) if lines[n][0] != " "), len(lines))
    return "".join(lines[first:end])


def _do(command: list[str]) -> None:
    # Companies that inspect TLS put their own authority into the system's store, which pip is
    # usually told of and uv is not. The variable of older uv's has another name.
    certificates = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    done = subprocess.run(
        command, env=os.environ | certificates, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise Failure(f"this failed: {' '.join(command)}\n{last}\nIs the package index reachable?")


def _stamp() -> str:
    """What the environment depends on: the place, and the files that name packages."""
    files = LOCK_FILE.read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return f"{ROOT}\n{hashlib.sha256(files).hexdigest()}\n"


@contextmanager
def _lock() -> Iterator[None]:
    """Two runs that start together must not both make the environment."""
    with (ROOT / ".venv.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another run that makes the environment")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    """As `dev.console` does, which is not importable yet."""
    print(f"[{time.monotonic() - _STARTED:6.2f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
