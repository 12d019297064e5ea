"""Programs of the distribution's packages, unpacked into the user's cache; nothing is installed."""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev.console import Failure, say

# What a package needs to run or to be built with, and nothing that it merely goes well with.
_DEPENDS = ["apt-cache", "depends", "--recurse"]
_DEPENDS += ["--no-recommends", "--no-suggests", "--no-enhances"]
_DEPENDS += ["--no-conflicts", "--no-breaks", "--no-replaces"]


def unpacked(name: str) -> Path:
    """Where packages fetched under this name are, if they were."""
    return _cache() / name


def fetch(
    name: str,
    packages: Sequence[str],
    *,
    size: str,
    otherwise: str,
    dependencies: tuple[str, ...] = (),
) -> Path:
    """Unpack packages, with those of their dependencies whose names begin so.

    Raises:
        Failure: they cannot be had; with what to do `otherwise`.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Failure(f"this machine has no {name}; {otherwise}")
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / name).exists():
            say(f"fetching {name} from the distribution's packages ({size}, nothing is installed)")
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                try:
                    _download(Path(scratch), packages, dependencies)
                    root = Path(scratch) / "root"
                    for package in sorted(Path(scratch).glob("*.deb")):
                        _do(["dpkg-deb", "-x", str(package), str(root)], Path(scratch))
                except subprocess.CalledProcessError as error:
                    step, said = " ".join(error.cmd[:2]), error.stderr.strip().splitlines()[-4:]
                    sentence = f"{name} cannot be fetched ({step} failed); {otherwise}"
                    raise Failure("\n".join([sentence, *said])) from error
                root.rename(cache / name)
            say(f"{name} fetched")
    return cache / name


def _cache() -> Path:
    """Where fetched packages are unpacked, for each release of the distribution apart."""
    system = platform.freedesktop_os_release()
    # The specification says to ignore a relative path.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".cache"
    return base / "campaign-service" / f"{system['ID']}-{system.get('VERSION_ID', 'unstable')}"


def _download(folder: Path, packages: Sequence[str], dependencies: tuple[str, ...]) -> None:
    """Let apt fetch and check the packages, with lists and settings of its own."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "apt.conf").write_text(
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::Cache "{folder}";\n'
        'APT::Sandbox::User "";\n'
        'Acquire::Languages "none";\n'
        'Acquire::Retries "2";\n'
    )
    _do(["apt-get", "update"], folder)
    wanted = set(packages)
    if dependencies:
        # Packages are at the beginning of a line; what only stands for several is in brackets.
        found = _do([*_DEPENDS, *packages], folder).splitlines()
        wanted |= {line for line in found if line.startswith(dependencies)}
    _do(["apt-get", "download", *sorted(wanted)], folder)


def _do(command: list[str], folder: Path) -> str:
    environment = os.environ | {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=True
    ).stdout
